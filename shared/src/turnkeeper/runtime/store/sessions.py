"""Every write of a session.

A runner writes under its lease: each transaction checks owner and fencing token, so that a runner that lost the
session writes nothing. Everybody else writes only to a session at rest, or leaves a word for the runner.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from turnkeeper.core.audit import AuditRecord
from turnkeeper.core.errors import (
    IdempotencyMismatch,
    LeaseLost,
    SessionBusy,
    SessionEnded,
    SessionNotFound,
)
from turnkeeper.core.ledger import iso
from turnkeeper.core.session import Entry, Handoff, Head, RunnerKind, Spec
from turnkeeper.ports import (
    ABSENT,
    EXISTS,
    AnyOf,
    Blobs,
    Check,
    Clock,
    Cond,
    ConditionFailed,
    Ids,
    Put,
    Table,
    Update,
)
from turnkeeper.runtime.store import codec, keys
from turnkeeper.runtime.store.changes import Change, Resolved, chained, operations
from turnkeeper.runtime.store.records import Records
from turnkeeper.runtime.store.tenants import audit_item
from turnkeeper.runtime.store.treasury import CountersRefused

#: A lease is taken over only this long after it ended: clocks may differ by seconds.
SKEW_MILLIS = 3_000
#: How long an idempotency key is remembered.
IDEMPOTENCY_SECONDS = 86_400


@dataclass(frozen=True, slots=True)
class Once:
    """An idempotency key with the hash of what it protects: written in the same transaction. It is its caller's own:
    ``user_id`` says whose, where that is not the session's user."""

    key: str
    body_sha256: str
    user_id: str | None = None


@dataclass(frozen=True, slots=True)
class Earlier:
    """What an idempotency key stands for: the session and turn that it made."""

    session_id: str
    turn: int


