"""Erasing a session: what was said in it goes, what it cost and the skeleton of its audit trail stay.

First one transaction takes the session away from whoever runs it and books what that call may have cost; from then on
nobody can write contents into it. Then the contents are taken away, item by item: no item is ever deleted, so that the
chain of audit records and the ledger stay whole. A runner that was cut off may leave one last blob behind before it
finds out, and an erasure may die half way: the session stays due, and the sweep comes by to :meth:`Erasure.finish`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime, timedelta
from typing import Any, TypeVar

from turnkeeper.core.audit import AuditRecord
from turnkeeper.core.decide import MAX_KEPT_CALLS
from turnkeeper.core.errors import SessionBusy, Unavailable
from turnkeeper.core.ledger import iso
from turnkeeper.core.lifecycle import leaving
from turnkeeper.core.lifecycle.running import OFF_SECONDS
from turnkeeper.core.session import OUTCOME, Head, ToolOutcome
from turnkeeper.core.transcript import UNKNOWN_OUTCOME, answer, unanswered
from turnkeeper.ports import Clock, Redacts
from turnkeeper.runtime.auditing import Auditor
from turnkeeper.runtime.store import codec, contents, keys
from turnkeeper.runtime.store.changes import Writer
from turnkeeper.table import Blobs, Cond, Condition, ConditionFailed, Item, Key, Operation, StoreBusy, Table, Update

T = TypeVar("T")

logger = logging.getLogger(__name__)

#: What holds contents, by the beginning of the sort key.
_CONTENT: Mapping[str, tuple[str, ...]] = {
    "ENTRY#": ("data", "blob", "blob_sha256", "blob_bytes"),
    "SPEC": ("data", "blob", "blob_sha256", "blob_bytes"),
    "PLAN": ("data", "blob", "blob_sha256", "blob_bytes"),
    # Without a reader, its runner writes nothing more into it.
    "STREAM": ("tail", "looked_until"),
    "ASKED#": ("data", "blob", "blob_sha256", "blob_bytes"),
    "RESULT#": ("data", "blob", "blob_sha256", "blob_bytes"),
    "ELSEWHERE#": ("data", "blob", "blob_sha256", "blob_bytes"),
    # A provider's error may quote what it was sent, and what a client says of itself may name somebody. Short texts can
    # be tried against the hash of what was sent.
    "CALL#": ("error", "hint_user", "hint_session", "hint_agent", "body_sha256"),
    "AUDIT#": ("arguments_redacted", "arguments_salt"),
    # Reasons quote what was said; the numbers stay.
    "ASSESSED#": ("reasons",),
    # An address may name somebody, and what a receiver answers may quote anything.
    "DELIVER_TO": ("webhook",),
    "DELIVERY#": ("to", "last_answer"),
}
#: Who erases what was kept long enough, for the audit trail.
RETENTION = "retention"
#: And what was made of an erased session.
COMPANION = "erased_with_its_session"
_BATCH = 25
#: The sweep looks at an erased session this long after its lease could have ended.
_LOOK_AGAIN_SECONDS = 60
_TRIES = 50


class Erasure:
    def __init__(
        self,
        table: Table,
        blobs: Blobs,
        clock: Clock,
        redactor: Redacts,
        auditor: Auditor,
        *,
        lease_seconds: float,
        packs: bool = True,
    ) -> None:
        self._table = table
        self._blobs = blobs
        self._writer = Writer(blobs, redactor, packs)
        self._clock = clock
        self._auditor = auditor
        self._lease_seconds = lease_seconds

    def erase(self, head: Head, *, actor: str) -> None:
        """Take the contents away, whatever the session is doing. Erasing twice does no harm.

        Raises:
            StoreBusy, Unavailable: not all is gone; doing it again, or the sweep, goes on with it.
        """
        for _ in range(_TRIES):
            if head.status == "erased":
                break
            try:
                head = self._take_away(head, actor)
            except ConditionFailed as failed:
                # Its runner wrote in between: look again. The head's own update is the first operation.
                item = failed.failures.get(0) or self._table.get(keys.head_key(head.tenant_id, head.session_id))
                assert item is not None
                head = codec.head_of(item)
        else:
            raise StoreBusy("the session is written too often to be taken away; try again")
        self._empty(head)

    def expire(self, head: Head) -> None:
        """Erase a session at rest, unless somebody wrote in it since its head was read.

        Raises:
            SessionBusy: somebody did: it is not what was kept for too long.
            StoreBusy, Unavailable: not all is gone; the sweep goes on with it.
        """
        try:
            erased = self._take_away(head, RETENTION)
        except ConditionFailed as failed:
            raise SessionBusy("the session was written meanwhile") from failed
        self._empty(erased)

    def finish(self, head: Head) -> None:
        """For the sweep, when an erased session is due: take away what was left, and let go of it."""
        self._empty(head)
        gone = Update(
            keys.head_key(head.tenant_id, head.session_id),
            remove=("due_shard", "due_at"),
            conditions=(Cond("status", "=", "erased"),),
        )
        self._table.update(gone)

    def is_due(self, head: Head) -> bool:
        """Whether it was erased long enough ago for the runner that was cut off to have found out, by any clock that is
        right."""
        now, erased_at = self._clock.now(), datetime.fromisoformat(head.updated_at)
        return erased_at + self._look_again <= now or erased_at > now + timedelta(seconds=OFF_SECONDS)

    @property
    def _look_again(self) -> timedelta:
        return timedelta(seconds=2 * self._lease_seconds + _LOOK_AGAIN_SECONDS)

    def _take_away(self, head: Head, actor: str) -> Head:
        """The transaction after which the session is erased for everybody who reads or writes it."""
        now = self._clock.now()
        change = leaving.erase(head, now, actor, self._open_calls(head))
        made = self._writer.transaction(head, change, _unchanged(head))
        head_update, *others = made.operations
        self._table.write([_due(head_update, head, iso(now + self._look_again)), *others])
        return made.head

    def _open_calls(self, head: Head) -> list[AuditRecord]:
        """Records of the calls that its runner may be making right now. It will not get to write them itself, and an
        erasure must be no way to have a tool run without a trace."""
        if head.resting:
            return []
        beginning = keys.session_pk(head.tenant_id, head.session_id)
        items = self._table.query_all(
            beginning, first=keys.entry_key(head.tenant_id, head.session_id, head.turn.seq).sk
        )
        read = [self._readable(item, codec.entry_of) for item in items if item["sk"].startswith("ENTRY#")]
        early = {item.get("tool_use_id"): item for item in items if item["sk"].startswith("RESULT#")}
        records = []
        for call in unanswered([entry for entry in read if entry is not None])[:MAX_KEPT_CALLS]:
            _, outcome = answer(call, UNKNOWN_OUTCOME, "unknown")
            if (item := early.get(call["id"])) is not None:
                outcome = self._readable(item, _outcome_of) or outcome
            # Arguments would be taken away at once, and so would a name that is told among them.
            records.append(self._auditor.tool_call(head, {**call, "name": "", "input": {}}, outcome, ()))
        return records

    def _readable(self, item: Item, read: Callable[[Item, Blobs], T]) -> T | None:
        """What an item holds; ``None`` where that is gone or damaged, which is no reason to keep it."""
        try:
            return read(item, self._blobs)
        except (StoreBusy, Unavailable):
            raise
        except Exception as error:  # noqa: BLE001 - whatever somebody made of it
            logger.warning("%s of %s cannot be read: %s", item["sk"], item["pk"], type(error).__name__)
            return None

    def _empty(self, head: Head) -> None:
        """Contents out of the items first, then the blobs: nobody is ever pointed to a blob that is gone. What was made
        of the session goes last: if one of those cannot be erased, the session is not done with, but it is empty."""
        # The last entry only says that the session was erased.
        self.take_contents(head.tenant_id, head.session_id, but=keys.entry_sk(head.last_seq))
        self._erase_companions(head)

    def take_contents(self, tenant_id: str, session_id: str, *, but: str | None = None) -> None:
        """Of a session that is erased, or has no head and will have none; ``but`` is the sort key of what stays."""
        batch: list[Operation] = []
        for operation in self._removals(keys.session_pk(tenant_id, session_id), but):
            batch.append(operation)
            if len(batch) == _BATCH:
                self._table.write(batch)
                batch = []
        if batch:
            self._table.write(batch)
        self._blobs.delete_prefix(keys.blob_prefix(tenant_id, session_id))

    def _erase_companions(self, head: Head) -> None:
        """Sessions that hold what was said in this one. After it is erased, none is made any more.

        Raises:
            ValueError: the head of one cannot be read. Its contents are taken away, also those that it has by the next
                time, until somebody mends it.
        """
        pk = keys.session_pk(head.tenant_id, head.session_id)
        named = self._table.query_all(pk, first="COMPANION#", last="COMPANION#~")
        whose = [(item["companion_tenant"], item["companion_session"]) for item in named]
        by_key = {keys.head_key(*each): each for each in whose}
        unreadable: ValueError | None = None
        for item in self._table.batch_get(list(by_key)):
            try:
                companion = codec.head_of(item)
            except ValueError as error:
                self.take_contents(*by_key[Key(item["pk"], item["sk"])])
                unreadable = error
            else:
                self.erase(companion, actor=COMPANION)
        if unreadable is not None:
            raise unreadable

    def _removals(self, pk: str, but: str | None) -> Iterator[Update]:
        for item in self._table.query_all(pk):
            if item["sk"] != but and (left := _contents(item)):
                yield Update(Key(item["pk"], item["sk"]), remove=left)


def _outcome_of(item: Item, blobs: Blobs) -> ToolOutcome:
    return OUTCOME.validate_python(contents.unpack(item, blobs)["outcome"], extra="ignore")


def _contents(item: Item) -> tuple[str, ...]:
    """The attributes of an item that hold contents and are still there."""
    for beginning, attributes in _CONTENT.items():
        if item["sk"].startswith(beginning):
            return tuple(name for name in attributes if name in item)
    return ()


def _unchanged(head: Head) -> tuple[Condition, ...]:
    """The head is as it was read, in everything that the transaction builds on."""
    if head.revision:
        stored, names = codec.plain_item(head), ["status", "fencing_token", "lease_owner", "last_seq", "revision"]
    else:
        stored = codec.flat_item(head)
        names = ["status", "fencing_token", "lease_owner", "last_seq", "calls", "pending", "cost_nanousd", "audit_seq"]

    def same(name: str) -> Cond:
        value: Any = stored.get(name)
        return Cond(name, "absent") if value is None else Cond(name, "=", value)

    return tuple(map(same, names))


def _due(update: Operation, head: Head, at: str) -> Update:
    """The head's update, with the session due to the sweep once more."""
    assert isinstance(update, Update)
    attributes = {"due_shard": keys.due_shard(head.session_id), "due_at": at}
    remove = tuple(name for name in update.remove if name not in attributes)
    return Update(update.key, {**update.set, **attributes}, update.add, remove, update.conditions)
