"""What a transaction does to the shared counters of money.

A counter is one item: ``spent``, ``reserved`` and ``committed``, their sum, which the condition reads. A shard of the
tenant's counter keeps ``remaining`` instead: its ``share`` less what is committed. Where there is no cap that is 0 less
what is committed, so that a cap can be put on it while calls go on. It also holds ``caps`` (the fingerprint of the caps
that were in force when it was dealt) and ``paused``, so that a changed plan and the kill switch stop the very next call
without another item to read.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, time, timedelta
from typing import Any

from turnkeeper.core.caps import Caps
from turnkeeper.core.ledger import Movement, Payer, ScopeState, Shard
from turnkeeper.core.periods import first_day
from turnkeeper.core.scopes import SCOPES, SHARDED, Scope
from turnkeeper.core.session import Head
from turnkeeper.ports import EXISTS, AnyOf, Cond, Condition, Item, Operation, Update
from turnkeeper.runtime.store import keys

#: A purse that was not closed for good.
_OPEN = AnyOf((Cond("closed", "absent"), Cond("closed", "=", False)))
#: A counter is kept for a while after its period, for reports.
KEEP_DAYS = 400


def payer_of(head: Head) -> Payer:
    return Payer(head.tenant_id, head.user_id, head.agent)


def operations(payer: Payer, movements: Iterable[Movement], caps: Caps | None) -> list[Operation]:
    """One update a counter. ``caps`` is needed where a movement admits a reservation."""
    return [_operation(payer, movement, caps) for movement in movements]


def _operation(payer: Payer, movement: Movement, caps: Caps | None) -> Update:
    counter = movement.counter
    sharded = counter.scope == SHARDED.name
    conditions: tuple[Condition, ...] = ()
    if movement.admits:
        assert caps is not None
        cap = caps.cap(counter.scope, payer.agent)
        conditions = _shard_admits(movement, cap, caps.fingerprint) if sharded else _counter_admits(movement, cap)
    held = {"remaining": -movement.committed} if sharded else {"committed": movement.committed}
    if SCOPES[counter.scope].holder == "task" and movement.admits:
        conditions = (*conditions, _OPEN)
    return Update(
        keys.counter_key(payer, counter),
        # A task's is kept as long as its ledger is.
        set={"expires_at_epoch": expires_at_epoch(counter.period)} if counter.period else {},
        add={"spent": movement.spent, "reserved": movement.reserved, **held},
        conditions=conditions,
    )


def expires_at_epoch(period: str) -> int:
    """When the counter of a day or month may go."""
    began = datetime.combine(first_day(period), time(), UTC)
    return int((began + timedelta(days=KEEP_DAYS)).timestamp())


def _shard_admits(movement: Movement, cap: int | None, fingerprint: str) -> tuple[Condition, ...]:
    conditions: tuple[Condition, ...] = (
        EXISTS,
        Cond("caps", "=", fingerprint),
        Cond("paused", "=", False),
        Cond("closed", "=", False),
    )
    return conditions if cap is None else (*conditions, Cond("remaining", ">=", movement.committed))


def _counter_admits(movement: Movement, cap: int | None) -> tuple[Condition, ...]:
    if cap is None:
        return ()
    room = Cond("committed", "<=", cap - movement.committed)
    # Nobody has spent anything yet: then the movement alone has to fit.
    return (AnyOf((Cond("committed", "absent"), room)),) if movement.committed <= cap else (room,)


def state_of(
    scope: Scope, items: Sequence[Mapping[str, Any]], caps: Caps, now: datetime, agent: str | None = None
) -> ScopeState:
    """A scope as its items say: one counter, all its shards, or nothing yet."""
    return ScopeState(
        scope,
        caps.cap(scope, agent),
        sum(int(item.get("spent", 0)) for item in items),
        sum(int(item.get("reserved", 0)) for item in items),
        caps.resets_at(scope, now),
        agent if SCOPES[scope].holder == "agent" else None,
    )


def shard_of(item: Mapping[str, Any]) -> Shard:
    return Shard(
        index=int(item["shard"]),
        share=int(item["share"]) if item.get("share") is not None else None,
        spent=int(item.get("spent", 0)),
        reserved=int(item.get("reserved", 0)),
        closed=bool(item.get("closed", False)),
    )


def shard_item(shard: Shard, caps: Caps, period: str, *, paused: bool) -> Item:
    """All attributes of a shard's item but its key."""
    return {
        "shard": shard.index,
        "share": shard.share,
        "spent": shard.spent,
        "reserved": shard.reserved,
        "remaining": (shard.share or 0) - shard.spent - shard.reserved,
        "expires_at_epoch": expires_at_epoch(period),
        "closed": shard.closed,
        "caps": caps.fingerprint,
        "paused": paused,
    }
