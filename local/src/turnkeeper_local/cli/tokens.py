"""Tokens of the gateway as commands read and tell them."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

from turnkeeper.bootstrap import Kit
from turnkeeper.core.caps import format_cap
from turnkeeper.core.errors import InvalidRequest
from turnkeeper.core.ledger import iso
from turnkeeper.core.money import format_usd
from turnkeeper.core.reserved_tenants import is_reserved
from turnkeeper.runtime.store.gateway_tokens import ID_PREFIX as TOKEN_ID
from turnkeeper.runtime.store.gateway_tokens import GatewayToken
from turnkeeper.table import Item

Document = dict[str, Any]

__all__ = ["TOKEN_ID", "TokenOffice", "parse_valid", "token_document"]


class TokenOffice:
    """``name`` makes who it is, for the audit trail, when something is about to be changed."""

    def __init__(self, kit: Kit, name: Callable[[], str]) -> None:
        self._kit = kit
        self._name = name

    def mint(
        self, tenant_id: str, user_id: str, *, task_nanousd: int | None, valid: timedelta | None, label: str | None
    ) -> Document:
        """A token, with the text that is nowhere else.

        Raises:
            InvalidRequest: no caller may be of this tenant.
        """
        if is_reserved(tenant_id):
            raise InvalidRequest(f"{tenant_id!r} is no tenant that anybody may be of")
        text, token = self._kit.gateway_tokens.mint(
            tenant_id, user_id, actor=self._name(), task_nanousd=task_nanousd, valid=valid, label=label
        )
        return {"token": text, **self._told(token)}

    def all(self, tenant_id: str | None) -> list[Document]:
        return list(map(self._told, self._kit.gateway_tokens.all(tenant_id)))

    def revoke(self, token_id: str, tenant_id: str | None) -> Document:
        tokens = self._kit.gateway_tokens
        return self._told(tokens.revoke(tokens.find(token_id, tenant_id), actor=self._name()))

    def _told(self, token: GatewayToken) -> Document:
        caps = self._kit.tenants.terms(token.tenant_id).caps.with_task(token.task_nanousd)
        return token_document(token, caps.cap("task"), self._kit.clock.now())


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
