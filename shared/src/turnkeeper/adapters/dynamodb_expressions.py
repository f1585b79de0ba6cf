"""Structured conditions and changes as DynamoDB expressions.

Every name and every value goes through a placeholder: no reserved words, and nothing a caller sends can become part
of an expression.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from turnkeeper.adapters.table_rules import WITHOUT_VALUE, Range, check_index_keys, put_to_wire
from turnkeeper.adapters.table_values import WireItem, WireValue, item_to_wire, to_wire
from turnkeeper.table import AnyOf, Check, Condition, Key, Operation, Put, Update

Arguments = dict[str, Any]


class _Placeholders:
    def __init__(self) -> None:
        self._names: dict[str, str] = {}
        self._values = 0

    def name(self, attribute: str) -> str:
        return self._names.setdefault(attribute, f"#{len(self._names)}")

    def value(self) -> str:
        self._values += 1
        return f":{self._values - 1}"

    @property
    def names(self) -> Arguments:
        """DynamoDB refuses the map when it is empty, as it does that of the values."""
        names = {placeholder: name for name, placeholder in self._names.items()}
        return {"ExpressionAttributeNames": names} if names else {}


def _values(wires: Sequence[WireValue]) -> Arguments:
    return {"ExpressionAttributeValues": {f":{n}": wire for n, wire in enumerate(wires)}} if wires else {}


def key_to_wire(key: Key) -> WireItem:
    return {"pk": {"S": key.pk}, "sk": {"S": key.sk}}


def transaction_entry(operation: Operation, table_name: str) -> Arguments:
    """One entry of TransactWriteItems."""
    match operation:
        case Put():
            conditions = _expressions(_NOTHING, operation.conditions, [])
            return {"Put": {"TableName": table_name, "Item": put_to_wire(operation), **conditions}}
        case Update():
            return {"Update": {"TableName": table_name, **update_arguments(operation)}}
        case Check():
            key = key_to_wire(operation.key)
            conditions = _expressions(_NOTHING, operation.conditions, [])
            return {"ConditionCheck": {"TableName": table_name, "Key": key, **conditions}}


def update_arguments(operation: Update) -> Arguments:
    to_set = item_to_wire(operation.set)
    check_index_keys(to_set)
    values = [*to_set.values(), *map(to_wire, operation.add.values())]
    changed = tuple(to_set), tuple(operation.add), tuple(operation.remove)
    return {"Key": key_to_wire(operation.key), **_expressions(changed, operation.conditions, values)}


def key_condition(bounds: Range) -> Arguments:
    """A missing bound is left out: DynamoDB takes no empty string as the key to begin with."""
    placeholders, first, last = _Placeholders(), bounds.first, bounds.last
    condition = f"{placeholders.name(bounds.partition_name)} = {placeholders.value()}"
    sort = placeholders.name(bounds.sort_name) if first is not None or last is not None else ""
    if first is not None and last is not None:
        condition += f" AND {sort} BETWEEN {placeholders.value()} AND {placeholders.value()}"
    elif first is not None or last is not None:
        condition += f" AND {sort} {'<=' if first is None else '>='} {placeholders.value()}"
    values = [{"S": text} for text in (bounds.partition, first, last) if text is not None]
    return {"KeyConditionExpression": condition, **placeholders.names, **_values(values)}


# ---- texts ----

#: Names that are set, added to and removed.
_Changed = tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]
_NOTHING: _Changed = ((), (), ())
#: A condition without its value: attribute and operator, or several of these.
_Shape = tuple[Any, ...]


def _expressions(changed: _Changed, conditions: Sequence[Condition], values: list[WireValue]) -> Arguments:
    """What is changed and asked for, where ``values`` are those of the changes."""
    shapes = tuple([_taken(condition, values) for condition in conditions])
    return {**_texts(changed, shapes), **_values(values)}


def _taken(condition: Condition, values: list[WireValue]) -> _Shape:
    """The condition's shape; its values are put to the others."""
    if isinstance(condition, AnyOf):
        return tuple([_taken(each, values) for each in condition.conditions])
    if condition.op not in WITHOUT_VALUE:
        values.append(to_wire(condition.value))
    return condition.attribute, condition.op


@lru_cache(maxsize=1_000)
def _texts(changed: _Changed, shapes: tuple[_Shape, ...]) -> Arguments:
    """Expressions and the names in them. They are the same at each step, only their values differ."""
    placeholders = _Placeholders()
    to_set, to_add, to_remove = changed
    clauses = {
        "SET": [f"{placeholders.name(name)} = {placeholders.value()}" for name in to_set],
        "ADD": [f"{placeholders.name(name)} {placeholders.value()}" for name in to_add],
        "REMOVE": [placeholders.name(name) for name in to_remove],
    }
    texts: Arguments = {}
    if update := " ".join(f"{verb} {', '.join(parts)}" for verb, parts in clauses.items() if parts):
        texts["UpdateExpression"] = update
    if shapes:
        texts["ConditionExpression"] = " AND ".join(_condition(shape, placeholders) for shape in shapes)
        # Free, and the only way to tell why a condition failed without a second, racing read.
        texts["ReturnValuesOnConditionCheckFailure"] = "ALL_OLD"
    return texts | placeholders.names


def _condition(shape: _Shape, placeholders: _Placeholders) -> str:
    match shape:
        case (str() as attribute, "exists"):
            return f"attribute_exists({placeholders.name(attribute)})"
        case (str() as attribute, "absent"):
            return f"attribute_not_exists({placeholders.name(attribute)})"
        case (str() as attribute, "<>"):
            # DynamoDB finds a missing attribute unequal to everything; the port says that a comparison with it is
            # false.
            name = placeholders.name(attribute)
            return f"(attribute_exists({name}) AND {name} <> {placeholders.value()})"
        case (str() as attribute, str() as op):
            return f"{placeholders.name(attribute)} {op} {placeholders.value()}"
        case (only,):
            # DynamoDB refuses parentheses around parentheses.
            return _condition(only, placeholders)
    return "(" + " OR ".join(_condition(each, placeholders) for each in shape) + ")"
