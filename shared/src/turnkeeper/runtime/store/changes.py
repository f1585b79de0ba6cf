"""One change of a session, as one transaction: the head moves from one state to the next, and with it everything that
must not come apart from it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from turnkeeper.core import audit
from turnkeeper.core.audit import AuditRecord
from turnkeeper.core.ledger import Counter, Movement, Resolution, reserve, resolve
from turnkeeper.core.policy import Caps
from turnkeeper.core.session import Entry, Head, Plan, Reservation
from turnkeeper.ports import ABSENT, Blobs, Condition, Operation, Put, Update
from turnkeeper.runtime.store import codec, counters, keys
from turnkeeper.runtime.store.tenants import audit_item


@dataclass(frozen=True, slots=True)
class Resolved:
    """What became of a reservation, for the ledger."""

    reservation: Reservation
    resolution: Resolution
    spent_nanousd: int
    detail: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Change:
    """From one head to the next. ``audit`` records are chained here; they need no seq and no hashes yet."""

    before: Head
    after: Head
    entries: tuple[Entry, ...] = ()
    plan: Plan | None = None
    reserved: Reservation | None = None
    caps: Caps | None = None
    price_version: str | None = None
    resolved: Resolved | None = None
    audit: tuple[AuditRecord, ...] = ()


def chained(head: Head, records: tuple[AuditRecord, ...]) -> tuple[Head, list[AuditRecord]]:
    """The records on the session's chain, and the head that counts them."""
    previous = head.audit_hash or audit.genesis(head.tenant_id, head.session_id)
    seq = head.audit_seq
    written: list[AuditRecord] = []
    for record in records:
        seq += 1
        written.append(audit.chain(previous, record.model_copy(update={"seq": seq})))
        previous = written[-1].hash or ""
    return head.model_copy(update={"audit_seq": seq, "audit_hash": previous if written else head.audit_hash}), written


def operations(
    change: Change, blobs: Blobs, conditions: tuple[Condition, ...]
) -> tuple[Head, list[Operation], dict[int, Counter]]:
    """The transaction of a change: the head as it will be, the operations (the head's first), and which of them are
    counters."""
    before, (after, records) = change.before, chained(change.after, change.audit)
    tenant, session = after.tenant_id, after.session_id
    prefix = keys.blob_prefix(tenant, session)
    result: list[Operation] = [_head_update(before, after, conditions)]
    for entry in change.entries:
        item = codec.entry_item(entry, blobs, prefix)
        result.append(Put(keys.entry_key(tenant, session, entry.seq), item, (ABSENT,)))
    for record in records:
        result.append(Put(keys.audit_key(tenant, session, record.seq), audit_item(record), (ABSENT,)))
    if change.plan is not None:
        result.append(
            Put(keys.plan_key(tenant, session), codec.pack(change.plan.model_dump(mode="json"), blobs, prefix))
        )
    movements = _ledger(change, result)
    first = len(result)
    result.extend(counters.operations(tenant, after.user_id, movements, change.caps))
    return after, result, {first + index: movement.counter for index, movement in enumerate(movements)}


def _head_update(before: Head, after: Head, conditions: tuple[Condition, ...]) -> Update:
    """Only what changed: others (a cancel, the lease's heartbeat) write attributes of their own meanwhile."""
    old, new = codec.head_item(before), codec.head_item(after)
    return Update(
        keys.head_key(after.tenant_id, after.session_id),
        set={name: value for name, value in new.items() if old.get(name) != value},
        remove=tuple(sorted(name for name in old if name not in new)),
        conditions=conditions,
    )


def _ledger(change: Change, result: list[Operation]) -> list[Movement]:
    """The reservation's own record, and what it moves in the counters. A write reserves or resolves, never both."""
    tenant, session = change.after.tenant_id, change.after.session_id
    if (reservation := change.reserved) is not None:
        record = {**reservation.model_dump(mode="json"), "state": "pending", "price_version": change.price_version}
        result.append(Put(keys.call_key(tenant, session, reservation.call), record, (ABSENT,)))
        return reserve(reservation)
    if (resolved := change.resolved) is not None:
        record = {**resolved.detail, "state": resolved.resolution, "spent_nanousd": resolved.spent_nanousd}
        result.append(Update(keys.call_key(tenant, session, resolved.reservation.call), set=record))
        return resolve(resolved.reservation, resolved.spent_nanousd)
    return []
