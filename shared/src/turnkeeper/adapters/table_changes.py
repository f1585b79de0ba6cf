"""What a write makes of items, judged where they are at hand: the rules of DynamoDB for every table that has to judge
conditions and apply changes by itself. Pure; in wire form."""

from __future__ import annotations

import base64
import operator
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from turnkeeper.adapters.table_rules import (
    MAX_ITEM_BYTES,
    MAX_PAGE_BYTES,
    MAX_WRITE_BYTES,
    Range,
    check_index_keys,
    cursor_of,
    put_to_wire,
)
from turnkeeper.adapters.table_values import (
    InvalidOperation,
    WireItem,
    WireValue,
    item_from_wire,
    item_size,
    item_to_wire,
    to_wire,
)
from turnkeeper.table import AnyOf, Check, Cond, Condition, ConditionFailed, Operation, Page, Put, Update

#: What one operation makes of the item that it names.
_Change = Callable[[WireItem | None], WireItem | None]


class Changes:
    """Operations of one write, which were checked (``table_rules``). Values that no table holds fail here, before any
    condition is judged, as they would before anything is sent."""

    def __init__(self, operations: Sequence[Operation]) -> None:
        self._conditions = [[_prepare(each) for each in operation.conditions] for operation in operations]
        self._changes = [_change(operation) for operation in operations]

    def of(self, old: Sequence[WireItem | None]) -> list[WireItem | None]:
        """The items as they are to be, of those that stand, both in the order of the operations.

        Raises:
            ConditionFailed: names every operation whose conditions do not hold.
            InvalidOperation: the items would be over a limit, or something is added to what is no number.
        """
        failures = {
            number: None if item is None else item_from_wire(item)
            for number, item in enumerate(old)
            if not all(holds(item) for holds in self._conditions[number])
        }
        if failures:
            raise ConditionFailed(failures)
        new = [change(item) for change, item in zip(self._changes, old, strict=True)]
        if sum(item_size(item) for item in new if item) > MAX_WRITE_BYTES:
            raise InvalidOperation(f"a write of more than {MAX_WRITE_BYTES} bytes")
        return new


def page_of(found: Iterable[WireItem], bounds: Range, limit: int | None) -> Page:
    """As much of what was found, in its order, as one page holds."""
    page: list[WireItem] = []
    size = 0
    for item in found:
        page.append(item)
        size += item_size(item)
        if len(page) == limit or size >= MAX_PAGE_BYTES:
            # As DynamoDB does it: a page that is full has a cursor, also where nothing follows.
            place = {name: item[name]["S"] for name in bounds.key_names}
            return Page([item_from_wire(each) for each in page], cursor_of(place))
    return Page([item_from_wire(each) for each in page])


def _prepare(condition: Condition) -> Callable[[WireItem | None], bool]:
    if isinstance(condition, AnyOf):
        alternatives = [_prepare(each) for each in condition.conditions]
        return lambda item: any(holds(item) for holds in alternatives)
    operand = to_wire(condition.value)
    return lambda item: _holds(condition, operand, (item or {}).get(condition.attribute))


def _holds(condition: Cond, operand: WireValue, value: WireValue | None) -> bool:
    if condition.op == "absent":
        return value is None
    if value is None or condition.op == "exists":
        return value is not None
    if condition.op in _EQUALITY:
        return _EQUALITY[condition.op](value, operand)
    # Values of two types have no order.
    return value.keys() == operand.keys() and _ORDER[condition.op](_ordered(value), _ordered(operand))


_EQUALITY: dict[str, Callable[[WireValue, WireValue], bool]] = {"=": operator.eq, "<>": operator.ne}
_ORDER: dict[str, Callable[[Any, Any], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


def _ordered(value: WireValue) -> Any:
    ((kind, content),) = value.items()
    return int(content) if kind == "N" else base64.b64decode(content) if kind == "B" else content


def _change(operation: Operation) -> _Change:
    match operation:
        case Put():
            item = _within_limits(put_to_wire(operation))
            return lambda _: item
        case Update():
            to_set = item_to_wire(operation.set)
            check_index_keys(to_set)
            to_add = {name: (amount, to_wire(amount)) for name, amount in operation.add.items()}
            return lambda old: _updated(operation, to_set, to_add, old)
        case Check():
            return lambda old: old


def _updated(
    operation: Update, to_set: WireItem, to_add: dict[str, tuple[int, WireValue]], old: WireItem | None
) -> WireItem:
    item = dict(old) if old else {"pk": {"S": operation.key.pk}, "sk": {"S": operation.key.sk}}
    for name, (amount, wire) in to_add.items():
        before = item.get(name)
        if before is None:
            item[name] = wire
        elif "N" in before:
            item[name] = to_wire(int(before["N"]) + amount)
        else:
            raise InvalidOperation(f"{name} of {operation.key} is no number to add to")
    for name in operation.remove:
        item.pop(name, None)
    return _within_limits(item | to_set)


def _within_limits(item: WireItem) -> WireItem:
    if item_size(item) > MAX_ITEM_BYTES:
        raise InvalidOperation(f"an item of more than {MAX_ITEM_BYTES} bytes")
    return item
