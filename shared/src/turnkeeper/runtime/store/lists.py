"""Lists of sessions, newest first: of a tenant or of one of its users, all of them or those of one status.

All of them are in ``by_tenant`` and ``by_user``, where a session keeps its place. ``by_status`` holds a tenant's
sessions by their status, so that the few which are looked for are found among however many others. A user's sessions
of a status have no index of their own: they are looked for in both, among the user's and among those of the status, and
whichever fills the page first is the answer. Either alone is complete.

Heads of 0.1 are in ``by_tenant`` under another key and in ``by_status`` not at all, until their status changes or
:meth:`Lists.take_in` comes by. Until then every list of the tenant's looks among them, too: docs/decisions/0070.
"""

from __future__ import annotations

import base64
import heapq
import json
import logging
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from itertools import chain, cycle, islice, repeat
from typing import NamedTuple

from turnkeeper.core.errors import InvalidRequest
from turnkeeper.core.session import Head
from turnkeeper.runtime.store import codec, keys
from turnkeeper.table import Cond, ConditionFailed, Item, Key, Table, Update

logger = logging.getLogger(__name__)

#: Heads, and keys, that are read at once where more than one page of them has to be looked through.
_HEADS = 100
_KEYS = 1_000
#: What a place in an index may be: DynamoDB takes no longer sort key.
_MAX_PLACE_BYTES = 1_024


class _Place(NamedTuple):
    """Where a session stands in a list: places are in the order of its creation, and no two are alike."""

    created: str
    key: Key


class _Part(NamedTuple):
    """One partition of an index."""

    name: str
    pk: str


class Lists:
    def __init__(self, table: Table) -> None:
        self._table = table

    def page(
        self, tenant_id: str, user_id: str | None, *, status: str | None, limit: int, cursor: str | None
    ) -> tuple[list[Head], str | None]:
        """Newest first; of one user, or of the whole tenant. A page is full while there is something to fill it, and
        has a cursor where something follows.

        Raises:
            InvalidRequest: the cursor is not one of this list.
        """
        name = _name(tenant_id, user_id, status)
        before = None if cursor is None else _place_of(cursor, name)
        of_status = [_earlier(tenant_id), _Part("by_status", keys.by_status(tenant_id, status or ""))]
        if user_id is not None:
            parts = [[_Part("by_user", keys.by_user(tenant_id, user_id))], *([of_status] if status else [])]
        else:
            parts = [of_status if status else _all(tenant_id)]

        def wanted(head: Head) -> bool:
            return status in (None, head.status) and user_id in (None, head.user_id)

        walks = [self._walk(each, before, limit + 1) for each in parts]
        found = _first_filled([(filter(wanted, heads) for heads in walk) for walk in walks], limit + 1)
        heads, more = found[:limit], len(found) > limit
        return heads, _cursor(name, codec.created_key(heads[-1])) if more else None

    def ids(self, tenant_id: str) -> Iterator[str]:
        """All sessions of a tenant, newest first, also those whose heads cannot be read."""
        for place in self._places(_all(tenant_id), None, _KEYS):
            if (owner := keys.session_of_pk(place.key.pk)) is not None:
                yield owner[1]

    def holders(self, tenant_id: str, *, until: str) -> Iterator[Item]:
        """Heads of a tenant's sessions that were begun before ``until`` (ISO 8601), as they are stored, newest first;
        also those that cannot be read."""
        for items in self._items(_all(tenant_id), until, _HEADS):
            yield from map(codec.flattened, items)

    def take_in(self, tenant_id: str) -> int:
        """Put heads of 0.1 where those of this version are; how many there were. For once, when no process of 0.1 runs
        any more: it would change their status and leave their place in the index as it is."""
        taken = 0
        for heads in self._walk([_earlier(tenant_id)], None, _HEADS):
            for head in heads:
                unchanged = (Cond("status", "=", head.status), Cond("tenant_key", "=", keys.tenant_pk(tenant_id)))
                place = codec.list_attributes(head)
                with suppress(ConditionFailed):  # Its status has changed, which has put it there as well.
                    self._table.update(Update(keys.head_key(tenant_id, head.session_id), place, conditions=unchanged))
                    taken += 1
        return taken

    # ---- walking through the indexes ----

    def _walk(self, parts: Sequence[_Part], before: str | None, first: int) -> Iterator[list[Head]]:
        """The heads of these partitions in one order, some at a time: ``first`` as many as a page may need."""
        return (list(_readable(items)) for items in self._items(parts, before, first))

    def _items(self, parts: Sequence[_Part], before: str | None, first: int) -> Iterator[list[Item]]:
        places = self._places(parts, before, first)
        for size in chain([first], repeat(_HEADS)):
            if not (some := [place.key for place in islice(places, size)]):
                return
            yield self._table.batch_get(some)

    def _places(self, parts: Sequence[_Part], before: str | None, first: int) -> Iterator[_Place]:
        # A head that is moved from one partition to the next one just now may be found in both.
        last: _Place | None = None
        for place in heapq.merge(*(self._places_of(part, before, first) for part in parts), reverse=True):
            if place != last:
                yield place
            last = place

    def _places_of(self, part: _Part, before: str | None, first: int) -> Iterator[_Place]:
        cursor: str | None = None
        for size in chain([first + 1], repeat(_KEYS)):
            page = self._table.query(
                part.pk, index=part.name, last=before or "\uffff", limit=size, descending=True, cursor=cursor
            )
            for item in page.items:
                if item["created_key"] != before:
                    yield _Place(item["created_key"], Key(item["pk"], item["sk"]))
            if (cursor := page.cursor) is None:
                return


