"""Structured conditions and changes as DynamoDB expressions.

Every name and every value goes through a placeholder: no reserved words, and nothing a caller sends can become part
of an expression.
"""

from __future__ import annotations

from typing import Any

from turnkeeper.adapters.table_rules import Range, check_index_keys, put_to_wire
from turnkeeper.adapters.table_values import WireItem, WireValue, item_to_wire, to_wire
from turnkeeper.table import AnyOf, Check, Cond, Condition, Key, Operation, Put, Update

Arguments = dict[str, Any]


class _Placeholders:
    def __init__(self) -> None:
        self._names: dict[str, str] = {}
        self._values: dict[str, WireValue] = {}

    def name(self, attribute: str) -> str:
        return self._names.setdefault(attribute, f"#{len(self._names)}")

    def value(self, wire: WireValue) -> str:
        placeholder = f":{len(self._values)}"
        self._values[placeholder] = wire
        return placeholder

    def arguments(self) -> Arguments:
        """DynamoDB refuses the maps when they are empty."""
        arguments: Arguments = {}
        if self._names:
            arguments["ExpressionAttributeNames"] = {placeholder: name for name, placeholder in self._names.items()}
        if self._values:
            arguments["ExpressionAttributeValues"] = self._values
        return arguments


def key_to_wire(key: Key) -> WireItem:
    return {"pk": {"S": key.pk}, "sk": {"S": key.sk}}


def transaction_entry(operation: Operation, table_name: str) -> Arguments:
    """One entry of TransactWriteItems."""
    match operation:
        case Put():
            return {"Put": {"TableName": table_name, "Item": put_to_wire(operation), **_conditions(operation)}}
        case Update():
            return {"Update": {"TableName": table_name, **update_arguments(operation)}}
        case Check():
            key = key_to_wire(operation.key)
            return {"ConditionCheck": {"TableName": table_name, "Key": key, **_conditions(operation)}}


def update_arguments(operation: Update) -> Arguments:
    placeholders = _Placeholders()
    to_set = item_to_wire(operation.set)
    check_index_keys(to_set)
    clauses = {
        "SET": [f"{placeholders.name(name)} = {placeholders.value(wire)}" for name, wire in to_set.items()],
        "ADD": [f"{placeholders.name(name)} {placeholders.value(to_wire(n))}" for name, n in operation.add.items()],
        "REMOVE": [placeholders.name(name) for name in operation.remove],
    }
    return {
        "Key": key_to_wire(operation.key),
        "UpdateExpression": " ".join(f"{verb} {', '.join(parts)}" for verb, parts in clauses.items() if parts),
        **_conditions(operation, placeholders),
    }


def key_condition(bounds: Range) -> Arguments:
    """A missing bound is left out: DynamoDB takes no empty string as the key to begin with."""
    placeholders = _Placeholders()
    condition = f"{placeholders.name(bounds.partition_name)} = {placeholders.value({'S': bounds.partition})}"
    sort = placeholders.name(bounds.sort_name) if bounds.first is not None or bounds.last is not None else ""
    if bounds.first is not None and bounds.last is not None:
        first, last = placeholders.value({"S": bounds.first}), placeholders.value({"S": bounds.last})
        condition += f" AND {sort} BETWEEN {first} AND {last}"
    elif bounds.first is not None:
        condition += f" AND {sort} >= {placeholders.value({'S': bounds.first})}"
    elif bounds.last is not None:
        condition += f" AND {sort} <= {placeholders.value({'S': bounds.last})}"
    return {"KeyConditionExpression": condition, **placeholders.arguments()}


def _conditions(operation: Operation, placeholders: _Placeholders | None = None) -> Arguments:
    placeholders = placeholders or _Placeholders()
    arguments: Arguments = {}
    if operation.conditions:
        arguments["ConditionExpression"] = " AND ".join(_condition(each, placeholders) for each in operation.conditions)
        # Free, and the only way to tell why a condition failed without a second, racing read.
        arguments["ReturnValuesOnConditionCheckFailure"] = "ALL_OLD"
    return arguments | placeholders.arguments()


def _condition(condition: Condition, placeholders: _Placeholders) -> str:
    match condition:
        case AnyOf(conditions=(only,)):
            # DynamoDB refuses parentheses around parentheses.
            return _condition(only, placeholders)
        case AnyOf(conditions=conditions):
            return "(" + " OR ".join(_condition(each, placeholders) for each in conditions) + ")"
        case Cond(attribute=attribute, op="exists"):
            return f"attribute_exists({placeholders.name(attribute)})"
        case Cond(attribute=attribute, op="absent"):
            return f"attribute_not_exists({placeholders.name(attribute)})"
        case Cond(attribute=attribute, op="<>", value=value):
            # DynamoDB finds a missing attribute unequal to everything; the port says that a comparison with it is
            # false.
            name = placeholders.name(attribute)
            return f"(attribute_exists({name}) AND {name} <> {placeholders.value(to_wire(value))})"
        case Cond(attribute=attribute, op=op, value=value):
            return f"{placeholders.name(attribute)} {op} {placeholders.value(to_wire(value))}"
