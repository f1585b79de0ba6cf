"""What a JSON schema says in passing: types, samples, formats; and two schemas as one."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

_SAMPLES = re.compile(
    r"(?:\bsuch as|\blike|\be\.g\.,?|\bfor example,?|\bexample:)\s+['\"`“]?([^\s'\"`”,;()]{1,100})", re.IGNORECASE
)
#: A value of each format, and what in a question looks like one.
FORMATS = {
    "date": ("2026-01-15", r"\d{4}-\d\d-\d\d"),
    "date-time": ("2026-01-15T12:00:00Z", r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d.*"),
    "time": ("12:00:00", r"\d\d:\d\d(?::\d\d)?.*"),
    "duration": ("P1D", r"P[\dYMWDTHS]+"),
    "email": ("someone@example.com", r"[^@\s]+@[\w-]+(?:\.[\w-]+)+"),
    "idn-email": ("someone@example.com", r"[^@\s]+@[\w-]+(?:\.[\w-]+)+"),
    "hostname": ("example.com", r"[\w-]+(?:\.[\w-]+)+"),
    "uri": ("https://example.com/", r"https?:\S+"),
    "uri-reference": ("https://example.com/", r"https?:\S+"),
    "iri": ("https://example.com/", r"https?:\S+"),
    "url": ("https://example.com/", r"https?:\S+"),
    "uuid": ("123e4567-e89b-42d3-a456-426614174000", r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}"),
    "ipv4": ("192.0.2.1", r"\d{1,3}(?:\.\d{1,3}){3}"),
    "ipv6": ("2001:db8::1", r"[0-9a-fA-F:]*:[0-9a-fA-F:]+"),
    "regex": (".*", r"(?!)"),
    "json-pointer": ("/a", r"(?!)"),
}
_TYPES_BY_KEYWORD = {
    "object": ("properties", "required", "additionalProperties", "patternProperties", "minProperties"),
    "array": ("items", "prefixItems", "minItems", "contains", "uniqueItems"),
    "number": ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"),
}
_TYPES = ("string", "integer", "number", "boolean", "object", "array", "null")


def types_of(schema: Mapping[str, Any]) -> list[str]:
    kind = schema.get("type")
    if isinstance(kind, str):
        return [kind]
    if isinstance(kind, list):
        return sorted(kind, key=lambda one: str(one) == "null")
    for name, keywords in _TYPES_BY_KEYWORD.items():
        if any(keyword in schema for keyword in keywords):
            return [name, *_TYPES]
    return list(_TYPES)


def merged_schema(one: Any, other: Any) -> Any:
    """Both at once, where members and lists of names add up and of everything else the second wins."""
    if not isinstance(one, Mapping) or not isinstance(other, Mapping):
        return False if one is False or other is False else (other if isinstance(other, Mapping) else one)
    merged = {**one, **other}
    if "properties" in one and "properties" in other:
        merged["properties"] = {**one["properties"], **other["properties"]}
    if "required" in one and "required" in other:
        merged["required"] = list(dict.fromkeys([*one["required"], *other["required"]]))
    return merged


def samples_of(schema: Mapping[str, Any]) -> list[str]:
    """Texts that the schema gives as examples, in so many words or in its description."""
    examples = schema.get("examples")
    listed = [one for one in examples if isinstance(one, str)] if isinstance(examples, list) else []
    return [*listed, *(found.rstrip(".:?!") for found in _SAMPLES.findall(str(schema.get("description", ""))))]


def pattern_says_something(pattern: object) -> bool:
    """Whether what a pattern matches is not just any word."""
    return isinstance(pattern, str) and bool(re.search(r"\d|\\d", pattern)) and not re.search(pattern, "word")
