"""Run one seed and check what must hold; on failure the seed and its story are told."""

from __future__ import annotations

from random import Random

from tests.simulation import invariants
from tests.simulation.scheduler import Faults
from tests.simulation.world import Simulation

#: What a seed's faults are like: none, single ones that come rarely, storms.
WEATHER = (
    Faults(crash=0, stall=0, lost_answer=0, store_busy=0),
    Faults(crash=0.004, stall=0, lost_answer=0, store_busy=0),
    Faults(crash=0, stall=0.01, lost_answer=0, store_busy=0),
    Faults(crash=0, stall=0, lost_answer=0.02, store_busy=0.02),
    Faults(),
    Faults(crash=0.03, stall=0.03, lost_answer=0.02, store_busy=0.02),
)


def simulate(seed: int) -> Simulation:
    """Raises AssertionError, which names the seed."""
    simulation = Simulation(seed, WEATHER[seed % len(WEATHER)])
    try:
        simulation.run(users=Random(seed).randint(1, 4))
        invariants.check(simulation)
    except Exception as error:
        story = "\n".join(simulation.scheduler.history[-60:])
        raise AssertionError(f"seed {seed}: {type(error).__name__}: {error}\n{story}") from error
    finally:
        simulation.scheduler.kill_all()
    return simulation
