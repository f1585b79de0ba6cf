"""Every write of a session.

A runner writes under its lease: each transaction checks owner and fencing token, so that a runner that lost the
session writes nothing. Everybody else writes only to a session at rest, or leaves a word for the runner.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from typing import Any

from turnkeeper.core.errors import LeaseLost, SessionBusy, SessionNotFound, Unavailable
from turnkeeper.core.ledger import iso
from turnkeeper.core.lifecycle import leaving, losing, running
from turnkeeper.core.lifecycle.change import Change, busy, ended
from turnkeeper.core.session import Head, Looked, RunnerKind, Spec
from turnkeeper.core.versions import version_of
from turnkeeper.ports import Clock, Redacts
from turnkeeper.runtime.store import codec, contents, due, idempotency, keys
from turnkeeper.runtime.store.beginnings import Beginning
from turnkeeper.runtime.store.changes import Writer, head_update
from turnkeeper.runtime.store.idempotency import Earlier, IdempotencyKey
from turnkeeper.runtime.store.records import Records
from turnkeeper.runtime.store.treasury import CountersRefused
from turnkeeper.table import (
    ABSENT,
    EXISTS,
    AnyOf,
    Blobs,
    Check,
    Cond,
    Condition,
    ConditionFailed,
    Key,
    Operation,
    Put,
    StoreBusy,
    Table,
)

#: A lease is taken over only this long after it ended: clocks may differ by seconds.
SKEW_MILLIS = 3_000
#: How many entries one write may hold, that all could be as large as they get: a transaction has 4 MB.
ENTRIES_A_WRITE = 25
#: Versions that a process remembers to have written.
_KEPT_VERSIONS = 10_000

#: Hears of each write of a session that was there before: its head before and after, and the change, where there is
#: more to it. Never raises.
Written = Callable[[Head, Head, Change | None], None]


class Sessions(Records):
    def __init__(
        self,
        table: Table,
        blobs: Blobs,
        clock: Clock,
        redactor: Redacts,
        *,
        lease_seconds: float,
        packs: bool = True,
        written: Written = lambda _before, _after, _change: None,
    ) -> None:
        super().__init__(table, blobs)
        self._written = written
        self._clock = clock
        self._writer = Writer(blobs, redactor, packs)
        self.lease_seconds = lease_seconds
        #: Tenant and version of those that are known to be in the table.
        self._kept_versions: set[tuple[str, str]] = set()

    # ---- at rest ----

    def keep_version(self, tenant_id: str, spec: Spec) -> str:
        """Have a version in the table, before a head names it; its name. Each is written once for a tenant, and tried
        once by a process."""
        version = version_of(spec)
        if (tenant_id, version) not in self._kept_versions:
            item = contents.pack(spec.model_dump(mode="json"), self._blobs, keys.version_blob_prefix(tenant_id))
            with suppress(ConditionFailed):
                self._table.write([Put(keys.version_key(tenant_id, version), item, (ABSENT,))])
            if len(self._kept_versions) >= _KEPT_VERSIONS:
                self._kept_versions.clear()
            self._kept_versions.add((tenant_id, version))
        return version

    def create(self, change: Change, key: IdempotencyKey | None = None, *, beside: Sequence[Operation] = ()) -> Head:
        """A new session with its first input, all at once.

        Args:
            beside: what has to be written, or to hold, for it to come into being.

        Raises:
            SessionBusy: a session of this id exists already, or what is beside it does not hold.
            Unavailable: another process is making it.
            AlreadyDone: the idempotency key was used: nothing was written.
        """
        beginning = Beginning(self._table, self._blobs, change.head, self._clock.now())
        made = replace(self._writer, blobs=beginning).creation(change)
        rest = self._but_early(made.operations, beginning)
        claimed = idempotency.claim_key(made.head, key, self._clock.now())
        writes = [*beginning.whole(), *rest, *beside, *claimed]
        try:
            self._table.write(writes)
        except ConditionFailed as failed:
            idempotency.raise_if_done(failed, len(writes), key)
            beginning.raise_if_overtaken(failed)
            raise SessionBusy("the session exists already", session_id=made.head.session_id) from failed
        return made.head

    @staticmethod
    def _but_early(writes: Sequence[Operation], beginning: Beginning) -> list[Operation]:
        """Write the entries that are too many for one write; what is left, with which the session begins."""
        entries = [write for write in writes if isinstance(write, Put) and _is_entry(write)]
        # One that was begun before may have left them.
        early = [Put(entry.key, entry.item) for entry in entries[:-ENTRIES_A_WRITE]]
        for at in range(0, len(early), ENTRIES_A_WRITE):
            beginning.early(early[at : at + ENTRIES_A_WRITE])
        return [*entries[len(early) :], *(write for write in writes if not _is_entry(write))]

    def write_at_rest(self, before: Head, change: Change, key: IdempotencyKey | None = None) -> Head:
        """A session without a runner takes an input, goes on where it stopped, or ends; or money is settled that was
        left.

        Raises:
            SessionBusy: somebody else wrote it meanwhile.
            AlreadyDone: the idempotency key was used: nothing was written.
        """
        at_rest = (
            Cond("last_seq", "=", before.last_seq),
            Cond("turn", "=", before.turn.number),
            Cond("status", "=", before.status),
            Cond("fencing_token", "=", before.lease.fencing_token),
            same_revision(before),
        )
        made = self._writer.transaction(before, change, at_rest)
        writes = [*made.operations, *idempotency.claim_key(made.head, key, self._clock.now())]
        try:
            self._table.write(writes)
        except ConditionFailed as failed:
            idempotency.raise_if_done(failed, len(writes), key)
            raise busy(before) from failed
        self._written(before, made.head, change)
        return made.head

    def earlier(self, tenant_id: str, user_id: str, key: IdempotencyKey) -> Earlier | None:
        """What was done under an idempotency key, as long as that is remembered.

        Raises:
            IdempotencyMismatch: it was used with another body.
        """
        return idempotency.earlier(self._table, tenant_id, user_id, key, self._clock.now())

    # ---- leases ----

    def claim(
        self, tenant_id: str, session_id: str, owner: str, runner: RunnerKind, *, before: Head | None = None
    ) -> Head:
        """Take the session for one runner: a new fencing token, so that whoever had it before writes nothing more.

        Args:
            before: the head as it was read just now. Without it, it is read here.

        Raises:
            SessionNotFound: no such session.
            SessionBusy: another runner's lease holds.
            SessionEnded: there is nothing to run; ``status`` says how it rests.
        """
        before = before or self.head(tenant_id, session_id)
        if before.lease.owner == owner:  # The answer to this very claim was lost.
            return before
        try:
            if before.lease.owner is not None:
                return self._take_over(before, owner, runner)
            after = running.claim(
                before, self._clock.now(), owner, runner, lease_seconds=self.lease_seconds, skew_millis=SKEW_MILLIS
            )
            update = head_update(before, after, _unclaimed(before), packs=self._writer.packs)
            claimed = codec.head_of(self._table.update(update))
        except ConditionFailed as failed:
            item = failed.failures.get(0)
            if item is None:
                raise SessionNotFound(f"there is no session {session_id}", session_id=session_id) from failed
            now = codec.head_of(item)
            if now.lease.owner == owner:
                return now
            raise (ended(now) if now.resting else busy(now)) from failed
        self._written(before, claimed, None)
        return claimed

    def _take_over(self, before: Head, owner: str, runner: RunnerKind) -> Head:
        """From a runner that is gone. Raises ConditionFailed with the head where somebody was faster."""
        if self.is_held(before):
            raise busy(before)
        calls = self.open_calls(before)
        change = losing.take_over(
            before,
            self._clock.now(),
            owner,
            runner,
            lease_seconds=self.lease_seconds,
            skew_millis=SKEW_MILLIS,
            open_calls=calls,
        )
        made = self._writer.transaction(before, change, _untouched(before))
        self._table.write(made.operations)
        self._written(before, made.head, change)
        return made.head

    def is_held(self, head: Head) -> bool:
        """A runner has it, or may believe so: nobody else can claim it."""
        now = self._clock.now()
        return running.is_held(head, now, lease_seconds=self.lease_seconds, skew_millis=SKEW_MILLIS)

    def extend(self, head: Head) -> None:
        """The lease runs on from now.

        Raises:
            LeaseLost: another runner took the session.
        """
        after = running.extend(head, self._clock.now(), lease_seconds=self.lease_seconds)
        if after == head:
            return
        try:
            self._table.update(head_update(head, after, fence(head)))
        except ConditionFailed as failed:
            raise LeaseLost("another runner took the session", session_id=head.session_id) from failed

    def commit(self, before: Head, change: Change) -> Head:
        """One fenced transaction.

        Raises:
            LeaseLost: another runner took the session; nothing was written.
            CountersRefused: a counter did not admit the reservation; nothing was written.
            StoreBusy: nothing was written; later it may be.
            Unavailable: answers were lost; it may have been written.
        """
        try:
            made = self._writer.transaction(before, change, fence(before))
        except Unavailable as error:
            # Contents go first, each under its hash.
            raise StoreBusy(f"large contents cannot be kept: {error.detail}") from error
        try:
            self._table.write(made.operations)
        except ConditionFailed as failed:
            others = sorted(index for index in failed.failures if index not in made.counters)
            if others:
                raise LeaseLost(
                    "another runner took the session", session_id=before.session_id, operations=others
                ) from failed
            raise CountersRefused(made.counters, failed.failures) from failed
        self._written(before, made.head, change)
        return made.head

    def put_result(self, head: Head, tool_use_id: str, result: Any) -> None:
        """Put down a finished call of a step whose other calls still run, so that it is not lost with them.

        Not fenced: the result of a call that did run is true whoever holds the session now. Only where the session was
        erased meanwhile nothing is put down.
        """
        not_erased = Check(keys.head_key(head.tenant_id, head.session_id), (Cond("status", "<>", "erased"),))
        key = keys.result_key(head.tenant_id, head.session_id, tool_use_id)
        prefix = keys.blob_prefix(head.tenant_id, head.session_id)
        item = {"tool_use_id": tool_use_id, **contents.pack(result, self._blobs, prefix)}
        try:
            self._table.write([Put(key, item, (ABSENT,)), not_erased])
        except ConditionFailed:
            return

    # ---- sessions that a runner has, or should have ----

    def due(self, now: datetime, shard: int) -> Iterator[Head]:
        """Heads that are :func:`~turnkeeper.runtime.store.due.late`."""
        return self.heads(due.late(self._table, f"DUE#{shard}", now, put_off_seconds=self.lease_seconds))

    def is_due(self, head: Head) -> bool:
        """Whether :meth:`due` has it for what its head says, and nobody has the session."""
        now = self._clock.now()
        due_at, far = codec.due_at(head), due.far(now, self.lease_seconds)
        return due_at is not None and not iso(now) < due_at < iso(far) and not self.is_held(head)

    def request_cancel(self, head: Head, actor: str | None = None) -> Head:
        """Ask the runner to stop at the next safe point, and say who asks.

        Raises:
            SessionEnded: it is at rest.
            SessionNotFound: it is gone.
        """
        if head.turn.cancel_requested:
            return self.head(head.tenant_id, head.session_id)
        runs = AnyOf((Cond("status", "=", "running"), Cond("status", "=", "queued")))
        try:
            asked = head_update(head, leaving.request_cancel(head, actor), (EXISTS, runs))
            return codec.head_of(self._table.update(asked))
        except ConditionFailed as failed:
            item = failed.failures.get(0)
            if item is None:
                raise SessionNotFound(f"there is no session {head.session_id}", session_id=head.session_id) from failed
            raise ended(codec.head_of(item)) from failed

    def asked(self, head: Head) -> tuple[bool, Looked]:
        """Whether somebody asked for a cancel since the head was read, and who looks on. One read."""
        return self.asked_all([head])[0]

    def asked_all(self, heads: Sequence[Head]) -> list[tuple[bool, Looked]]:
        """The same of many sessions, in one batch."""
        places = [
            (keys.head_key(head.tenant_id, head.session_id), keys.stream_key(head.tenant_id, head.session_id))
            for head in heads
        ]
        found = self._table.batch_get([key for place in places for key in place])
        items = {Key(item["pk"], item["sk"]): item for item in found}
        return [
            (bool(items.get(head, {}).get("cancel_requested")), Looked.of(items.get(stream))) for head, stream in places
        ]

    def cancel_actor(self, head: Head) -> str | None:
        """Who asked for it."""
        item = self._table.get(keys.head_key(head.tenant_id, head.session_id))
        return item.get("cancel_actor") if item else None

    def send_again(self, head: Head) -> Head:
        """Put a session that nobody looks after on its way once more, before it is sent.

        Raises:
            LeaseLost: a runner has taken it up, or another sweep was first.
        """
        now = self._clock.now()
        if head.lease.owner is None:
            change = leaving.send_again(head, now)
        else:
            calls = self.open_calls(head)
            change = losing.send_on(head, now, lease_seconds=self.lease_seconds, open_calls=calls)
        made = self._writer.transaction(head, change, _untouched(head))
        try:
            self._table.write(made.operations)
        except ConditionFailed as failed:
            raise LeaseLost("somebody looks after it", session_id=head.session_id) from failed
        self._written(head, made.head, change)
        return made.head


def _is_entry(operation: Operation) -> bool:
    return operation.key.sk.startswith("ENTRY#")


def fence(head: Head) -> tuple[Condition, ...]:
    """The runner that this head was claimed by still has the session."""
    return (Cond("lease_owner", "=", head.lease.owner), Cond("fencing_token", "=", head.lease.fencing_token))


def held(head: Head, *further: Condition) -> Check:
    """The same, and more of the head, for a write of other items than the session's own."""
    return Check(keys.head_key(head.tenant_id, head.session_id), (*fence(head), *further))


def _unclaimed(head: Head) -> tuple[Condition, ...]:
    """No runner took the session, and none that had it extended its lease."""
    lease = (
        (Cond("lease_owner", "absent"),)
        if head.lease.owner is None
        else (Cond("lease_expires_at", "=", head.lease.expires_at),)
    )
    token = Cond("fencing_token", "=", head.lease.fencing_token)
    return (EXISTS, token, Cond("status", "=", head.status), same_revision(head), *lease)


def same_revision(head: Head) -> Cond:
    """Nobody wrote what is packed since it was read: it is written whole."""
    return Cond("revision", "=", head.revision) if head.revision else Cond("revision", "absent")


def _untouched(head: Head) -> tuple[Condition, ...]:
    """Nor did anybody write to it."""
    return (*_unclaimed(head), Cond("updated_at", "=", head.updated_at), Cond("last_seq", "=", head.last_seq))
