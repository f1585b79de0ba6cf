"""Wakes those who wait for something to be written: an optimization. Whoever waits looks anyway when time is up."""

from __future__ import annotations

import threading


class Bell:
    """Rings within one process."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._rung = 0

    @property
    def rung(self) -> int:
        """How often it has rung so far. Ask before you look at what you wait for, and then wait with it."""
        return self._rung

    def ring(self) -> None:
        with self._changed:
            self._rung += 1
            self._changed.notify_all()

    def wait(self, rung: int, seconds: float) -> bool:
        """Until it has rung more often than that, at most so long; whether it has."""
        with self._changed:
            return self._changed.wait_for(lambda: self._rung > rung, seconds)