class Sessions(Records):
    def __init__(self, table: Table, blobs: Blobs, clock: Clock, ids: Ids, *, lease_seconds: float) -> None:
        super().__init__(table, blobs)
        self._clock = clock
        self._ids = ids
        self.lease_seconds = lease_seconds

    # ---- coming into being ----

    def create(self, head: Head, spec: Spec, entry: Entry, audit: tuple[AuditRecord, ...], once: Once | None) -> Head:
        """A new session with its first input, all at once.

        Raises:
            SessionBusy: a session of this id exists already.
            AlreadyDone: the idempotency key was used: nothing was written.
        """
        head, records = chained(head, audit)
        pk = (head.tenant_id, head.session_id)
        prefix = keys.blob_prefix(*pk)
        writes = [
            Put(keys.head_key(*pk), codec.head_item(head), (ABSENT,)),
            Put(keys.spec_key(*pk), codec.pack(spec.model_dump(mode="json"), self._blobs, prefix)),
            Put(keys.entry_key(*pk, entry.seq), codec.entry_item(entry, self._blobs, prefix), (ABSENT,)),
            *(Put(keys.audit_key(*pk, record.seq), audit_item(record), (ABSENT,)) for record in records),
            *self._once(head, once),
        ]
        try:
            self._table.write(writes)
        except ConditionFailed as failed:
            self._raise_if_done(failed, writes, once)
            raise SessionBusy("the session exists already", session_id=head.session_id) from failed
        return head

    def start_turn(
        self,
        before: Head,
        after: Head,
        entries: tuple[Entry, ...],
        once: Once | None,
        audit: tuple[AuditRecord, ...] = (),
        resolved: Resolved | None = None,
    ) -> Head:
        """A resting session takes an input, goes on where it stopped, or ends; or money is settled that was left.

        Raises:
            SessionBusy: somebody else started a turn meanwhile.
            AlreadyDone: the idempotency key was used: nothing was written.
        """
        at_rest = (
            Cond("last_seq", "=", before.last_seq),
            Cond("turn", "=", before.turn),
            Cond("status", "=", before.status),
            Cond("fencing_token", "=", before.fencing_token),
        )
        after, writes, _ = operations(
            Change(before, after, entries, audit=audit, resolved=resolved), self._blobs, at_rest
        )
        writes.extend(self._once(after, once))
        try:
            self._table.write(writes)
        except ConditionFailed as failed:
            self._raise_if_done(failed, writes, once)
            raise SessionBusy("a turn is running", session_id=before.session_id, status=before.status) from failed
        return after

    def earlier(self, tenant_id: str, user_id: str, once: Once) -> Earlier | None:
        """What was done under an idempotency key.

        Raises:
            IdempotencyMismatch: it was used with another body.
        """
        item = self._table.get(keys.idempotency_key(tenant_id, user_id, once.key))
        return self._earlier(item, once) if item is not None else None

    def _earlier(self, item: Mapping[str, Any], once: Once) -> Earlier:
        if item["body_sha256"] != once.body_sha256:
            raise IdempotencyMismatch("this Idempotency-Key was used with another request")
        return Earlier(item["session_id"], int(item["turn"]))

    def _once(self, head: Head, once: Once | None) -> list[Put]:
        if once is None:
            return []
        item = {
            "session_id": head.session_id,
            "turn": head.turn,
            "body_sha256": once.body_sha256,
            "expires_at_epoch": int(self._clock.now().timestamp()) + IDEMPOTENCY_SECONDS,
        }
        return [Put(keys.idempotency_key(head.tenant_id, once.user_id or head.user_id, once.key), item, (ABSENT,))]

    def _raise_if_done(self, failed: ConditionFailed, writes: list[Any], once: Once | None) -> None:
        item = failed.failures.get(len(writes) - 1)
        if once is not None and item is not None and "body_sha256" in item:
            raise AlreadyDone(self._earlier(item, once)) from failed

    # ---- leases ----

    def claim(self, tenant_id: str, session_id: str, owner: str, runner: RunnerKind) -> Head:
        """Take the session for one runner: a new fencing token, so that whoever had it before writes nothing more.

        Raises:
            SessionNotFound: no such session.
            SessionBusy: another runner's lease holds.
            SessionEnded: there is nothing to run; ``status`` says how it rests.
        """
        now = self._now_millis()
        free = AnyOf((Cond("lease_owner", "absent"), Cond("lease_expires_at", "<", now - SKEW_MILLIS)))
        expires = now + int(self.lease_seconds * 1000)
        taken = Update(
            keys.head_key(tenant_id, session_id),
            set={
                "lease_owner": owner,
                "lease_expires_at": expires,
                "runner": runner,
                "status": "running",
                "due_shard": keys.due_shard(session_id),
                "due_at": codec.lease_due(expires),
            },
            add={"fencing_token": 1, "claims": 1},
            remove=("handoff",),
            conditions=(
                EXISTS,
                AnyOf((Cond("status", "=", "running"), Cond("status", "=", "queued"))),
                free,
            ),
        )
        try:
            return codec.head_of(self._table.update(taken))
        except ConditionFailed as failed:
            item = failed.failures.get(0)
            if item is None:
                raise SessionNotFound(f"there is no session {session_id}", session_id=session_id) from failed
            head = codec.head_of(item)
            if head.lease_owner == owner:  # The answer to this very claim was lost.
                return head
            if head.resting:
                raise SessionEnded("nothing to run", session_id=session_id, status=head.status) from failed
            raise SessionBusy("another runner has it", session_id=session_id, status=head.status) from failed

    def extend(self, head: Head) -> int:
        """The lease runs on from now; when it ends, in milliseconds since the epoch.

        Raises:
            LeaseLost: another runner took the session.
        """
        expires = self._now_millis() + int(self.lease_seconds * 1000)
        update = Update(
            keys.head_key(head.tenant_id, head.session_id),
            set={"lease_expires_at": expires, "due_at": codec.lease_due(expires)},
            conditions=_fence(head),
        )
        try:
            self._table.update(update)
        except ConditionFailed as failed:
            raise LeaseLost("another runner took the session", session_id=head.session_id) from failed
        return expires

    def commit(self, change: Change) -> Head:
        """One fenced transaction.

        Raises:
            LeaseLost: another runner took the session; nothing was written.
            CountersRefused: a counter did not admit the reservation; nothing was written.
        """
        after, writes, counter_at = operations(change, self._blobs, _fence(change.before))
        try:
            self._table.write(writes)
        except ConditionFailed as failed:
            others = {index: item for index, item in failed.failures.items() if index not in counter_at}
            if others:
                raise LeaseLost(
                    "another runner took the session", session_id=after.session_id, operations=sorted(others)
                ) from failed
            raise CountersRefused({counter_at[i]: item for i, item in failed.failures.items()}) from failed
        return after

    def put_result(self, head: Head, tool_use_id: str, result: Any) -> None:
        """Put down a finished call of a step whose other calls still run, so that it is not lost with them.

        Not fenced: the result of a call that did run is true whoever holds the session now. Only where the session was
        erased meanwhile nothing is put down.
        """
        not_erased = Check(keys.head_key(head.tenant_id, head.session_id), (Cond("status", "<>", "erased"),))
        key = keys.result_key(head.tenant_id, head.session_id, tool_use_id)
        prefix = keys.blob_prefix(head.tenant_id, head.session_id)
        item = {"tool_use_id": tool_use_id, **codec.pack(result, self._blobs, prefix)}
        try:
            self._table.write([Put(key, item, (ABSENT,)), not_erased])
        except ConditionFailed:
            return

    # ---- words for a runner ----

    def request_cancel(self, tenant_id: str, session_id: str, actor: str | None = None) -> Head:
        """Ask the runner to stop at the next safe point, and say who asks.

        Raises:
            SessionEnded: it is at rest.
            SessionNotFound: no such session.
        """
        update = Update(
            keys.head_key(tenant_id, session_id),
            set={"cancel_requested": True} if actor is None else {"cancel_requested": True, "cancel_actor": actor},
            conditions=(EXISTS, AnyOf((Cond("status", "=", "running"), Cond("status", "=", "queued")))),
        )
        try:
            return codec.head_of(self._table.update(update))
        except ConditionFailed as failed:
            item = failed.failures.get(0)
            if item is None:
                raise SessionNotFound(f"there is no session {session_id}", session_id=session_id) from failed
            raise SessionEnded("it is not running", status=item.get("status"), session_id=session_id) from failed

    def cancel_requested(self, head: Head) -> bool:
        """Whether somebody asked for it since the head was read."""
        item = self._table.get(keys.head_key(head.tenant_id, head.session_id))
        return bool(item and item.get("cancel_requested"))

    def cancel_actor(self, head: Head) -> str | None:
        """Who asked for it."""
        item = self._table.get(keys.head_key(head.tenant_id, head.session_id))
        return item.get("cancel_actor") if item else None

    def sent_again(self, head: Head) -> Head:
        """Put a session that nobody looks after on its way once more, before it is sent: a handoff that seems lost is
        counted, a dead runner's lease is taken from it.

        Raises:
            LeaseLost: a runner has taken it up, or another sweep was first.
        """
        now = iso(self._clock.now())
        to_function = head.placement == "interactive"
        sends = head.handoff.sends + 1 if head.handoff else 1
        after = head.model_copy(
            update={
                "handoff": Handoff(to="function" if to_function else "queue", at=now, sends=sends),
                "status": "running" if to_function else "queued",
                "lease_owner": None,
                "updated_at": now,
            }
        )
        unchanged = (
            Cond("fencing_token", "=", head.fencing_token),
            Cond("status", "=", head.status),
            Cond("updated_at", "=", head.updated_at),
            *((Cond("lease_expires_at", "=", head.lease_expires_at),) if head.lease_owner else ()),
        )
        after, writes, _ = operations(Change(head, after), self._blobs, unchanged)
        try:
            self._table.write(writes)
        except ConditionFailed as failed:
            raise LeaseLost("somebody looks after it", session_id=head.session_id) from failed
        return after

    def _now_millis(self) -> int:
        return int(self._clock.now().timestamp() * 1000)


class AlreadyDone(Exception):
    """The idempotency key stands for an earlier turn: answer with that one."""

    def __init__(self, earlier: Earlier) -> None:
        super().__init__(earlier.session_id)
        self.earlier = earlier


def _fence(head: Head) -> tuple[Cond, Cond]:
    return (Cond("lease_owner", "=", head.lease_owner), Cond("fencing_token", "=", head.fencing_token))
