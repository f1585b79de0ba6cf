"""A session's state, made up."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from turnkeeper.core.caps import NO_CAP, Caps, caps_from
from turnkeeper.core.ledger import Reservation
from turnkeeper.core.lifecycle.change import Reserved
from turnkeeper.core.scopes import SCOPES
from turnkeeper.core.session import Account, Head, LeaseState, TurnState
from turnkeeper.runtime.store import codec
from turnkeeper.table import Key, Put
from turnkeeper.testing.memory_table import MemoryTable

NOW = "2026-03-02T09:30:00.000Z"
#: No cap in any scope.
UNCAPPED: Caps = caps_from(dict.fromkeys(SCOPES, NO_CAP), "UTC", shards=1)


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


def as_once(table: MemoryTable, key: Key, set: Mapping[str, Any] | None = None, remove: Sequence[str] = ()) -> None:
    """Have a head as releases up to 0.8 left it, each field an attribute of its own, with these changed by hand."""
    item = table.get(key)
    assert item is not None
    flat = {**codec.flat_item(codec.head_of(item)), **(set or {})}
    table.write([Put(key, {name: value for name, value in flat.items() if name not in remove})])


def reservation(call: int = 1, amount_nanousd: int = 100) -> Reservation:
    """Money that is set aside for one call."""
    return Reservation(
        call=call,
        amount_nanousd=amount_nanousd,
        model="a model",
        max_tokens=10,
        periods={"user_daily": "2026-03-02", "user_monthly": "2026-03", "tenant_monthly": "2026-03"},
        shard=0,
        at=NOW,
    )


def reserved(call: int = 1, amount_nanousd: int = 100) -> Reserved:
    """The same, as it is written."""
    return Reserved(reservation(call, amount_nanousd), UNCAPPED, "prices of the test")
