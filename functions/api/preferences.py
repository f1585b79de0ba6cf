"""What a caller asks for in headers and queries, beside what it sends (RFC 7240)."""

from __future__ import annotations

import re
from collections.abc import Mapping

from functions.api.http import invalid

DEFAULT_WAIT_SECONDS = 20
MOST_WAIT_SECONDS = 25

_WAIT = re.compile(r'wait\s*=\s*(?:"([0-9]{1,9})"|([0-9]{1,9}))', re.IGNORECASE)
_KEY = re.compile(r"[ -~]{1,128}")


def preferred_wait(headers: Mapping[str, str]) -> int | None:
    """Seconds of ``Prefer: wait=N``, at most what is possible; ``None`` where it is not said. What makes no sense as a
    preference is ignored, as RFC 7240 wants it."""
    for preference in headers.get("prefer", "").split(","):
        if found := _WAIT.fullmatch(preference.split(";")[0].strip()):
            return min(int(found[1] or found[2]), MOST_WAIT_SECONDS)
    return None


def idempotency_key(headers: Mapping[str, str]) -> str | None:
    """Raises InvalidRequest where there is one that is none."""
    key = headers.get("idempotency-key")
    if key is not None and not _KEY.fullmatch(key):
        raise invalid("Idempotency-Key is 1 to 128 printable characters.", "header Idempotency-Key", "not a key")
    return key


def number(query: Mapping[str, str], name: str, *, least: int, most: int, default: int) -> int:
    """A whole number from the query.

    Raises:
        InvalidRequest: something else, or one outside the bounds.
    """
    text = query.get(name)
    if text is None:
        return default
    if not re.fullmatch(r"[0-9]{1,15}", text) or not least <= int(text) <= most:
        raise invalid(f"{name} is a whole number from {least} to {most}.", f"query {name}", "out of range")
    return int(text)