def _all(tenant_id: str) -> list[_Part]:
    # Those that may move are read before where they move to.
    return [_earlier(tenant_id), _Part("by_tenant", keys.by_tenant(tenant_id))]


def _earlier(tenant_id: str) -> _Part:
    """Where heads of 0.1 are."""
    return _Part("by_tenant", keys.tenant_pk(tenant_id))


def _first_filled(walks: Sequence[Iterator[Iterable[Head]]], number: int) -> list[Head]:
    """``number`` heads, or all there are. The walks take turns, each of which finds the same."""
    for walk, found in cycle([(walk, list[Head]()) for walk in walks]):
        some = next(walk, None)
        found.extend(some or ())
        if some is None or len(found) >= number:
            return found[:number]
    raise AssertionError("a list without a way to find it")


def _readable(items: Iterable[Item]) -> Iterator[Head]:
    for item in items:
        try:
            yield codec.head_of(item)
        except ValueError:
            # One that a later version wrote, or that somebody edited: the others still can be listed.
            logger.exception("the head %s cannot be read", item["pk"])


# ---- cursors ----


def _name(tenant_id: str, user_id: str | None, status: str | None) -> str:
    """What a cursor belongs to."""
    whole = keys.by_tenant(tenant_id) if user_id is None else keys.by_user(tenant_id, user_id)
    return whole if status is None else f"{whole}#{status}"


def _cursor(name: str, place: str) -> str:
    return base64.urlsafe_b64encode(
        json.dumps({"list": name, "before": place}, separators=(",", ":")).encode()
    ).decode()


def _place_of(cursor: str, name: str) -> str:
    # A cursor comes back from outside: what was altered is the caller's fault, and must not become ours.
    try:
        match json.loads(base64.urlsafe_b64decode(cursor.encode())):
            case {"list": str(of), "before": str(place), **more} if of == name and not more:
                if 0 < len(place.encode()) <= _MAX_PLACE_BYTES:
                    return place
    except (ValueError, RecursionError):
        pass
    raise InvalidRequest("The cursor is not one of this list.", errors=[{"where": "cursor", "why": "invalid"}])
