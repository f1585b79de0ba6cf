"""Tokens of the gateway as commands read and tell them."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from turnkeeper.core.caps import format_cap
from turnkeeper.core.ledger import iso
from turnkeeper.core.money import format_usd
from turnkeeper.ports import Item
from turnkeeper.runtime.store.gateway_tokens import ID_PREFIX as TOKEN_ID
from turnkeeper.runtime.store.gateway_tokens import GatewayToken

Document = dict[str, Any]

__all__ = ["TOKEN_ID", "call_record", "parse_valid", "token_document"]


def token_document(token: GatewayToken, cap: int | None, now: datetime) -> Document:
    """A token as commands tell it; never its secret."""
    expired = token.expires_at is not None and token.expires_at <= iso(now)
    return {
        "id": token.id,
        "tenant_id": token.tenant_id,
        "user_id": token.user_id,
        "label": token.label,
        "status": "revoked" if token.revoked else "expired" if expired else "valid",
        "created_at": token.created_at,
        "created_by": token.created_by,
        "expires_at": token.expires_at,
        "task_usd": format_cap(cap),
        "spent_usd": format_usd(token.spent.spent_nanousd),
        "reserved_usd": format_usd(token.spent.reserved_nanousd),
        "in_doubt_usd": format_usd(token.spent.in_doubt_nanousd),
        "calls": token.spent.calls,
        "usage": token.spent.usage.model_dump(),
    }


_CALL_FACTS = (
    *("call", "model", "state", "usage", "request_id", "body_sha256", "label", "stop_reason", "error", "status_code"),
    *("hint_session", "hint_agent", "hint_user", "answered_by"),
)


def call_record(seq: int, token: GatewayToken, call: Item) -> Document:
    """A model call of a token as an audit record tells what was done."""
    return {
        "tenant_id": token.tenant_id,
        "session_id": token.id,
        "user_id": token.user_id,
        "seq": seq,
        "at": call["at"],
        "kind": "model_call",
        "outcome": call["state"],
        "detail": {
            "cost_usd": format_usd(int(call.get("spent_nanousd", 0))),
            **{name: call[name] for name in _CALL_FACTS if call.get(name) is not None},
        },
    }


_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


def parse_valid(text: str) -> timedelta | None:
    """``8h`` and the like; ``None`` for ``never``.

    Raises:
        ValueError: it is no time from now on.
    """
    if text == "never":
        return None
    number, unit = text[:-1], text[-1:]
    if unit not in _UNITS or not number.isdecimal() or not 0 < int(number) <= 100_000:
        raise ValueError(f"--expires is a time such as 30m, 8h or 7d, or never, not {text!r}")
    return timedelta(**{_UNITS[unit]: int(number)})
