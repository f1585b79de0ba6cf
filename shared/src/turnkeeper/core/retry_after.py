"""When whoever refused wants to be asked again (RFC 9110, 10.2.3)."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime


def seconds_asked(header: str | None, now: datetime) -> float | None:
    """A ``Retry-After``, in seconds or as an HTTP date, as seconds from now; ``None`` where it cannot be read."""
    if header is None:
        return None
    if (seconds := number_of(header)) is not None:
        return seconds
    try:
        at = parsedate_to_datetime(header)
    except (ValueError, OverflowError):
        return None
    if at.tzinfo is None:
        at = at.replace(tzinfo=UTC)
    return max(0.0, (at - now).total_seconds())


def number_of(text: str | None) -> float | None:
    """A number, none below 0; ``None`` where it is none that is finite."""
    try:
        value = float(text) if text is not None else math.nan
    except ValueError:
        return None
    return max(0.0, value) if math.isfinite(value) else None
