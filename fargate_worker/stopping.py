"""From the word to stop to the end of the process."""

from __future__ import annotations

import math

from turnkeeper.ports import Clock


class Stopping:
    """Knows whether the process was told to stop, and what time is left since then."""

    def __init__(self, clock: Clock, stop_seconds: float) -> None:
        """``stop_seconds``: from the signal until somebody kills the process."""
        self._clock = clock
        self._stop_seconds = stop_seconds
        self._ends_at = math.inf

    def begin(self, seconds: float | None = None) -> None:
        """Only takes note, so that a signal's handler may call it at any moment, and again. ``seconds`` is for one who
        asks for nothing but that the process ends some day; a later call may leave less time, never more."""
        seconds = self._stop_seconds if seconds is None else seconds
        self._ends_at = min(self._ends_at, self._clock.monotonic() + seconds)

    @property
    def draining(self) -> bool:
        """Nothing is begun any more, and what runs goes to its next safe point."""
        return self._ends_at < math.inf

    @property
    def expired(self) -> bool:
        """What runs is not waited for any more: the time that is left is for writing down how far it came."""
        return self._seconds_left() < min(10.0, 0.3 * self._stop_seconds)

    def seconds_to_go(self) -> float:
        """Until the process ends, whatever still hangs; without end while it was not told to stop."""
        return self._seconds_left() - min(2.0, 0.1 * self._stop_seconds)

    def _seconds_left(self) -> float:
        return self._ends_at - self._clock.monotonic()
