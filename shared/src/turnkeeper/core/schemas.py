"""Which tools the Messages API takes: it refuses a whole request, of whatever session, for one schema that it does not.

A schema has to be JSON, a schema of draft 2020-12, and an object at its root without a union there, with names of
properties that the API allows. :func:`schema_problem` says in words what is not so.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from turnkeeper.core.canonical import without_surrogates

UNIONS = ("anyOf", "oneOf", "allOf")
#: Names of the properties at the root; further in, the API leaves them alone.
PROPERTY = re.compile(r"[a-zA-Z0-9_.-]{1,64}")
#: Arrays and objects inside each other. Nobody writes more, and the checks of the API go to some depth only.
MAX_DEPTH = 64

#: Of a tool without arguments.
EMPTY_SCHEMA: Mapping[str, Any] = {"type": "object", "properties": {}}

_TYPES = frozenset({"array", "boolean", "integer", "null", "number", "object", "string"})
_ANCHOR = re.compile(r"[A-Za-z_][-A-Za-z0-9._]*")
_ID = re.compile(r"[^#]*#?")

Problem = str | None


def tool_problem(description: str, schema: Any) -> Problem:
    """What the API would refuse of a tool, in words that go on from its name; ``None`` where it takes it."""
    if (problem := json_problem(description)) is not None:
        return f"has a description that cannot be sent: {problem}"
    if (problem := schema_problem(schema)) is not None:
        return f"has a schema that the API does not take: {problem}"
    return None


def schema_problem(schema: Any) -> Problem:
    """Why the API would refuse this as ``input_schema``, in a few words; ``None`` where it takes it.

    Of the schema's own words at most a name is quoted, cut short: they may be somebody else's.
    """
    if not isinstance(schema, Mapping):
        return "it is no object"
    if (problem := json_problem(schema)) is not None:
        return problem
    if schema.get("type") != "object":
        return "its root has to say type 'object'"
    if union := [name for name in UNIONS if name in schema]:
        return f"a union ({union[0]}) at its root; put it inside a property"
    properties = schema.get("properties", {})
    if isinstance(properties, Mapping):
        for name in properties:
            if not PROPERTY.fullmatch(name):
                return (
                    f"the property {_short(name)} has a name with other characters than a-z, 0-9, '_', '.' and '-', "
                    "or of more than 64"
                )
    return _keyword_problem(schema)


def json_problem(value: Any, depth: int = 1) -> Problem:
    """What keeps a value from being sent as JSON that any parser reads; ``None`` where nothing does."""
    if depth > MAX_DEPTH:
        return f"it is nested deeper than {MAX_DEPTH}"
    match value:
        case None | bool() | int():
            return None
        case str():
            return None if without_surrogates(value) == value else "it has half a character in a text"
        case float():
            return None if math.isfinite(value) else "it has a number that is not finite"
        case Mapping():
            if not all(isinstance(name, str) for name in value):
                return "it has a name that is no text"
            return _first(json_problem(item, depth + 1) for pair in value.items() for item in pair)
        case list() | tuple():
            return _first(json_problem(item, depth + 1) for item in value)
    return f"it has a value of the type {type(value).__name__}, which is not JSON"


# ---- draft 2020-12 ----


def _keyword_problem(schema: Any) -> Problem:
    """The first keyword, in the schema or in one inside it, whose value is not what draft 2020-12 has there."""
    if isinstance(schema, bool):
        return None
    if not isinstance(schema, Mapping):
        return "a schema inside it is neither an object nor true or false"
    for name, value in schema.items():
        if (rule := _RULES.get(name)) is not None and not rule(value):
            return f"{_short(name)} has a value that draft 2020-12 of JSON Schema does not have there"
        if (problem := _first(map(_keyword_problem, _inside(name, value)))) is not None:
            return problem
    return None


def _inside(name: str, value: Any) -> list[Any]:
    """The schemas in a keyword's value, once it has the right form."""
    if name in _ONE_SCHEMA:
        return [value]
    if name in _SCHEMAS:
        return list(value)
    if name in _NAMED_SCHEMAS:
        return list(value.values())
    return [item for item in value.values() if isinstance(item, Mapping)] if name == "dependencies" else []


def _texts(value: Any) -> bool:
    return _list(value) and all(isinstance(item, str) for item in value) and len(set(value)) == len(value)


def _list(value: Any) -> bool:
    return isinstance(value, list | tuple)


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _count(value: Any) -> bool:
    return _number(value) and value == int(value) and value >= 0


def _type(value: Any) -> bool:
    return value in _TYPES if isinstance(value, str) else bool(value) and _texts(value) and set(value) <= _TYPES


def _each(rule: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, Mapping) and all(map(rule, value.values()))


def _like(pattern: re.Pattern[str]) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, str) and pattern.fullmatch(value) is not None


def _schema(value: Any) -> bool:
    return isinstance(value, Mapping | bool)


_ONE_SCHEMA = frozenset(
    {
        *("additionalProperties", "contains", "contentSchema", "else", "if", "items", "not", "propertyNames", "then"),
        *("unevaluatedItems", "unevaluatedProperties"),
    }
)
_SCHEMAS = frozenset({*UNIONS, "prefixItems"})
_NAMED_SCHEMAS = frozenset({"$defs", "definitions", "dependentSchemas", "patternProperties", "properties"})

#: What the value of a keyword has to be. Formats (patterns, addresses) are not looked into; other words are nobody's.
_RULES: Mapping[str, Callable[[Any], bool]] = {
    **dict.fromkeys(_ONE_SCHEMA, _schema),
    **dict.fromkeys(_SCHEMAS, lambda value: _list(value) and bool(value) and all(map(_schema, value))),
    **dict.fromkeys(_NAMED_SCHEMAS, _each(_schema)),
    **dict.fromkeys(("enum", "examples"), _list),
    **dict.fromkeys(("deprecated", "readOnly", "uniqueItems", "writeOnly"), lambda value: isinstance(value, bool)),
    **dict.fromkeys(("exclusiveMaximum", "exclusiveMinimum", "maximum", "minimum"), _number),
    **dict.fromkeys(("maxContains", "maxItems", "maxLength", "maxProperties"), _count),
    **dict.fromkeys(("minContains", "minItems", "minLength", "minProperties"), _count),
    **dict.fromkeys(
        ("$comment", "$dynamicRef", "$recursiveRef", "$ref", "$schema"), lambda value: isinstance(value, str)
    ),
    **dict.fromkeys(("description", "format", "pattern", "title"), lambda value: isinstance(value, str)),
    **dict.fromkeys(("contentEncoding", "contentMediaType"), lambda value: isinstance(value, str)),
    **dict.fromkeys(("$anchor", "$dynamicAnchor", "$recursiveAnchor"), _like(_ANCHOR)),
    "$id": _like(_ID),
    "$vocabulary": _each(lambda value: isinstance(value, bool)),
    "dependencies": _each(lambda value: _schema(value) or _texts(value)),
    "dependentRequired": _each(_texts),
    "multipleOf": lambda value: _number(value) and value > 0,
    "required": _texts,
    "type": _type,
}


def _first(problems: Iterable[Problem]) -> Problem:
    return next((problem for problem in problems if problem is not None), None)


def _short(name: str) -> str:
    return repr(name if len(name) <= 80 else f"{name[:77]}...")
