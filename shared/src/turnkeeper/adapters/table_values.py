"""Values of a table in DynamoDB's wire form, in which bytes are base64, and back.

All tables use it: the memory table keeps its items in wire form, so that a value which DynamoDB would refuse, tell
apart (``True`` and ``1``) or hand back changed (a tuple) is treated the same in every test.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from decimal import Decimal
from functools import lru_cache
from typing import Any

#: ``{"S": "text"}`` and so on.
WireValue = dict[str, Any]
WireItem = dict[str, WireValue]

MAX_DIGITS = 38
MAX_DEPTH = 32


class InvalidOperation(ValueError):
    """The table can never take this: a defect of the caller, or an item over the limits. Nothing was written."""


def to_wire(value: object, depth: int = 0) -> WireValue:
    """The wire form of a JSON value or bytes.

    Raises:
        TypeError: a float, or something that is no JSON value. Money and times are never floats here.
        InvalidOperation: too many digits, or nested too deep.
    """
    if depth > MAX_DEPTH:
        raise InvalidOperation(f"nested deeper than {MAX_DEPTH} levels")
    # Nearly all are one of these two.
    kind = type(value)
    if kind is str and value.isascii():  # type: ignore[attr-defined]
        return {"S": value}
    if kind is int:
        return {"N": _digits(value)}  # type: ignore[arg-type]
    wire: WireValue
    # The most frequent first: one class is asked for after the other.
    match value:
        case str():
            wire = {"S": _text(value)}
        case bool():
            wire = {"BOOL": value}
        case None:
            wire = {"NULL": True}
        case int():
            wire = {"N": _digits(value)}
        case bytes() | bytearray():
            wire = {"B": base64.b64encode(value).decode()}
        case list() | tuple():
            wire = {"L": [to_wire(member, depth + 1) for member in value]}
        case Mapping():
            wire = {"M": {_name(name): to_wire(member, depth + 1) for name, member in value.items()}}
        case _:
            raise TypeError(f"a table holds no {type(value).__name__}")
    return wire


def from_wire(value: WireValue) -> Any:
    """Raises ValueError for what we never write: fractions and sets."""
    ((kind, content),) = value.items()
    match kind:
        case "S" | "BOOL":
            return content
        case "B":
            return base64.b64decode(content)
        case "N":
            return _integer(content)
        case "NULL":
            return None
        case "L":
            return [from_wire(member) for member in content]
        case "M":
            return {name: from_wire(member) for name, member in content.items()}
    raise ValueError(f"a value of type {kind}, which is never written here")


def item_to_wire(item: Mapping[str, Any]) -> WireItem:
    return {_name(name): to_wire(value) for name, value in item.items()}


def item_from_wire(item: Mapping[str, Any]) -> dict[str, Any]:
    return {name: from_wire(value) for name, value in item.items()}


def item_size(item: WireItem) -> int:
    """Bytes as DynamoDB counts them towards the limit of an item (numbers rounded up)."""
    return sum(len(name.encode()) + _size(value) for name, value in item.items())


def _size(value: WireValue) -> int:
    ((kind, content),) = value.items()
    match kind:
        case "S":
            return len(content.encode())
        case "B":
            return 3 * len(content) // 4 - str(content).count("=", -2)
        case "N":
            return (len(content) + 1) // 2 + 2
        case "L":
            return 3 + sum(1 + _size(member) for member in content)
        case "M":
            return 3 + sum(1 + len(name.encode()) + _size(member) for name, member in content.items())
    return 1


def _digits(number: int) -> str:
    text = str(int(number))
    if len(text) > MAX_DIGITS and len(text.lstrip("-")) > MAX_DIGITS:
        raise InvalidOperation(f"a number of more than {MAX_DIGITS} digits")
    return text


def _integer(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        # Somebody else's hand, or an exponent: take it where it is whole, refuse it where it is not.
        number = Decimal(text)
        if number != number.to_integral_value():
            raise ValueError(f"a fraction in the table: {text}") from None
        return int(number)


@lru_cache(maxsize=1_000)  # nearly all are of our own few
def _name(name: object) -> str:
    if not isinstance(name, str):
        raise TypeError(f"an attribute's name is a string, not {type(name).__name__}")
    if not name:
        raise InvalidOperation("an attribute without a name")
    return _text(name)


def _text(text: str) -> str:
    # JSON may hold half of a surrogate pair ("\\ud800"); UTF-8 cannot.
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise InvalidOperation(f"a text that is no Unicode: {error.reason}") from error
    return str(text)
