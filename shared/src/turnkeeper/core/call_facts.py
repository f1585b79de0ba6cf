"""What a record of the ledger says of its call, as traces tell it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from turnkeeper.core import span_names as names
from turnkeeper.core.spans import Attribute, nanoseconds
from turnkeeper.core.usage import Usage

#: A record of the ledger, as it is stored.
Record = Mapping[str, Any]


def usage(call: Record) -> Usage:
    return Usage.of(dict(call.get("usage") or {}))


def answered(call: Record) -> bool:
    """The attempt brought something: only then what it used is part of what its session did."""
    return call["state"] != "pending" and "error" not in call


def spent(call: Record) -> int:
    return int(call.get("spent_nanousd") or 0)


def tokens(usage: Usage) -> dict[str, Attribute | None]:
    return {
        names.INPUT_TOKENS: usage.read_tokens,
        names.CACHE_READ: usage.cache_read_input_tokens,
        names.CACHE_CREATION: usage.cache_creation_input_tokens,
        names.OUTPUT_TOKENS: usage.output_tokens,
    }


def lost_tokens(usage: Usage) -> dict[str, Attribute | None]:
    return {names.LOST_INPUT: usage.read_tokens or None, names.LOST_OUTPUT: usage.output_tokens or None}


def asked_ns(call: Record) -> int:
    return nanoseconds(call["at"]) - int(call.get("waited_ms") or 0) * 1_000_000


def error_of(call: Record) -> str | None:
    """What kind of failure an attempt was; the provider's own words may quote what it was sent."""
    if answered(call):
        return None
    return str(int(call["status_code"])) if call.get("status_code") else "no_answer"
