"""Sessions that come into being by more than one write: what is too large for an item goes to the bucket first, and of
a copy of a long conversation, which no transaction can hold, so do its first entries to the table.

Until the head is there, nobody knows the session: what was written of one whose process died would stay for good, and
no erasure would find it. So it is noted before that it has begun, and the last write, which brings the head, says that
it is whole. What is not whole after an hour the sweep takes away.

Who makes a session again that was not whole (a job that is delivered again, the companion of a turn that is told again)
goes on with its note: only the latest can still write.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta

from turnkeeper.core.errors import SessionBusy, Unavailable
from turnkeeper.core.ledger import iso
from turnkeeper.core.session import Head
from turnkeeper.runtime.store import due, keys
from turnkeeper.table import AnyOf, Blobs, Check, Cond, ConditionFailed, Item, Key, Operation, Table, Update

#: Much more than the writes of the longest copy take.
_WHOLE_WITHIN = timedelta(hours=1)
_DUE = ("due_shard", "due_at")
#: It is new, was begun and is not whole, or all of it was taken away; and nobody is taking it away.
_CAN_BEGIN = (
    AnyOf((Cond("pk", "absent"), Cond("due_at", "exists"), Cond("gone", "exists"))),
    Cond("given_up", "absent"),
)
_OVERTAKEN = "the session is being made by another process, or what one left of it is being taken away; try again"


class Beginning:
    """One that is being made, and the bucket for what is large of it: nothing is in there, nor in the table, before it
    is noted. What takes a single write needs no note."""

    def __init__(self, table: Table, blobs: Blobs, head: Head, now: datetime) -> None:
        self._table = table
        self._blobs = blobs
        self._head = head
        self._key = keys.begun_key(head.tenant_id, head.session_id)
        self._due_at = iso(now + _WHOLE_WITHIN)
        self._noted = False

    def note(self) -> None:
        """Before the first write.

        Raises:
            SessionBusy: the session is whole already.
            Unavailable: what was left of it is being taken away.
        """
        if self._noted:
            return
        note = {"due_shard": keys.begun_shard(self._head.session_id), "due_at": self._due_at}
        try:
            self._table.write([Update(self._key, set=note, remove=("gone",), conditions=_CAN_BEGIN)])
        except ConditionFailed as failed:
            if "due_at" in (failed.failures.get(0) or {}):
                raise Unavailable(_OVERTAKEN) from failed
            raise SessionBusy("the session exists already", session_id=self._head.session_id) from failed
        self._noted = True

    def early(self, writes: Sequence[Operation]) -> None:
        """A write before the last.

        Raises:
            SessionBusy: the session is whole already.
            Unavailable: somebody else makes it, or takes away what is there.
        """
        self.note()
        try:
            self._table.write([*writes, Check(self._key, self._mine)])
        except ConditionFailed as failed:
            raise Unavailable(_OVERTAKEN) from failed

    def whole(self) -> list[Operation]:
        """The first operations of the last write: it is whole, unless another makes it or takes it away."""
        return [Update(self._key, remove=_DUE, conditions=self._mine)] if self._noted else []

    def raise_if_overtaken(self, failed: ConditionFailed) -> None:
        """Where that write failed for this alone.

        Raises:
            Unavailable: later it may be there, or can be made.
        """
        if self._noted and failed.failures.keys() == {0}:
            raise Unavailable(_OVERTAKEN) from failed

    @property
    def _mine(self) -> tuple[Cond, ...]:
        return (Cond("due_at", "=", self._due_at), Cond("given_up", "absent"))

    # ---- the bucket ----

    def put(self, key: str, data: bytes) -> None:
        self.note()
        self._blobs.put(key, data)

    def get(self, key: str) -> bytes:
        return self._blobs.get(key)

    def delete_prefix(self, prefix: str) -> int:
        return self._blobs.delete_prefix(prefix)


class Beginnings:
    """For the sweep: those that will never be whole."""

    def __init__(self, table: Table) -> None:
        self._table = table

    def due(self, now: datetime, shard: int) -> Iterator[Item]:
        """Notes of sessions that were to be whole by now. Each has ``pk``, ``sk`` and ``due_at``."""
        found = due.late(self._table, f"BEGUN#{shard}", now, put_off_seconds=_WHOLE_WITHIN.total_seconds())
        return (note for note in found if "due_at" in note)

    def give_up(self, note: Item, now: datetime) -> bool:
        """From now on the session cannot become whole any more; False where it is, or somebody else is at it. It is
        due again later, in case that this one dies."""
        later = Update(
            Key(note["pk"], note["sk"]),
            set={"due_at": iso(now + _WHOLE_WITHIN), "given_up": True},
            conditions=(Cond("due_at", "=", note["due_at"]),),
        )
        try:
            self._table.update(later)
        except ConditionFailed:
            return False
        return True

    def gone(self, note: Item) -> None:
        """All of it was taken away: it may be made anew."""
        self._table.update(Update(Key(note["pk"], note["sk"]), set={"gone": True}, remove=(*_DUE, "given_up")))
