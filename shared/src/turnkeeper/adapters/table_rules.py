"""What every table refuses, and how it pages: the rules that DynamoDB has, checked before anything is sent.

Checked here they fail the same way in memory, on the emulator and in the account, and name the operation at fault.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from turnkeeper.adapters.table_values import InvalidOperation, WireItem, item_to_wire
from turnkeeper.core.errors import InvalidRequest
from turnkeeper.table import AnyOf, Check, Condition, Item, Key, Operation, Put, Table, Update

#: Each index with its partition and sort key; they project keys only.
INDEXES: Mapping[str, tuple[str, str]] = {
    "by_user": ("user_key", "created_key"),
    "by_tenant": ("tenant_key", "created_key"),
    "by_status": ("status_key", "created_key"),
    "due": ("due_shard", "due_at"),
}

#: Epoch seconds after which DynamoDB may delete an item.
TTL_ATTRIBUTE = "expires_at_epoch"

MAX_OPERATIONS = 100
MAX_ITEM_BYTES = 400 * 1024
MAX_WRITE_BYTES = 4 * 1024 * 1024
MAX_PAGE_BYTES = 1024 * 1024

#: The default upper end of a range: no bound.
NO_LAST = "\uffff"

_KEY_BYTES = {"pk": 2048, "sk": 1024}
for _partition, _sort in INDEXES.values():
    _KEY_BYTES |= {_partition: 2048, _sort: 1024}


#: Operators of conditions.
WITHOUT_VALUE = frozenset({"exists", "absent"})
_ORDERED = frozenset({"<", "<=", ">", ">="})

# ---- writes ----


def check_operations(operations: Sequence[Operation]) -> None:
    """Raises InvalidOperation where no table could take them."""
    if len(operations) > MAX_OPERATIONS:
        raise InvalidOperation(f"{len(operations)} operations in one write, at most {MAX_OPERATIONS}")
    seen: set[Key] = set()
    for operation in operations:
        if operation.key in seen:
            raise InvalidOperation(f"two operations on {operation.key} in one write")
        seen.add(operation.key)
        check_operation(operation)


def check_operation(operation: Operation) -> None:
    check_key(operation.key)
    for condition in operation.conditions:
        _check_condition(condition)
    match operation:
        case Put():
            for name, expected in (("pk", operation.key.pk), ("sk", operation.key.sk)):
                if operation.item.get(name, expected) != expected:
                    raise InvalidOperation(f"the item's {name} is not that of {operation.key}")
        case Update():
            _check_update(operation)
        case Check():
            if not operation.conditions:
                raise InvalidOperation(f"a check of {operation.key} without a condition")


def _check_update(operation: Update) -> None:
    names = [*operation.set, *operation.add, *operation.remove]
    if not names:
        raise InvalidOperation(f"an update of {operation.key} that changes nothing")
    if len(set(names)) < len(names):
        raise InvalidOperation(f"an update of {operation.key} names an attribute twice")
    if {"pk", "sk"} & set(names):
        raise InvalidOperation(f"an update of {operation.key} would change its key")
    for name, amount in operation.add.items():
        if isinstance(amount, bool) or not isinstance(amount, int):
            raise TypeError(f"add counts in integers: {name} in {operation.key}")
        if name in _KEY_BYTES:
            raise InvalidOperation(f"{name} is a key of an index, which holds strings")


def put_to_wire(operation: Put) -> WireItem:
    """The item as it is stored, with its key."""
    wire = item_to_wire({**operation.item, "pk": operation.key.pk, "sk": operation.key.sk})
    check_index_keys(wire)
    return wire


def check_index_keys(item: WireItem) -> None:
    """An attribute that is the key of an index is a string of at least one character, or is not there at all."""
    for name in _KEY_BYTES.keys() & item.keys():
        text = item[name].get("S")
        if not text:
            raise InvalidOperation(f"{name} is a key of an index: a string that is not empty, or nothing")
        _check_length(name, text)


def check_key(key: Key) -> None:
    for name, text in (("pk", key.pk), ("sk", key.sk)):
        if not isinstance(text, str) or not text:
            raise InvalidOperation(f"{name} is a string that is not empty: {key}")
        _check_length(name, text)


def _check_length(name: str, text: str) -> None:
    if len(text if text.isascii() else text.encode()) > _KEY_BYTES[name]:
        raise InvalidOperation(f"{name} is longer than {_KEY_BYTES[name]} bytes")


def _check_condition(condition: Condition) -> None:
    if isinstance(condition, AnyOf):
        if not condition.conditions:
            raise InvalidOperation("AnyOf of nothing never holds")
        for each in condition.conditions:
            _check_condition(each)
    elif condition.op in WITHOUT_VALUE:
        if condition.value is not None:
            raise InvalidOperation(f"{condition.op} takes no value: {condition.attribute}")
    elif condition.op in _ORDERED and (
        isinstance(condition.value, bool) or not isinstance(condition.value, str | int | bytes | float)
    ):
        raise InvalidOperation(f"only strings, integers and bytes have an order: {condition.attribute}")


# ---- queries ----


def all_pages(table: Table, pk: str, *, first: str, last: str) -> list[Item]:
    """What a table's ``query_all`` gives: one page after the other."""
    page = table.query(pk, first=first, last=last)
    items = page.items
    while page.cursor:
        page = table.query(pk, first=first, last=last, cursor=page.cursor)
        items.extend(page.items)
    return items


