"""Workers that die over and over, as spot instances, deployments and memory limits have it."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import threading
from collections.abc import Callable, Iterator


@contextlib.contextmanager
def dying(
    worker_pid: Callable[[], int], *signals: signal.Signals, every_seconds: tuple[float, float], seed: int
) -> Iterator[list[int]]:
    """Send the living worker one of these signals again and again; who was sent one, in order."""
    killed: list[int] = []
    done = threading.Event()
    dice = random.Random(seed)

    def kill() -> None:
        while not done.wait(dice.uniform(*every_seconds)):
            pid = worker_pid()
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, dice.choice(signals))
                killed.append(pid)

    thread = threading.Thread(target=kill)
    thread.start()
    try:
        yield killed
    finally:
        done.set()
        thread.join()
