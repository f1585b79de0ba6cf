"""JSON that is written in one way only, so that it can be hashed: equal values give equal bytes.

:func:`canonical_json` is RFC 8785, for hashes that others are to check in any language. It takes few kinds of values;
:func:`plain_json` makes them of others. :func:`sorted_json` takes everything and is for hashes that stay with the kit.

Hashes of these bytes are stored: what is written here can never be written differently.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from contextlib import suppress
from decimal import Decimal
from functools import cache
from typing import Any, Final

from pydantic_core import to_json

#: Beyond this, JSON numbers are not exact in every language (RFC 8785 refuses them).
MAX_INTEGER: Final = 2**53 - 1
_MAX_DEPTH: Final = 64
_ENCODER = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"))
_SURROGATE = re.compile("[\ud800-\udfff]")
_PLAIN = frozenset({str, int, bool, type(None)})


def canonical_json(value: Any) -> bytes:
    """RFC 8785 canonical JSON of None, booleans, strings, lists, dicts with string keys, and exact integers.

    Raises:
        TypeError: anything else, floats above all.
        ValueError: an integer beyond 2**53 - 1.
        UnicodeEncodeError: a lone surrogate.
    """
    ordered = _ordered(value)
    try:
        return to_json(ordered)
    except ValueError:
        return _ENCODER.encode(ordered).encode()


def plain_json(value: Any, _depth: int = 0) -> Any:
    """JSON that :func:`canonical_json` takes: floats and very large integers become strings, whole Decimals (DynamoDB)
    integers, lone surrogates U+FFFD.

    The result does not change when it is put through again, also after a round trip through the table.

    Raises:
        ValueError: not JSON, or nested too deep.
    """
    if _depth > _MAX_DEPTH:
        raise ValueError(f"nested more than {_MAX_DEPTH} deep")
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return without_surrogates(value)
    if isinstance(value, Decimal) and value.is_finite() and value == value.to_integral_value():
        value = int(value)
    if isinstance(value, int):
        return value if abs(value) <= MAX_INTEGER else str(value)
    if isinstance(value, float | Decimal):
        return str(value)
    if isinstance(value, Mapping):
        return {plain_json(str(key)): plain_json(item, _depth + 1) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain_json(item, _depth + 1) for item in value]
    raise ValueError(f"{type(value).__name__} is not JSON")


def sorted_json(value: Any, *, ascii: bool = False, spaced: bool = False) -> bytes:
    """Any value as JSON with its keys in order; what is no JSON as ``str`` shows it.

    ``ascii`` escapes everything that is not ASCII, and ``spaced`` puts blanks behind commas and colons: that is how
    some hashes have been made from the start.
    """
    with suppress(ValueError, RecursionError):  # as in `stored_json`
        if not ascii and not spaced and is_plain(value):
            return to_json(value if type(value) in _PLAIN else _by_name(value))
    return _sorting(ascii, spaced).encode(value).encode("utf-8", "surrogatepass")


def is_plain(value: Any) -> bool:
    """Whether it is JSON that pydantic's encoder, which takes a tenth of the time, writes in the words of `json`: of
    Python's own types, and without a fraction."""
    kind = type(value)
    if kind is dict:
        for name, each in value.items():
            if type(name) is not str or not (type(each) in _PLAIN or is_plain(each)):
                return False
        return True
    if kind is list or kind is tuple:
        return all(type(each) in _PLAIN or is_plain(each) for each in value)
    return kind in _PLAIN


def _by_name(value: Any) -> Any:
    if type(value) is dict:
        return {name: each if type(each := value[name]) in _PLAIN else _by_name(each) for name in sorted(value)}
    return [each if type(each) in _PLAIN else _by_name(each) for each in value]


@cache
def _sorting(ascii: bool, spaced: bool) -> json.JSONEncoder:
    separators = (", ", ": ") if spaced else (",", ":")
    return json.JSONEncoder(sort_keys=True, separators=separators, ensure_ascii=ascii, default=str)


def without_surrogates(text: str) -> str:
    """The text with lone surrogates, which no UTF-8 can hold, as U+FFFD."""
    return text if text.isascii() else _SURROGATE.sub("\ufffd", text)


def stored_json(value: Any) -> bytes:
    """JSON as :func:`json_text` has it, of values that are JSON already. Read back it is the same; how it writes a
    fraction may differ, so it is not for hashes."""
    try:
        return to_json(value, inf_nan_mode="constants")
    except ValueError:  # Half a character, or nested deeper than it follows.
        return json_text(value).encode()


def json_text(value: Any) -> str:
    """As compact JSON that UTF-8 can hold: half a character, which a model may write, is U+FFFD."""
    return without_surrogates(_ENCODER.encode(value))


def readable(value: Any) -> Any:
    """The same JSON in which every text can be written as UTF-8."""
    match value:
        case str():
            return value if value.isascii() else without_surrogates(value)
        case dict():
            return {readable(name): readable(item) for name, item in value.items()}
        case list() | tuple():
            return [readable(item) for item in value]
    return value


def _ordered(value: Any) -> Any:
    if value is None or isinstance(value, bool | str):
        return value
    if isinstance(value, int):
        if abs(value) > MAX_INTEGER:
            raise ValueError("integer beyond 2**53 - 1")
        return value
    if isinstance(value, list | tuple):
        return [_ordered(item) for item in value]
    if isinstance(value, dict | Mapping):
        # RFC 8785 orders by UTF-16 units; Python's own order differs beyond the basic plane.
        plain = all(map(str.isascii, value))
        keys: Iterable[str] = sorted(value) if plain else sorted(value, key=lambda key: key.encode("utf-16-be"))
        return {key: _ordered(value[key]) for key in keys}
    raise TypeError(f"{type(value).__name__} has no canonical form")
