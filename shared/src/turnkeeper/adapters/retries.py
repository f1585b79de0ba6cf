"""How long a store is asked again, and how the pauses in between grow."""

from __future__ import annotations

from turnkeeper.ports import Clock, Ids

_FIRST_PAUSE_SECONDS = 0.025
_LONGEST_PAUSE_SECONDS = 1.0


class Pauses:
    """Growing pauses with full jitter, for ``seconds`` in all."""

    def __init__(self, clock: Clock, ids: Ids, seconds: float) -> None:
        self._clock = clock
        self._ids = ids
        self._deadline = clock.monotonic() + seconds
        self._longest = _FIRST_PAUSE_SECONDS

    def pause(self, failed: Exception, cause: Exception | None = None) -> None:
        """Sleep once; raises ``failed`` where time is up before the pause would be over."""
        pause = self._ids.jitter() * self._longest
        if self._clock.monotonic() + pause >= self._deadline:
            raise failed from cause
        self._longest = min(2 * self._longest, _LONGEST_PAUSE_SECONDS)
        self._clock.sleep(pause)
