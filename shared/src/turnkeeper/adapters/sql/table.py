"""The table in a database: items as rows, each in wire form, beside the keys that it is found by."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

from turnkeeper.adapters.sql.database import Database, Row, Statements
from turnkeeper.adapters.sql.texts import read, written
from turnkeeper.adapters.table_changes import Changes, page_of
from turnkeeper.adapters.table_rules import (
    INDEXES,
    TTL_ATTRIBUTE,
    Range,
    all_pages,
    check_key,
    check_operation,
    check_operations,
)
from turnkeeper.adapters.table_values import WireItem, item_from_wire
from turnkeeper.table import Check, Item, Key, Operation, Page, Update

#: Columns that are the key of an index.
_INDEXED: Final = tuple(dict.fromkeys(name for names in INDEXES.values() for name in names))
_PARTITIONS: Final = frozenset({"pk", *(partition for partition, _ in INDEXES.values())})
_COLUMNS: Final = ("pk", "sk", "item", "expires_at", *_INDEXED)
_PUT: Final = (
    f"INSERT INTO turnkeeper_items ({', '.join(_COLUMNS)}) VALUES ({', '.join('?' * len(_COLUMNS))}) "
    "ON CONFLICT (pk, sk) DO UPDATE SET "
    + ", ".join(f"{name} = excluded.{name}" for name in _COLUMNS if name not in ("pk", "sk"))
)

#: A partition's key of more bytes than this is cut in columns, since an entry of an index has a limit.
_PARTITION_BYTES = 200
_KEYS_A_BATCH = 100
_FIRST_ROWS, _MOST_ROWS = 64, 1024


class SqlTable:
    """A :class:`turnkeeper.table.Table`. Safe to share between threads.

    A write locks all its items before it reads them, so that its conditions hold when it is committed; writes that only
    check an item do not wait for each other. Each write that changes something leaves its changes, and a token by which
    it is known again, in the feed (``feed``), in the same transaction. ``on_request`` hears the same names as that of
    the DynamoDB table.
    """

    def __init__(self, database: Database, *, on_request: Callable[[str], None] | None = None) -> None:
        self._database = database
        self._on_request = on_request

    def get(self, key: Key) -> Item | None:
        check_key(key)
        self._count("GetItem")
        found = self._database.read(lambda statements: _items(statements, [key]))
        return item_from_wire(found[key]) if key in found else None

    def batch_get(self, keys: Sequence[Key]) -> list[Item]:
        for key in keys:
            check_key(key)
        distinct = list(dict.fromkeys(keys))
        found: dict[Key, WireItem] = {}
        for start in range(0, len(distinct), _KEYS_A_BATCH):
            batch = distinct[start : start + _KEYS_A_BATCH]
            self._count("BatchGetItem")
            found |= self._database.read(lambda statements, batch=batch: _items(statements, batch))  # type: ignore[misc]
        return [item_from_wire(found[key]) for key in keys if key in found]

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
        if bounds.empty:
            return Page([])
        self._count("Query")
        return page_of(self._found(bounds, limit, descending), bounds, limit)

    def query_all(self, pk: str, *, first: str = "", last: str = "\uffff") -> list[Item]:
        return all_pages(self, pk, first=first, last=last)

    def partitions(self, index: str) -> Iterator[str]:
        partition, sort = INDEXES[index]
        sql = (
            f"SELECT {partition}, item FROM turnkeeper_items "
            f"WHERE {partition} > ? AND {sort} IS NOT NULL ORDER BY {partition} LIMIT 1"
        )
        last = b""
        while True:
            self._count("Scan")
            found = self._database.read(lambda statements, last=last: statements.rows(sql, last))  # type: ignore[misc]
            if not found:
                return
            last = bytes(found[0][0])
            yield read(found[0][1])[partition]["S"]

    def write(self, operations: Sequence[Operation]) -> None:
        check_operations(operations)
        if not operations:
            return
        self._count("TransactWriteItems")
        changes, token = Changes(operations), secrets.token_bytes(16)

        def work(statements: Statements, lost: bool) -> None:
            # While it holds the items of an attempt that may have been committed, that one has come to its end.
            old = _locked(statements, operations)
            if not lost or not statements.rows("SELECT 1 FROM turnkeeper_feed WHERE token = ?", token):
                _store(statements, self._database, operations, old, changes.of(old), token)

        self._database.write(work)
        self._database.bell.ring()

    def update(self, operation: Update) -> Item:
        check_operation(operation)
        self._count("UpdateItem")
        changes, token = Changes([operation]), secrets.token_bytes(16)

        def work(statements: Statements, _lost: bool) -> WireItem | None:
            old = _locked(statements, [operation])
            new = changes.of(old)
            _store(statements, self._database, [operation], old, new, token)
            return new[0]

        new = self._database.write(work, repeatable=not operation.add)
        self._database.bell.ring()
        assert new is not None
        return item_from_wire(new)

    def expire(self, most: int = 100) -> int:
        """Delete items whose time is over, as a time to live does, at most so many; how many were due."""
        due = (
            "SELECT pk, sk FROM turnkeeper_items "
            f"WHERE expires_at IS NOT NULL AND expires_at < {self._database.now} ORDER BY expires_at LIMIT ?"
        )
        # Somebody may have given one more time before it was locked.
        gone = (
            f"DELETE FROM turnkeeper_items WHERE pk = ? AND sk = ? AND expires_at < {self._database.now} RETURNING item"
        )

        def work(statements: Statements, _lost: bool) -> int:
            places = [(bytes(pk), bytes(sk)) for pk, sk in statements.rows(due, most)]
            statements.lock([(_name(*place), True) for place in places])
            items = [read(row[0]) for place in places for row in statements.rows(gone, *place)]
            if items:
                _tell(statements, self._database, [(item, None) for item in items], secrets.token_bytes(16))
            return len(places)

        return self._database.write(work)

    def _found(self, bounds: Range, limit: int | None, descending: bool) -> Iterator[WireItem]:
        """What lies within the bounds, in order; read by and by, as much as somebody asks for."""
        place = _start_of(bounds.start, bounds) if bounds.start else None
        rows = _FIRST_ROWS
        while True:
            most = min(rows, limit or rows)
            sql, values = _query(bounds, place, descending)
            found = self._database.read(
                lambda statements, sql=sql, values=values, most=most: statements.rows(sql, *values, most)  # type: ignore[misc]
            )
            for row in found:
                yield _projected(row, bounds)
            if len(found) < most:
                return
            place = tuple(bytes(column) for column in found[-1][:-1])
            rows = min(2 * rows, _MOST_ROWS)

    def _count(self, name: str) -> None:
        if self._on_request:
            self._on_request(name)


# ---- rows ----


def _items(statements: Statements, keys: Sequence[Key]) -> dict[Key, WireItem]:
    values = [part for key in keys for part in _place_of(key)]
    found = statements.rows(
        f"WITH wanted (pk, sk) AS (VALUES {', '.join(['(?, ?)'] * len(keys))}) "
        "SELECT item FROM wanted JOIN turnkeeper_items USING (pk, sk)",
        *values,
    )
    return {Key(item["pk"]["S"], item["sk"]["S"]): item for item in (read(row[0]) for row in found)}


def _locked(statements: Statements, operations: Sequence[Operation]) -> list[WireItem | None]:
    """The items as they stand, which nobody else changes from here on."""
    statements.lock([(_name(*_place_of(operation.key)), not isinstance(operation, Check)) for operation in operations])
    found = _items(statements, [operation.key for operation in operations])
    return [found.get(operation.key) for operation in operations]


def _store(
    statements: Statements,
    database: Database,
    operations: Sequence[Operation],
    old: Sequence[WireItem | None],
    new: Sequence[WireItem | None],
    token: bytes,
) -> None:
    changed = [
        (operation.key, before, after)
        for operation, before, after in zip(operations, old, new, strict=True)
        if after is not None and before != after
    ]
    if changed:
        statements.many(_PUT, [_row(key, after) for key, _, after in changed])
        _tell(statements, database, [(before, after) for _, before, after in changed], token)


def _tell(
    statements: Statements, database: Database, changes: Sequence[tuple[WireItem | None, WireItem | None]], token: bytes
) -> None:
    """Leave the changes of this transaction for whoever follows the feed."""
    text = written([{"old": old, "new": new} for old, new in changes])
    statements.many(
        "INSERT INTO turnkeeper_feed (transaction_number, at, token, changes) "
        f"VALUES ({database.transaction_number}, {database.now}, ?, ?)",
        [(token, text)],
    )


def _row(key: Key, item: WireItem) -> Row:
    return (*_place_of(key), written(item), _expires_at(item), *(_column(item, name) for name in _INDEXED))


def _column(item: WireItem, name: str) -> bytes | None:
    text = item[name]["S"] if name in item else None
    return None if text is None else _place(text) if name in _PARTITIONS else text.encode()


def _expires_at(item: WireItem) -> int | None:
    number = item.get(TTL_ATTRIBUTE, {}).get("N")
    # More than a column holds is never.
    return int(number) if number is not None and 0 <= int(number) < 1 << 62 else None


def _place(partition: str) -> bytes:
    """A partition's key as its column has it: the same for the same key, and never longer than an index takes."""
    key = partition.encode()
    if len(key) < _PARTITION_BYTES:
        return key
    return key[: _PARTITION_BYTES - 32] + hashlib.sha256(key).digest()


