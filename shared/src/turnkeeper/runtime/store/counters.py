"""What a transaction does to the shared counters of money.

A counter is one item: ``spent``, ``reserved`` and ``committed``, their sum, which the condition reads. A shard of the
tenant's counter keeps ``remaining`` instead: its ``share`` less what is committed. Where there is no cap that is 0 less
what is committed, so that a cap can be put on it while calls go on. It also holds ``caps`` (the fingerprint of the caps
that were in force when it was dealt) and ``paused``, so that a changed plan and the kill switch stop the very next call
without another item to read.

A user's month says by ``joined`` that its days are in it: ``d17`` is what the 17th has committed, ``r17`` what of that
is reserved. Else each day is an item of its own. Whoever reserves first in a month decides it for all: every
reservation of either form writes the month's item, on the condition that it has that form, or that nobody wrote it yet;
nothing ever changes it (decision 0141).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, time, timedelta
from functools import lru_cache
from typing import Any

from turnkeeper.core.caps import Caps
from turnkeeper.core.ledger import Amounts, Counter, Movement, Payer, Reservation, ScopeState, Shard
from turnkeeper.core.periods import first_day
from turnkeeper.core.scopes import DAYS_IN_MONTHS, SCOPES, SHARDED, Scope
from turnkeeper.core.session import Head
from turnkeeper.runtime.store import keys
from turnkeeper.table import EXISTS, AnyOf, Cond, Condition, Item, Key, Update

#: A purse that was not closed for good.
_OPEN = AnyOf((Cond("closed", "absent"), Cond("closed", "=", False)))
#: A month whose days are in its item, or one that nobody has counted in.
_BEGUN_JOINED = AnyOf((Cond("joined", "=", True), Cond("committed", "absent")))
#: One whose days are items of their own; or nobody's yet, which then becomes one of these.
_NOT_JOINED = Cond("joined", "absent")
#: Months that a process remembers to have another form than those that it begins.
_KNOWN_MONTHS = 10_000
#: A counter is kept for a while after its period, for reports.
KEEP_DAYS = 400


def payer_of(head: Head) -> Payer:
    return Payer(head.tenant_id, head.user_id, head.agent)


def operations(
    payer: Payer, movements: Iterable[Movement], caps: Caps | None
) -> list[tuple[Update, tuple[Counter, ...]]]:
    """One update an item, with the counters in it. ``caps`` is needed where a movement admits a reservation."""
    by_key: dict[Key, list[Movement]] = {}
    for movement in movements:
        by_key.setdefault(keys.counter_key(payer, movement.counter), []).append(movement)
    return [
        (_update(payer, key, of_item, caps), tuple(movement.counter for movement in of_item))
        for key, of_item in by_key.items()
    ]


def _update(payer: Payer, key: Key, movements: Sequence[Movement], caps: Caps | None) -> Update:
    conditions: list[Condition] = []
    add: dict[str, int] = {}
    for movement in movements:
        add |= _amounts(movement)
        if movement.admits:
            assert caps is not None
            conditions += _admits(movement, caps.cap(movement.counter.scope, payer.agent), caps.fingerprint)
    counter = movements[0].counter
    period = counter.month or counter.period
    # A task's is kept as long as its ledger is.
    kept = {"expires_at_epoch": expires_at_epoch(period)} if period else {}
    return Update(
        key, set={**kept, **({"joined": True} if counter.joined else {})}, add=add, conditions=tuple(conditions)
    )


def _amounts(movement: Movement) -> dict[str, int]:
    """What it adds to which attributes."""
    counter = movement.counter
    if counter.month is not None:
        committed, reserved = _of_day(counter)
        return {committed: movement.committed, reserved: movement.reserved}
    held = {"remaining": -movement.committed} if counter.scope == SHARDED.name else {"committed": movement.committed}
    return {"spent": movement.spent, "reserved": movement.reserved, **held}


def _of_day(counter: Counter) -> tuple[str, str]:
    """The attributes of a day in its month's item: committed and reserved. What is spent is the rest."""
    return f"d{counter.period[-2:]}", f"r{counter.period[-2:]}"


def held(counter: Counter, item: Mapping[str, Any] | None) -> Amounts:
    """What a counter holds, by its item."""
    item = item or {}
    if counter.month is None:
        return Amounts(int(item.get("spent", 0)), int(item.get("reserved", 0)))
    committed, reserved = (int(item.get(name, 0)) for name in _of_day(counter))
    return Amounts(committed - reserved, reserved)


class Forms:
    """The forms of months, as far as this process knows them. ``joins``: it begins them with their days."""

    def __init__(self, joins: bool) -> None:
        self._joins = joins
        #: Those of the other form.
        self._others: set[Key] = set()

    def joined(self, payer: Payer, periods: Mapping[Scope, str]) -> bool:
        """The form in which a reservation is tried."""
        months = [Counter(month, periods[month]) for month in DAYS_IN_MONTHS.values() if month in periods]
        return self._joins is not any(keys.counter_key(payer, month) in self._others for month in months)

    def are_other(self, payer: Payer, tried: Reservation, items: Mapping[Counter, Item | None]) -> bool:
        """Whether a reservation was refused because a month has the other form than it was tried in, which is known
        from now on: it never changes."""
        for counter, item in items.items():
            if item is None or counter.scope not in DAYS_IN_MONTHS.values():
                continue
            if (joined := bool(item.get("joined", False))) is tried.joined:
                continue
            if len(self._others) >= _KNOWN_MONTHS:
                self._others.clear()
            (self._others.discard if joined is self._joins else self._others.add)(keys.counter_key(payer, counter))
            return True
        return False


def _admits(movement: Movement, cap: int | None, fingerprint: str) -> tuple[Condition, ...]:
    counter = movement.counter
    if counter.scope == SHARDED.name:
        return _shard_admits(movement, cap, fingerprint)
    conditions = _counter_admits(movement, cap)
    if SCOPES[counter.scope].holder == "task":
        return (*conditions, _OPEN)
    if counter.scope in DAYS_IN_MONTHS.values():
        return (*conditions, _BEGUN_JOINED if counter.joined else _NOT_JOINED)
    return conditions


@lru_cache(maxsize=100)
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
    committed = _of_day(movement.counter)[0] if movement.counter.month is not None else "committed"
    room = Cond(committed, "<=", cap - movement.committed)
    # Nobody has spent anything yet: then the movement alone has to fit.
    return (AnyOf((Cond(committed, "absent"), room)),) if movement.committed <= cap else (room,)


def state_of(
    scope: Scope, amounts: Iterable[Amounts], caps: Caps, now: datetime, agent: str | None = None
) -> ScopeState:
    """A scope as its counters say: one, all its shards, or nothing yet."""
    known = list(amounts)
    return ScopeState(
        scope,
        caps.cap(scope, agent),
        sum(each.spent for each in known),
        sum(each.reserved for each in known),
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
