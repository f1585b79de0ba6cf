"""Texts, amounts and times for a terminal. What comes from models and tools may hold anything."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any

#: Everything that a terminal acts upon, save line breaks and tabs.
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")


def plain(text: str) -> str:
    """The text without what would move the cursor, set colours or turn the direction."""
    return _CONTROL.sub("\ufffd", text.replace("\r\n", "\n"))


def short(text: str, width: int = 100) -> str:
    """The text on one line, cut at ``width``."""
    line = " ".join(plain(text).split())
    return line if len(line) <= width else line[: width - 1] + "…"


def usd(amount: str | None) -> str:
    """An exact amount as people read it: cents, or as many places as a small amount needs."""
    if amount is None:
        return "-"
    if amount == "unlimited":
        return amount
    value = Decimal(amount)
    if abs(value) >= 1 or value == round(value, 2):
        return f"${value:,.2f}"
    return f"${value:.4f}" if abs(value) >= Decimal("0.0001") else f"${value:.6f}"


def seconds(millis: int | None) -> str:
    if millis is None:
        return "-"
    return f"{millis} ms" if millis < 1_000 else f"{millis / 1000:.1f} s"


def clock(at: str) -> str:
    """The time of day, here, of an ISO 8601 moment."""
    try:
        return datetime.fromisoformat(at).astimezone().strftime("%H:%M:%S")
    except ValueError:
        return at


def moment(at: str | None) -> str:
    if not at:
        return "-"
    try:
        return datetime.fromisoformat(at).astimezone().strftime("%Y-%m-%d %H:%M")
    except ValueError:
        return at


def recent(at: str | None) -> str:
    """The time of a moment of today, else its date."""
    text = moment(at)
    today = datetime.now().astimezone().strftime("%Y-%m-%d")
    return text.removeprefix(f"{today} ")


def age(seconds: int) -> str:
    """A span of time in the largest unit that it has at least two of, else in seconds."""
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds // size} {unit}"
    return f"{seconds} s"


def arguments(values: Any, width: int = 90) -> str:
    """The arguments of a tool call, as in a call."""
    import json

    if not isinstance(values, Mapping):
        return short(json.dumps(values, ensure_ascii=False), width)
    parts = (f"{name}={json.dumps(value, ensure_ascii=False)}" for name, value in values.items())
    return short(", ".join(parts), width)
