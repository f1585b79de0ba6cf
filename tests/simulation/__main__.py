"""`python -m tests.simulation SEED`: replay one seed and tell everything that happened."""

from __future__ import annotations

import sys

from tests.simulation.run import simulate

if __name__ == "__main__":
    for line in simulate(int(sys.argv[1])).scheduler.history:
        print(line)  # noqa: T201
