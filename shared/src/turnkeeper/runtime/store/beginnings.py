"""Copies of long conversations, which no transaction can hold: their entries are written before their head.

Until the head is there, nobody knows the session: what was written of one whose process died would stay for good, and
no erasure would find it. So it is noted before that it has begun, and the last write, which brings the head, says that
it is whole. What is not whole after an hour the sweep takes away.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta

from turnkeeper.core.ledger import iso
from turnkeeper.core.session import Head
from turnkeeper.runtime.store import due, keys
from turnkeeper.table import ABSENT, Cond, ConditionFailed, Item, Key, Put, Table, Update

#: Much more than the writes of the longest copy take.
_WHOLE_WITHIN = timedelta(hours=1)
_DUE = ("due_shard", "due_at")


def begun(head: Head, now: datetime) -> Put:
    """For the first write: the session has begun, and is not whole."""
    due = {"due_shard": keys.begun_shard(head.session_id), "due_at": iso(now + _WHOLE_WITHIN)}
    return Put(keys.begun_key(head.tenant_id, head.session_id), due, (ABSENT,))


def whole(note: Put) -> Update:
    """For the last write: it is, unless the sweep has begun to take it away."""
    return Update(note.key, remove=_DUE, conditions=(Cond("due_at", "=", note.item["due_at"]),))


class Beginnings:
    """For the sweep: those that will never be whole."""

    def __init__(self, table: Table) -> None:
        self._table = table

    def due(self, now: datetime, shard: int) -> Iterator[Item]:
        """Notes of sessions that were to be whole by now. Each has ``pk``, ``sk`` and ``due_at``."""
        found = due.late(self._table, f"BEGUN#{shard}", now, put_off_seconds=_WHOLE_WITHIN.total_seconds())
        return (note for note in found if "due_at" in note)

    def give_up(self, note: Item, now: datetime) -> bool:
        """From now on the session cannot become whole any more; False where it is, or somebody else takes it away. It
        is due again later, in case that this one dies."""
        later = Update(
            Key(note["pk"], note["sk"]),
            set={"due_at": iso(now + _WHOLE_WITHIN)},
            conditions=(Cond("due_at", "=", note["due_at"]),),
        )
        try:
            self._table.update(later)
        except ConditionFailed:
            return False
        return True

    def gone(self, note: Item) -> None:
        """All of it was taken away."""
        self._table.update(Update(Key(note["pk"], note["sk"]), remove=_DUE))
