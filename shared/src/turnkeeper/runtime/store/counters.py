"""What a transaction does to the shared counters of money.

A user's day and month are one item each: ``spent``, ``reserved`` and ``committed``, their sum, which the condition
reads. A shard of the tenant's month keeps ``remaining`` instead: its ``share`` less what is committed, or just less
than nothing where the month is unlimited, so that a cap can be put on it while calls go on. It also holds ``caps`` (the
fingerprint of the caps that were in force when it was dealt) and ``paused``, so that a changed plan and the kill
switch stop the very next call without another item to read.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from turnkeeper.core.ledger import Movement, ScopeState, Shard
from turnkeeper.core.policy import Caps
from turnkeeper.ports import EXISTS, AnyOf, Cond, Condition, Item, Operation, Update
from turnkeeper.runtime.store import keys

#: A counter is kept for a while after its period, for reports.
KEEP_DAYS = 400


def operations(tenant_id: str, user_id: str, movements: Iterable[Movement], caps: Caps | None) -> list[Operation]:
    """One update a counter. ``caps`` is needed where a movement admits a reservation."""
    return [_operation(tenant_id, user_id, movement, caps) for movement in movements]


def _operation(tenant_id: str, user_id: str, movement: Movement, caps: Caps | None) -> Update:
    key = keys.counter_key(tenant_id, user_id, movement.counter)
    add: dict[str, int] = {"spent": movement.spent, "reserved": movement.reserved}
    conditions: tuple[Condition, ...] = ()
    if movement.counter.scope == "tenant_monthly":
        add["remaining"] = -movement.committed
        if movement.admits:
            assert caps is not None
            conditions = _shard_admits(movement, caps)
    else:
        add["committed"] = movement.committed
        if movement.admits:
            assert caps is not None
            conditions = _user_admits(movement, caps)
    kept = {"expires_at_epoch": expires_at_epoch(movement.counter.period)}
    return Update(key, set=kept, add=add, conditions=conditions)


def expires_at_epoch(period: str) -> int:
    """When the counter of a day or month may go."""
    began = datetime.fromisoformat(period if len(period) > len("2026-01") else f"{period}-01").replace(tzinfo=UTC)
    return int((began + timedelta(days=KEEP_DAYS)).timestamp())


def _shard_admits(movement: Movement, caps: Caps) -> tuple[Condition, ...]:
    conditions: tuple[Condition, ...] = (
        EXISTS,
        Cond("caps", "=", caps.fingerprint),
        Cond("paused", "=", False),
        Cond("closed", "=", False),
    )
    if caps.tenant_monthly is None:
        return conditions
    return (*conditions, Cond("remaining", ">=", movement.committed))


def _user_admits(movement: Movement, caps: Caps) -> tuple[Condition, ...]:
    cap = caps.cap(movement.counter.scope)
    if cap is None:
        return ()
    room = Cond("committed", "<=", cap - movement.committed)
    # Nobody has spent anything yet: then the movement alone has to fit.
    return (AnyOf((Cond("committed", "absent"), room)),) if movement.committed <= cap else (room,)


def user_state(scope: Any, item: Mapping[str, Any] | None, caps: Caps, resets: str | None) -> ScopeState:
    item = item or {}
    return ScopeState(scope, caps.cap(scope), int(item.get("spent", 0)), int(item.get("reserved", 0)), resets)


def shard_of(item: Mapping[str, Any]) -> Shard:
    return Shard(
        index=int(item["shard"]),
        share=int(item["share"]) if item.get("share") is not None else None,
        spent=int(item.get("spent", 0)),
        reserved=int(item.get("reserved", 0)),
        closed=bool(item.get("closed", False)),
    )


def shard_item(shard: Shard, caps: Caps, month: str, *, paused: bool) -> Item:
    """All attributes of a shard's item but its key."""
    return {
        "shard": shard.index,
        "share": shard.share,
        "spent": shard.spent,
        "reserved": shard.reserved,
        "remaining": (shard.share or 0) - shard.spent - shard.reserved,
        "expires_at_epoch": expires_at_epoch(month),
        "closed": shard.closed,
        "caps": caps.fingerprint,
        "paused": paused,
    }
