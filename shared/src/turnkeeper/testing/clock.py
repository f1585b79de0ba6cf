"""Time and chance that a test holds in its hand."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta
from random import Random

from turnkeeper.adapters.system import session_id_of

#: A Monday, at the start of no day and no month.
DEFAULT_START = datetime(2026, 3, 2, 9, 30, tzinfo=UTC)


class ManualClock:
    """A clock that stands still until it is told, or until someone sleeps: a sleep returns at once and takes its time
    with it. Safe to share between threads."""

    def __init__(self, start: datetime = DEFAULT_START) -> None:
        self._lock = threading.Lock()
        self._start = start
        self._passed = timedelta()

    def now(self) -> datetime:
        with self._lock:
            return self._start + self._passed

    def monotonic(self) -> float:
        with self._lock:
            return self._passed.total_seconds()

    def sleep(self, seconds: float) -> None:
        self.advance(seconds)

    def advance(self, seconds: float = 0, *, minutes: float = 0, hours: float = 0, days: float = 0) -> None:
        by = timedelta(days=days, hours=hours, minutes=minutes, seconds=seconds)
        if by < timedelta():
            raise ValueError("time does not go back")
        with self._lock:
            self._passed += by


class SeededIds:
    """The same ids in every run with the same seed. Safe to share between threads."""

    def __init__(self, seed: int = 0) -> None:
        self._lock = threading.Lock()
        self._random = Random(seed)  # noqa: S311 - repeatable on purpose
        self._made = 0

    def session_id(self) -> str:
        with self._lock:
            self._made += 1
            return session_id_of(self._made, self._random.getrandbits(80))

    def token(self) -> str:
        with self._lock:
            return f"{self._random.getrandbits(128):032x}"

    def jitter(self) -> float:
        with self._lock:
            return self._random.random()
