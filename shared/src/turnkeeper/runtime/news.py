"""What is new of a session, in one read: for who has seen all that there was, and looks again."""

from __future__ import annotations

from dataclasses import dataclass

from turnkeeper.core.errors import SessionNotFound
from turnkeeper.core.session import Entry, Head
from turnkeeper.runtime.store import codec, keys
from turnkeeper.table import Blobs, Table


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
    key = keys.head_key(head.tenant_id, head.session_id)
    # Nothing lies between the entries and the head. Without an entry this is as many read units as the head alone.
    first = keys.entry_key(head.tenant_id, head.session_id, after + 1)
    items = table.query(key.pk, first=first.sk, last=key.sk).items
    if not items:
        raise SessionNotFound(f"there is no session {head.session_id}", session_id=head.session_id)
    if items[-1]["sk"] == key.sk:
        head = codec.head_of(items.pop())
    read = [codec.entry_of(item, blobs) for item in items]
    # A page is no snapshot: what was read behind a gap is for the next look.
    return News(head, tuple(entry for seq, entry in enumerate(read, after + 1) if entry.seq == seq))
