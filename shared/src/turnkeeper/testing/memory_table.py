"""The table in memory: what DynamoDB promises, and what it refuses, under one lock."""

from __future__ import annotations

import threading
from bisect import bisect_left, bisect_right, insort
from collections.abc import Callable, Iterable, Iterator, Sequence

from turnkeeper.adapters.table_changes import Changes, page_of
from turnkeeper.adapters.table_rules import INDEXES, Range, all_pages, check_key, check_operation, check_operations
from turnkeeper.adapters.table_values import WireItem, item_from_wire
from turnkeeper.table import Check, Item, Key, Operation, Page, Update

#: Hears every change, in order, as the item was and as it is.
OnChange = Callable[[Item | None, Item | None], None]

#: A place in a view: the sort key, then the item's key, which tells equal sort keys of an index apart.
_Place = tuple[str, str, str]

_BASE = ("pk", "sk")


class MemoryTable:
    """A :class:`turnkeeper.table.Table` in memory. Items are kept in wire form, so that no caller shares state with it.

    ``on_change`` is the table's stream: called after the write, under the lock, so that the changes of an item come in
    their order; it should only take note. ``on_request`` hears the same names as that of the DynamoDB table.
    """

    def __init__(self, *, on_change: OnChange | None = None, on_request: Callable[[str], None] | None = None) -> None:
        self._lock = threading.RLock()
        self._items: dict[Key, WireItem] = {}
        self._views = {names: _View(*names) for names in (_BASE, *INDEXES.values())}
        self.on_change = on_change
        self.on_request = on_request

    def get(self, key: Key) -> Item | None:
        check_key(key)
        with self._lock:
            self._count("GetItem")
            return _read(self._items.get(key))

    def batch_get(self, keys: Sequence[Key]) -> list[Item]:
        for key in keys:
            check_key(key)
        with self._lock:
            for _ in range(0, len(set(keys)), 100):
                self._count("BatchGetItem")
            return [item_from_wire(self._items[key]) for key in keys if key in self._items]

    def query(
        self,
        pk: str,
        *,
        first: str = "",
        last: str = "\uffff",
        index: str | None = None,
        limit: int | None = None,
        descending: bool = False,
        cursor: str | None = None,
    ) -> Page:
        bounds = Range.of(pk, first=first, last=last, index=index, limit=limit, cursor=cursor)
        with self._lock:
            self._count("Query")
            places = self._views[bounds.partition_name, bounds.sort_name].between(bounds, descending)
            items = (self._items[Key(item_pk, item_sk)] for _, item_pk, item_sk in places)
            found = ({name: item[name] for name in bounds.key_names} for item in items) if index else items
            return page_of(found, bounds, limit)

    def query_all(self, pk: str, *, first: str = "", last: str = "\uffff") -> list[Item]:
        return all_pages(self, pk, first=first, last=last)

    def partitions(self, index: str) -> Iterator[str]:
        partition, sort = INDEXES[index]
        with self._lock:
            self._count("Scan")
            found = {item[partition]["S"] for item in self._items.values() if partition in item and sort in item}
        return iter(found)

    def write(self, operations: Sequence[Operation]) -> None:
        check_operations(operations)
        if not operations:
            return
        with self._lock:
            self._count("TransactWriteItems")
            self._commit(operations)

    def update(self, operation: Update) -> Item:
        check_operation(operation)
        with self._lock:
            self._count("UpdateItem")
            self._commit([operation])
            return item_from_wire(self._items[operation.key])

    def snapshot(self) -> list[Item]:
        """All items, by key: for tests to look at."""
        with self._lock:
            return [item_from_wire(self._items[key]) for key in sorted(self._items, key=lambda key: (key.pk, key.sk))]

    # ---- inside the lock ----

    def _commit(self, operations: Sequence[Operation]) -> None:
        old = [self._items.get(operation.key) for operation in operations]
        new = Changes(operations).of(old)
        for operation, before, after in zip(operations, old, new, strict=True):
            if isinstance(operation, Check) or after is None:
                continue
            self._items[operation.key] = after
            for view in self._views.values():
                view.replace(operation.key, before, after)
        if self.on_change:
            for before, after in zip(old, new, strict=True):
                if before != after:
                    self.on_change(_read(before), _read(after))

    def _count(self, name: str) -> None:
        if self.on_request:
            self.on_request(name)


class _View:
    """The table, or one of its indexes: places by partition, sorted. Items without its keys are not in it."""

    def __init__(self, partition_name: str, sort_name: str) -> None:
        self._partition_name = partition_name
        self._sort_name = sort_name
        self._partitions: dict[str, list[_Place]] = {}

    def replace(self, key: Key, before: WireItem | None, after: WireItem) -> None:
        was, now = self._place(key, before), self._place(key, after)
        if was == now:
            return
        if was:
            places = self._partitions[was[0]]
            del places[bisect_left(places, was[1])]
        if now:
            insort(self._partitions.setdefault(now[0], []), now[1])

    def between(self, bounds: Range, descending: bool) -> Iterable[_Place]:
        places = self._partitions.get(bounds.partition, [])
        start = 0 if bounds.first is None else bisect_left(places, (bounds.first,))
        end = len(places) if bounds.last is None else bisect_right(places, bounds.last, key=lambda place: place[0])
        if bounds.start:
            here = (bounds.start[bounds.sort_name], bounds.start["pk"], bounds.start["sk"])
            if descending:
                end = min(end, bisect_left(places, here))
            else:
                start = max(start, bisect_right(places, here))
        found = places[start:end]
        return reversed(found) if descending else found

    def _place(self, key: Key, item: WireItem | None) -> tuple[str, _Place] | None:
        if item is None or self._partition_name not in item or self._sort_name not in item:
            return None
        return item[self._partition_name]["S"], (item[self._sort_name]["S"], key.pk, key.sk)


def _read(item: WireItem | None) -> Item | None:
    return None if item is None else item_from_wire(item)
