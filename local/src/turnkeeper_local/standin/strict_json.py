"""JSON as the API's own parser takes it: less than Python's, which also reads NaN, infinities and half characters."""

from __future__ import annotations

import json
import math
from typing import Any, NoReturn

#: Where its parser stops following brackets.
MAX_DEPTH = 200


def loads(text: str | bytes) -> Any:
    """The value of a JSON text that can be written again as it was.

    Raises:
        ValueError: no JSON; a number that is not finite; half of a surrogate pair, which no UTF-8 holds; too many
            brackets within brackets.
    """
    try:
        value = json.loads(text, parse_float=_finite, parse_constant=_refuse)
    except RecursionError:
        raise ValueError("recursion limit exceeded") from None
    if _is_deeper(value):
        raise ValueError("recursion limit exceeded")
    json.dumps(value, ensure_ascii=False).encode()
    return value


def decoder() -> json.JSONDecoder:
    """For JSON inside another text. Not strict about control characters: a line break typed into a string is what a
    person at a console does."""
    return json.JSONDecoder(strict=False, parse_float=_finite, parse_constant=_refuse)


def _finite(digits: str) -> float:
    value = float(digits)
    return value if math.isfinite(value) else _refuse(digits)


def _refuse(number: str) -> NoReturn:
    raise ValueError(f"number out of range or no number of JSON: {number}")


def _is_deeper(value: Any) -> bool:
    """Whether it is nested deeper than ``MAX_DEPTH``; level by level, since recursion is what this is about."""
    level = [value]
    for _ in range(MAX_DEPTH):
        holders = [each for each in level if isinstance(each, dict | list)]
        level = [inner for each in holders for inner in (each.values() if isinstance(each, dict) else each)]
        if not level:
            return False
    return any(isinstance(each, dict | list) for each in level)
