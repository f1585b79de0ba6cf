"""Run one seed and check what must hold; on failure the seed and its story are told."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from random import Random

from tests.simulation import invariants
from tests.simulation.world import Simulation
from tests.support.scheduler import CALM, Faults

#: What a seed's faults are like: none, single ones that come rarely, storms.
WEATHER = (
    CALM,
    Faults(crash=0.004),
    Faults(stall=0.01),
    Faults(lost_answer=0.02, refused=0.02),
    Faults(crash=0.01, stall=0.01, lost_answer=0.005, refused=0.005),
    Faults(crash=0.03, stall=0.03, lost_answer=0.02, refused=0.02),
)


def simulate(seed: int) -> Simulation:
    """Raises AssertionError, which names the seed."""
    simulation = Simulation(seed, WEATHER[seed % len(WEATHER)])
    try:
        with errors_are_violations(simulation):
            simulation.run(users=Random(seed).choice([1, 2, 2, 3, 4]))
        invariants.check(simulation)
    except Exception as error:
        story = "\n".join(simulation.scheduler.history[-60:])
        raise AssertionError(f"seed {seed}: {type(error).__name__}: {error}\n{story}") from error
    finally:
        simulation.scheduler.kill_all()
    return simulation


@contextmanager
def errors_are_violations(simulation: Simulation) -> Iterator[None]:
    """What the kit logs as an error is a defect: it survives those, so that nothing else may show them."""

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            simulation.violated(f"{record.name}: {self.format(record)}")

    handler = Handler(logging.ERROR)
    loggers = [logging.getLogger(name) for name in ("turnkeeper", "fargate_worker")]
    for logger in loggers:
        logger.addHandler(handler)
    try:
        yield
    finally:
        for logger in loggers:
            logger.removeHandler(handler)
