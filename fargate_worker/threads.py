"""How the worker's parts run beside each other: threads in production, whatever takes their place in tests."""

from __future__ import annotations

import threading
from collections.abc import Callable

from turnkeeper.ports import Clock

#: Runs something beside its caller, under a name. Raises RuntimeError where it cannot be begun.
Spawn = Callable[[str, Callable[[], None]], object]


def in_thread(name: str, body: Callable[[], None]) -> None:
    """Not waited for when the process ends: what hangs must not keep it."""
    threading.Thread(target=body, name=name, daemon=True).start()


def repeated(
    step: Callable[[], object], *, seconds: float, clock: Clock, until: Callable[[], bool]
) -> Callable[[], None]:
    """A body that does the step again and again, ``seconds`` apart."""

    def body() -> None:
        while not until():
            clock.sleep(seconds)
            step()

    return body