@dataclass(frozen=True, slots=True)
class Range:
    """One query, checked: the names of its keys, its bounds (``None``: no bound) and where it goes on."""

    partition_name: str
    sort_name: str
    partition: str
    first: str | None
    last: str | None
    start: Mapping[str, str] | None

    @classmethod
    def of(cls, pk: str, *, first: str, last: str, index: str | None, limit: int | None, cursor: str | None) -> Range:
        """Raises InvalidOperation, or InvalidRequest for a cursor that is not from this query."""
        if index is not None and index not in INDEXES:
            raise InvalidOperation(f"no index {index}")
        if limit is not None and limit < 1:
            raise InvalidOperation("a limit is at least 1")
        if not pk:
            raise InvalidOperation("a query names its partition")
        partition_name, sort_name = INDEXES[index] if index else ("pk", "sk")
        bounds = cls(
            partition_name=partition_name,
            sort_name=sort_name,
            partition=pk,
            first=first or None,
            last=None if last == NO_LAST else last,
            start=None,
        )
        return bounds if cursor is None else replace(bounds, start=bounds._read(cursor))

    @property
    def empty(self) -> bool:
        """No key can lie in it. DynamoDB refuses such a range instead of finding nothing."""
        return self.last is not None and (self.last == "" or (self.first is not None and self.first > self.last))

    @property
    def key_names(self) -> tuple[str, ...]:
        """The attributes that a place in this query is made of."""
        return tuple(dict.fromkeys((self.partition_name, self.sort_name, "pk", "sk")))

    def covers(self, sort: str) -> bool:
        return (self.first is None or self.first <= sort) and (self.last is None or sort <= self.last)

    def _read(self, cursor: str) -> Mapping[str, str]:
        # A cursor comes back from outside: what was altered is the caller's fault, and must not become ours.
        try:
            start = json.loads(base64.urlsafe_b64decode(cursor.encode()))
        except (ValueError, RecursionError):
            start = None
        if (
            not isinstance(start, dict)
            or start.keys() != set(self.key_names)
            or not all(isinstance(value, str) and value for value in start.values())
            or start[self.partition_name] != self.partition
            or not self.covers(start[self.sort_name])
        ):
            raise InvalidRequest("The cursor is not one of this list.", errors=[{"where": "cursor", "why": "invalid"}])
        return start


def cursor_of(start: Mapping[str, Any]) -> str:
    return base64.urlsafe_b64encode(json.dumps(start, separators=(",", ":")).encode()).decode()
