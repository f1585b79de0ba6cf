"""A session's state, made up."""

from __future__ import annotations

import dataclasses
from typing import Any

from turnkeeper.core.session import Account, Head, LeaseState, TurnState

NOW = "2026-03-02T09:30:00.000Z"


def head(**fields: Any) -> Head:
    """A running session. A field of the turn, the lease or the account may be named like one of the head's own."""
    parts: dict[str, dict[str, Any]] = {"turn": {"started_at": NOW}, "lease": {}, "account": {}}
    for part, kind in (("turn", TurnState), ("lease", LeaseState), ("account", Account)):
        for field in dataclasses.fields(kind):
            if field.name in fields:
                parts[part][field.name] = fields.pop(field.name)
    whole = {
        "tenant_id": "acme",
        "session_id": "ses_1",
        "user_id": "ann",
        "role": "user",
        "agent": "plain",
        "placement": "auto",
        "created_at": NOW,
        "updated_at": NOW,
        "status": "running",
        "turn": TurnState(**parts["turn"]),
        "lease": LeaseState(**parts["lease"]),
        "account": Account(**parts["account"]),
    }
    return Head(**{**whole, **fields})
