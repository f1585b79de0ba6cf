"""Something that happens again and again while something else does."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator


@contextlib.contextmanager
def meanwhile(act: Callable[[], None], pause_seconds: Callable[[], float]) -> Iterator[None]:
    """On a thread: a pause, then the act, over and over; the last one has ended when this has."""
    done = threading.Event()

    def run() -> None:
        while not done.wait(pause_seconds()):
            act()

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
