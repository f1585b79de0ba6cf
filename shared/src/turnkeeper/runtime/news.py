"""What is new of a session, in one read: for who has seen all that there was, and looks again."""

from __future__ import annotations

from dataclasses import dataclass

from turnkeeper.core.errors import SessionNotFound
from turnkeeper.core.session import Entry, Head
from turnkeeper.runtime.store import codec, keys
from turnkeeper.runtime.store.records import Records
from turnkeeper.table import Blobs, Item, Table


@dataclass(frozen=True, slots=True)
class News:
    """A session's head, and entries that were read with it. The two are not of one moment: entries may be further than
    the head is, or less far."""

    head: Head
    entries: tuple[Entry, ...] = ()


def next_look(began: float, ended: float, gap: float) -> float:
    """When to look again: what a look takes is part of the gap. A slow table is left half of it all the same."""
    return max(began + gap, ended + gap / 2)


def news_of(table: Table, blobs: Blobs, head: Head, *, after: int) -> News:
    """The entries behind a seq, none of them left out, and the head; as it was given where so many entries came that
    it is on another page.

    Raises:
        SessionNotFound: the session is gone.
    """
    head, items = _look(table, head, after)
    return News(head, tuple(codec.entry_of(item, blobs) for item in items))


class Awaited:
    """A turn, as whoever waits for its end sees it: each look reads the head and the entries that came since the wait
    began, each of them once, so that the answer has come with the head that tells of it."""

    def __init__(self, table: Table, blobs: Blobs, head: Head) -> None:
        self._table = table
        self._blobs = blobs
        self._began = self._after = head.last_seq
        self._answer: Item | None = None
        self.head = head

    def look(self) -> Head:
        """Raises SessionNotFound: the session is gone."""
        self.head, items = _look(self._table, self.head, self._after)
        for item in items:
            self._after = item["seq"]
            if item["type"] == "assistant":
                self._answer = item
        return self.head

    def answer(self) -> Entry | None:
        """The last thing that the model said in the turn, up to where the head is. It is read where no look has found
        it: a query is no snapshot, of what was written while it was made it may have found the head alone."""
        head = self.head
        if self._after >= head.last_seq and head.status != "erased":
            # Behind a rewind, what it took back is not the turn's any more.
            if self._answer is not None and self._answer["seq"] > head.turn.seq:
                return codec.entry_of(self._answer, self._blobs)
            if self._began <= head.turn.seq:
                return None
        return Records(self._table, self._blobs).latest_answer(head.tenant_id, head.session_id, since=head.turn.seq)


def _look(table: Table, head: Head, after: int) -> tuple[Head, list[Item]]:
    key = keys.head_key(head.tenant_id, head.session_id)
    # Nothing lies between the entries and the head. Without an entry this is as many read units as the head alone.
    first = keys.entry_key(head.tenant_id, head.session_id, after + 1)
    items = table.query(key.pk, first=first.sk, last=key.sk).items
    if not items:
        raise SessionNotFound(f"there is no session {head.session_id}", session_id=head.session_id)
    if items[-1]["sk"] == key.sk:
        head = codec.head_of(items.pop())
    # A page is no snapshot: what was read behind a gap is for the next look.
    return head, [item for seq, item in enumerate(items, after + 1) if item["seq"] == seq]
