"""The machine's clock and its randomness."""

from __future__ import annotations

import secrets
import time
from datetime import UTC, datetime

_CROCKFORD = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_RANDOM = secrets.SystemRandom()


class SystemClock:
    def now(self) -> datetime:
        return datetime.now(UTC)

    def monotonic(self) -> float:
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)


class SystemIds:
    def session_id(self) -> str:
        return session_id_of(time.time_ns() // 1_000_000, secrets.randbits(80))

    def token(self) -> str:
        return secrets.token_urlsafe(24)

    def jitter(self) -> float:
        return _RANDOM.random()


def session_id_of(millis: int, chance: int) -> str:
    """48 bits of time and 80 of chance in Crockford's base 32: sorts by the millisecond, and cannot be guessed."""
    number = (millis & (1 << 48) - 1) << 80 | (chance & (1 << 80) - 1)
    return "ses_" + "".join(_CROCKFORD[number >> shift & 31] for shift in range(125, -1, -5))
