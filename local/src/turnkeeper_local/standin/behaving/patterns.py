"""A text that a regular expression matches: the shortest that is easily found."""

from __future__ import annotations

import re
from re import _constants as codes  # type: ignore[attr-defined]  # what `re` itself parses with; there is no other way
from re import _parser  # type: ignore[attr-defined]
from typing import Any

#: More repetitions than this are not written out: no argument needs a text so long.
_MOST = 2_000
_CLASSES = {"CATEGORY_DIGIT": "0", "CATEGORY_WORD": "a", "CATEGORY_SPACE": " "}
_OTHERS = {"CATEGORY_NOT_DIGIT": "a", "CATEGORY_NOT_WORD": "-", "CATEGORY_NOT_SPACE": "a"}
_TRIED = "a0A1-_ .x/@:é"


def matching(pattern: str) -> str | None:
    """A text in which ``pattern`` is found; None where none was found, or it is no pattern of Python's."""
    try:
        text = _sequence(_parser.parse(pattern))
        return text if re.search(pattern, text) else None
    except (re.error, ValueError, OverflowError, RecursionError):
        return None


def _sequence(parts: Any) -> str:
    return "".join(_one(code, argument) for code, argument in parts)


def _one(code: Any, argument: Any) -> str:
    match str(code):
        case "LITERAL":
            return chr(argument)
        case "NOT_LITERAL":
            return "a" if argument != ord("a") else "b"
        case "ANY":
            return "a"
        case "IN":
            return _member(argument)
        case "BRANCH":
            return _sequence(argument[1][0])
        case "SUBPATTERN":
            return _sequence(argument[3])
        case "ATOMIC_GROUP":
            return _sequence(argument)
        case "MAX_REPEAT" | "MIN_REPEAT" | "POSSESSIVE_REPEAT":
            least, most, inner = argument
            if least > _MOST:
                raise ValueError("too long")
            # One where it may be none: a pattern such as `.*` is about a text, not about an empty one.
            return _sequence(inner) * max(int(least), min(1, int(most)))
        case "AT" | "ASSERT" | "ASSERT_NOT":
            return ""
    raise ValueError(f"{code} cannot be written out")


def _member(items: Any) -> str:
    """A character of a class."""
    if items[0][0] is codes.NEGATE:
        for char in _TRIED:
            if not any(_holds(item, char) for item in items[1:]):
                return char
        raise ValueError("no character is left")
    code, argument = items[0]
    match str(code):
        case "LITERAL":
            return chr(argument)
        case "RANGE":
            return chr(argument[0])
    return {**_CLASSES, **_OTHERS}[str(argument)]


def _holds(item: Any, char: str) -> bool:
    code, argument = item
    match str(code):
        case "LITERAL":
            return ord(char) == int(argument)
        case "RANGE":
            return bool(argument[0] <= ord(char) <= argument[1])
    found = {"DIGIT": char.isdigit(), "WORD": char.isalnum() or char == "_", "SPACE": char.isspace()}
    name = str(argument).removeprefix("CATEGORY_")
    return found[name.removeprefix("NOT_")] != name.startswith("NOT_")
