"""The engine under every kind of death, by seed. `python -m tests.simulation SEED` replays one and tells its story."""

from __future__ import annotations

import os

import pytest

from tests.simulation.run import simulate

#: The nightly form sets 10000.
SEEDS = int(os.environ.get("TURNKEEPER_SIMULATION_SEEDS", "500"))
BATCH = 25
#: From here on they run where `long` tests do.
FIRST = 150
BATCHES = [
    pytest.param(first, marks=pytest.mark.long) if FIRST <= first < 500 else first for first in range(0, SEEDS, BATCH)
]


@pytest.mark.parametrize("first", BATCHES)
def test_every_invariant_holds(first: int) -> None:
    for seed in range(first, min(first + BATCH, SEEDS)):
        simulate(seed)


def test_the_same_seed_gives_the_same_run() -> None:
    """Or no failure could be replayed."""
    for seed in range(6):
        assert simulate(seed).scheduler.history == simulate(seed).scheduler.history
