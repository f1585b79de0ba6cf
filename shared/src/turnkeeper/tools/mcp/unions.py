"""Folds a union at the root of a server's schema into one object, which the Messages API takes.

The object has the properties of all alternatives and needs what all of them need; the union itself is told in words.
Arguments that an alternative takes, by the names that it knows, the object takes too. What it takes beyond that, the
server refuses: it checks the arguments of a call by its own schema.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from turnkeeper.core.schemas import UNIONS

Schema = Mapping[str, Any]

_WORDS = {
    "anyOf": "At least one of these has to fit as well",
    "oneOf": "Exactly one of these has to fit as well",
    "allOf": "All of these have to fit as well",
}
_MAX_DEPTH = 8


def folded(schema: Schema) -> dict[str, Any]:
    """The schema without a union at its root; as it is where there is none, or one that cannot be read as objects."""
    # Null is what some servers write for none.
    root = {
        name: value for name, value in schema.items() if value is not None or name not in {"properties", "required"}
    }
    unions = {name: root[name] for name in UNIONS if name in root}
    if not unions and ("type" in root or "$ref" not in root):
        return root
    if (flat := _flat(root, root, 1)) is None:
        return root
    own = root.get("description")
    told = [f"{_WORDS[name]}: {json.dumps(union, ensure_ascii=False)}" for name, union in unions.items()]
    words = "\n".join([own, *told] if isinstance(own, str) and own else told)
    kept = {name: value for name, value in root.items() if name not in {*UNIONS, "unevaluatedProperties"}}
    return {
        **kept,
        "type": "object",
        "properties": {**flat.maybe, **flat.properties},
        "required": list(flat.required),
        **({"description": words} if words else {}),
        **({"additionalProperties": False} if flat.closed else {}),
    }


@dataclass(frozen=True, slots=True)
class _Flat:
    """What is known of an object schema: the rest of what it says is left to the server."""

    properties: dict[str, Any]
    required: tuple[str, ...]
    #: It takes no other names.
    closed: bool
    #: Properties that only some alternatives know, while others let them be anything.
    maybe: dict[str, Any] = field(default_factory=dict)

    def forbids(self, name: str) -> bool:
        return self.closed and name not in self.properties and name not in self.maybe


def _flat(schema: Any, root: Schema, depth: int) -> _Flat | None:
    """``None`` where values may be something else than objects, or cannot be told."""
    if not isinstance(schema, Mapping) or depth > _MAX_DEPTH or schema.get("type", "object") != "object":
        return None
    parts = [_own(schema)]
    if "$ref" in schema:
        parts.append(_flat(_referred(schema["$ref"], root), root, depth + 1))
    for name in UNIONS:
        if name in schema:
            branches = schema[name] if isinstance(schema[name], list) else []
            parts.append(_joined([_flat(branch, root, depth + 1) for branch in branches], every=name == "allOf"))
    return _joined(parts, every=True)


def _own(schema: Schema) -> _Flat | None:
    properties, required = schema.get("properties") or {}, schema.get("required") or []
    if not isinstance(properties, Mapping) or not isinstance(required, list):
        return None
    closed = schema.get("additionalProperties") is False and "patternProperties" not in schema
    return _Flat(dict(properties), tuple(map(str, required)), closed)


def _joined(parts: Sequence[_Flat | None], *, every: bool) -> _Flat | None:
    """Of parts that all have to fit (``every``), or one of which has to."""
    known = [part for part in parts if part is not None]
    if not known or len(known) < len(parts):
        return None
    needed = dict.fromkeys(name for part in known for name in part.required)
    names = dict.fromkeys(name for part in known for name in (*part.properties, *part.maybe))
    properties: dict[str, Any] = {}
    maybe: dict[str, Any] = {}
    for name in names:
        sure = [part.properties[name] for part in known if name in part.properties]
        unsure = [part.maybe[name] for part in known if name in part.maybe]
        if every and sure:
            properties[name] = _together(sure, "allOf")
        elif not every and all(name in part.properties or part.forbids(name) for part in known):
            properties[name] = _together(sure, "anyOf")
        else:
            maybe[name] = _together([*sure, *unsure], "anyOf")
    return _Flat(
        properties,
        tuple(name for name in needed if every or all(name in part.required for part in known)),
        (any if every else all)(part.closed for part in known),
        maybe,
    )


def _together(schemas: Sequence[Any], union: str) -> Any:
    distinct = list({json.dumps(schema, sort_keys=True): schema for schema in schemas}.values())
    return distinct[0] if len(distinct) == 1 else {union: distinct}


def _referred(reference: Any, root: Schema) -> Any:
    """What a reference within the schema means; ``None`` for any other."""
    found: Any = root
    if not isinstance(reference, str) or not reference.startswith("#/"):
        return None
    for step in reference[2:].split("/"):
        found = found.get(step.replace("~1", "/").replace("~0", "~")) if isinstance(found, Mapping) else None
    return found
