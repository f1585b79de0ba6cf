"""Workers that die over and over, as spot instances, deployments and memory limits have it."""

from __future__ import annotations

import contextlib
import os
import random
import signal
from collections.abc import Callable, Iterator

from tests.support.meanwhile import meanwhile


@contextlib.contextmanager
def dying(
    worker_pid: Callable[[], int], *signals: signal.Signals, every_seconds: tuple[float, float], seed: int
) -> Iterator[list[int]]:
    """Send the living worker one of these signals again and again; who was sent one, in order."""
    killed: list[int] = []
    dice = random.Random(seed)

    def kill() -> None:
        pid = worker_pid()
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, dice.choice(signals))
            killed.append(pid)

    with meanwhile(kill, lambda: dice.uniform(*every_seconds)):
        yield killed
