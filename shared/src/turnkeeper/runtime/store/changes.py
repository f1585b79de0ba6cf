"""One change of a session, as one transaction: the head moves from one state to the next, and with it everything that
must not come apart from it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from turnkeeper.core.audit import AuditRecord
from turnkeeper.core.caps import Caps
from turnkeeper.core.ledger import Counter, Movement, Payer, reserve, resolve
from turnkeeper.core.lifecycle.change import Change, Reserved, Resolved, chain
from turnkeeper.core.replacing import replace
from turnkeeper.core.session import Account, Head
from turnkeeper.ports import Redacts
from turnkeeper.runtime.store import codec, contents, counters, keys
from turnkeeper.runtime.store.tenants import audit_item
from turnkeeper.table import ABSENT, Blobs, Condition, Item, Operation, Put, Update


@dataclass(frozen=True, slots=True)
class Transaction:
    """What is written at once; ``head`` is the state after it, with its audit records counted."""

    head: Head
    #: The head's own operation is the first.
    operations: list[Operation]
    #: Which of the operations are items of counters, and of which.
    counters: dict[int, tuple[Counter, ...]]


@dataclass(frozen=True, slots=True)
class Writer:
    """Makes transactions of changes. Secrets go out of audit records here, where all of them pass."""

    blobs: Blobs
    redactor: Redacts
    #: Heads that are not packed become so. While a release runs that cannot read packed ones, they do not.
    packs: bool = True

    def creation(self, change: Change) -> Transaction:
        """A session that comes into being."""
        head, records = self._chained(change)
        head = codec.revised(None, head, packs=self.packs)
        key = keys.head_key(head.tenant_id, head.session_id)
        return Transaction(head, [Put(key, codec.head_item(head), (ABSENT,)), *self._documents(change, records)], {})

    def transaction(self, before: Head, change: Change, conditions: tuple[Condition, ...]) -> Transaction:
        """A session that moves on, where the conditions hold for its head as it is stored."""
        head, records = self._chained(change)
        reserved = _named(change)
        # Of a session's call its packed head tells as long as it is in flight: it has one at a time.
        in_head = reserved is not None and bool(self.packs or before.revision)
        told = opened(reserved) if in_head and reserved is not None else None
        if (account := _with_open_call(head.account, told)) is not head.account:
            head = replace(head, account=account)
        head = codec.revised(before, head, packs=self.packs)
        payer, known, resolved = counters.payer_of(head), before.account.pending_detail, change.resolved
        brought = None
        if in_head and reserved is not None:
            money = Money.of(payer, reserve(reserved.reservation), reserved.caps)
        elif (
            resolved is not None and known is not None and resolved.reservation.call in {e.call for e in change.entries}
        ):
            brought = record_of(resolved, head.updated_at, known)
            money = Money.of(payer, resolve(resolved.reservation, resolved.spent_nanousd), None)
        else:
            money = money_of(payer, head.session_id, head.updated_at, reserved, resolved, known)
        operations = [
            _update_to(before, head, conditions),
            *self._documents(change, records, brought),
        ]
        return Transaction(head, [*operations, *money.operations], money.behind(len(operations)))

    def _chained(self, change: Change) -> tuple[Head, list[AuditRecord]]:
        return chain(change.head, [self._redacted(record) for record in change.audit])

    def _redacted(self, record: AuditRecord) -> AuditRecord:
        return dataclasses.replace(record, detail=self.redactor.redact(record.detail)) if record.detail else record

    def _documents(self, change: Change, records: list[AuditRecord], call: Item | None = None) -> list[Operation]:
        """Entries, audit records, the plan and a system prompt: each is an item of its own.

        Args:
            call: the ledger's record of a call, which is kept with the entry that it brought.
        """
        tenant, session = change.head.tenant_id, change.head.session_id
        prefix = keys.blob_prefix(tenant, session)
        documents: list[Operation] = []
        for entry in change.entries:
            item = codec.entry_item(entry, self.blobs, prefix)
            if call is not None and entry.call == call["call"]:
                item[codec.LEDGER], call = call, None
            documents.append(Put(keys.entry_key(tenant, session, entry.seq), item, (ABSENT,)))
        for record in records:
            documents.append(Put(keys.audit_key(tenant, session, record.seq), audit_item(record), (ABSENT,)))
        if change.plan is not None or change.unplanned:
            said = change.plan.model_dump(mode="json") if change.plan is not None else None
            plan = contents.pack(said, self.blobs, prefix)
            documents.append(Put(keys.plan_key(tenant, session), plan))
        if change.prompt is not None:
            name = change.head.prompt
            assert name is not None, "a head names the prompt that is kept with it"
            prompt = contents.pack(change.prompt, self.blobs, prefix)
            documents.append(Put(keys.prompt_key(tenant, session, name), prompt))
        return documents


def _with_open_call(account: Account, detail: Mapping[str, Any] | None) -> Account:
    if account.pending is None:
        return account if account.pending_detail is None else replace(account, pending_detail=None)
    return account if detail is None else replace(account, pending_detail=dict(detail))


def opened(reserved: Reserved) -> dict[str, Any]:
    """What the ledger tells of a call beside its reservation, while it is in flight and after."""
    waited = {"waited_ms": reserved.waited_ms} if reserved.waited_ms else {}
    return {**reserved.detail, "price_version": reserved.price_version, **waited}


def head_update(before: Head, after: Head, conditions: tuple[Condition, ...], *, packs: bool = False) -> Update:
    """Only what changed: others (a cancel, the lease's heartbeat) write attributes of their own meanwhile.

    Args:
        packs: see :func:`turnkeeper.runtime.store.codec.revised`.
    """
    return _update_to(before, codec.revised(before, after, packs=packs), conditions)


def _update_to(before: Head, after: Head, conditions: tuple[Condition, ...]) -> Update:
    """The same to a head as it is stored."""
    if before.revision:
        old = codec.plain_item(before)
        new = codec.plain_item(after) if after.revision == before.revision else codec.head_item(after)
    else:
        old, new = codec.flat_item(before), codec.head_item(after)
    changed = {name: value for name, value in new.items() if old.get(name) != value}
    if "status_key" in changed:
        # With the status a head of 0.1 gets its place among those of this version. To others it changes nothing.
        changed["tenant_key"] = new["tenant_key"]
    return Update(
        keys.head_key(after.tenant_id, after.session_id),
        set=changed,
        # A cancel that nobody had asked for when the head was read may have been asked for since.
        remove=tuple(
            sorted(name for name in old if name not in new and (name, old[name]) != ("cancel_requested", False))
        ),
        conditions=conditions,
    )


def _named(change: Change) -> Reserved | None:
    """With whose call it is. A session's agent may be renamed, and its version changes between turns: what it was at
    this call is nowhere else. Its user and tenant never change."""
    if change.reserved is None:
        return None
    head = change.head
    whose = {"agent": head.agent, **({"version": head.version} if head.version is not None else {})}
    return replace(change.reserved, detail={**whose, **change.reserved.detail})


@dataclass(frozen=True, slots=True)
class Money:
    """The reservation's own record, and what it moves in the counters."""

    operations: tuple[Operation, ...] = ()
    counters: Mapping[int, tuple[Counter, ...]] = field(default_factory=dict)

    @classmethod
    def of(cls, payer: Payer, movements: Sequence[Movement], caps: Caps | None, *record: Operation) -> Money:
        made = counters.operations(payer, movements, caps)
        counted = {len(record) + index: counted for index, (_, counted) in enumerate(made)}
        return cls((*record, *(update for update, _ in made)), counted)

    def behind(self, operations: int) -> dict[int, tuple[Counter, ...]]:
        """Which operations are items of counters, where so many come before."""
        return {operations + index: counted for index, counted in self.counters.items()}


def money_of(
    payer: Payer,
    holder: str,
    at: str,
    reserved: Reserved | None,
    resolved: Resolved | None,
    known: Mapping[str, Any] | None = None,
) -> Money:
    """What a write does to the ledger: every call of every holder of money goes through here. A write reserves or
    resolves, never both.

    Args:
        holder: the session, or the token, whose ledger it is.
        at: when it is resolved.
        known: what is told of the call beside its reservation, where it has no record yet.
    """
    if reserved is not None:
        record = {**opened(reserved), **reserved.reservation.model_dump(mode="json"), "state": "pending"}
        put = Put(keys.call_key(payer.tenant_id, holder, reserved.reservation.call), record, (ABSENT,))
        return Money.of(payer, reserve(reserved.reservation), reserved.caps, put)
    if resolved is None:
        return Money()
    key = keys.call_key(payer.tenant_id, holder, resolved.reservation.call)
    update = Update(key, set=record_of(resolved, at, known))
    return Money.of(payer, resolve(resolved.reservation, resolved.spent_nanousd), None, update)


def record_of(resolved: Resolved, at: str, known: Mapping[str, Any] | None) -> Item:
    """What the ledger records of a call when it is resolved; all of it, where it has no record yet."""
    told = {} if known is None else {**known, **resolved.reservation.model_dump(mode="json")}
    became = {"state": resolved.resolution, "spent_nanousd": resolved.spent_nanousd, "resolved_at": at}
    return {**told, **resolved.detail, **became}