def _place_of(key: Key) -> tuple[bytes, bytes]:
    return _place(key.pk), key.sk.encode()


def _name(pk: bytes, sk: bytes) -> bytes:
    """What an item is locked by. No two items have one: the length tells where the partition's key ends."""
    return len(pk).to_bytes(2) + pk + sk


# ---- queries ----


def _columns(bounds: Range) -> tuple[str, ...]:
    """What orders the rows of a query: its sort key, and the item's own key behind it."""
    return ("sk",) if bounds.sort_name == "sk" else (bounds.sort_name, "pk", "sk")


def _start_of(start: Any, bounds: Range) -> tuple[bytes, ...]:
    return tuple(_place(start[name]) if name == "pk" else start[name].encode() for name in _columns(bounds))


def _query(bounds: Range, after: tuple[bytes, ...] | None, descending: bool) -> tuple[str, list[bytes]]:
    columns = _columns(bounds)
    on_index = len(columns) > 1
    sort = bounds.sort_name
    where, values = [f"{bounds.partition_name} = ?"], [_place(bounds.partition)]
    if on_index:
        where.append(f"{sort} IS NOT NULL")
    for text, sign in ((bounds.first, ">="), (bounds.last, "<=")):
        if text is not None:
            where.append(f"{sort} {sign} ?")
            values.append(text.encode())
    if after is not None:
        where.append(f"({', '.join(columns)}) {'<' if descending else '>'} ({', '.join('?' * len(columns))})")
        values += after
    order = ", ".join(f"{name} DESC" if descending else name for name in columns)
    # An index projects keys only: the item itself is read where a key of it was cut.
    item = f"CASE WHEN length(pk) = {_PARTITION_BYTES} THEN item END" if on_index else "item"
    return (
        f"SELECT {', '.join(columns)}, {item} FROM turnkeeper_items "
        f"WHERE {' AND '.join(where)} ORDER BY {order} LIMIT ?",
        values,
    )


def _projected(row: Row, bounds: Range) -> WireItem:
    if bounds.sort_name == "sk":
        return read(row[1])
    sort, pk, sk, item = row
    if item is not None:
        whole = read(item)
        return {name: whole[name] for name in bounds.key_names}
    texts = {
        bounds.partition_name: bounds.partition,
        bounds.sort_name: bytes(sort).decode(),
        "pk": bytes(pk).decode(),
        "sk": bytes(sk).decode(),
    }
    return {name: {"S": text} for name, text in texts.items()}
