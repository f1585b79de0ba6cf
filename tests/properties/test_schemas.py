"""The kit's own check of a tool's schema and the API's say the same, and a folded union takes what the union took."""

from __future__ import annotations

import json
from typing import Any

import jsonschema
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from tests.support.examples import examples
from turnkeeper.core.schemas import MAX_DEPTH, schema_problem
from turnkeeper.tools.mcp.unions import folded
from turnkeeper_local.standin.errors import ApiError
from turnkeeper_local.standin.validate_tools import validate_tools

pytestmark = pytest.mark.examples

NAMES = st.sampled_from(["a", "b", "c.d-e_F", "$odd", "", "with space", "n" * 65])
ODD = st.sampled_from([None, True, 0, -1, 1.5, "", "object", "null", [], ["a", "a"], [1], {}, {"a": 1}, [{}], [True]])
TYPES = st.sampled_from(["object", "string", "integer", "any", ["string", "null"], ["string", "string"], [], None])
PLAIN: dict[str, Any] = {
    "type": TYPES,
    "enum": st.sampled_from([[1, "a"], [], "a"]),
    "required": st.sampled_from([["a"], ["a", "b"], [], ["a", "a"], [1], True]),
    "minimum": st.sampled_from([0, 1.5, "1", True]),
    "exclusiveMinimum": st.sampled_from([0, True]),
    "multipleOf": st.sampled_from([1, 0.5, 0, -1]),
    "maxItems": st.sampled_from([0, 3, 2.0, 2.5, -1, "3"]),
    "pattern": st.sampled_from(["^a+$", "[", 1]),
    "description": st.sampled_from(["words", 1, None]),
    "$id": st.sampled_from(["https://x.test/a", "a#b", 1]),
    "$anchor": st.sampled_from(["a", "1a"]),
    "$ref": st.sampled_from(["#/$defs/a", 1]),
    "$schema": st.sampled_from(["http://json-schema.org/draft-07/schema#", 7]),
    "uniqueItems": st.sampled_from([True, "yes"]),
    "dependentRequired": st.sampled_from([{"a": ["b"]}, {"a": "b"}, ["a"]]),
    "nullable": ODD,
    "default": ODD,
}


def having(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Schemas that may hold others."""
    some = st.one_of(inner, ODD)
    holding = {
        **dict.fromkeys(("anyOf", "oneOf", "allOf", "prefixItems"), st.lists(inner, max_size=2) | ODD),
        **dict.fromkeys(("properties", "$defs", "patternProperties"), st.dictionaries(NAMES, some, max_size=2) | ODD),
        **dict.fromkeys(("items", "additionalProperties", "not", "if", "propertyNames"), some),
        "dependencies": st.dictionaries(NAMES, st.one_of(some, st.just(["a"])), max_size=2),
    }
    return st.fixed_dictionaries({}, optional={**PLAIN, **holding})


SCHEMAS = st.recursive(st.booleans() | st.fixed_dictionaries({}, optional=PLAIN), having, max_leaves=5)
ROOTS = st.builds(lambda schema, kind: {**kind, **schema}, having(SCHEMAS), st.sampled_from([{}, {"type": "object"}]))


def admitted(schema: Any) -> bool:
    try:
        validate_tools([{"name": "look", "description": "d", "input_schema": schema}])
    except ApiError:
        return False
    return True


@settings(max_examples=examples(300, all=1_000), deadline=None)
@given(st.one_of(ROOTS, ROOTS.map(lambda root: {**root, "type": "object"}), ODD))
def test_the_check_admits_what_the_api_does(schema: Any) -> None:
    if isinstance(schema, dict):
        # Null at the root is the one thing that the API is more lenient about.
        schema = {
            name: value for name, value in schema.items() if value is not None or name not in ("properties", "required")
        }
    assert (schema_problem(schema) is None) == admitted(schema)


@pytest.mark.parametrize("depth", [MAX_DEPTH // 2 - 1, MAX_DEPTH * 3])
def test_the_api_follows_as_deep_as_the_check_does(depth: int) -> None:
    schema: dict[str, Any] = {"type": "object"}
    for _ in range(depth):
        schema = {"type": "object", "properties": {"a": schema}}
    assert (schema_problem(schema) is None) == admitted(schema) == (depth < MAX_DEPTH / 2)


# ---- unions ----

VALUES = st.sampled_from([1, "x", True, None, [1], {"a": 1}])
LEAVES = st.sampled_from([{"type": "string"}, {"type": "integer"}, {"const": "x"}, {"enum": [1, True]}, {}, True])
KNOWN = st.sampled_from(["a", "b", "c", "d"])
OBJECTS = st.fixed_dictionaries(
    {},
    optional={
        "type": st.just("object"),
        "properties": st.dictionaries(KNOWN, LEAVES, max_size=3),
        "required": st.lists(KNOWN, max_size=2, unique=True),
        "additionalProperties": st.booleans(),
        "description": st.just("words"),
    },
)
BRANCHES = st.one_of(OBJECTS, st.sampled_from([{"$ref": "#/$defs/one"}, {"$ref": "#/$defs/two"}]))
UNIONS = st.lists(BRANCHES, min_size=1, max_size=3)
UNITED = st.builds(
    lambda root, unions, one, two: {**root, **unions, "type": "object", "$defs": {"one": one, "two": two}},
    OBJECTS,
    st.fixed_dictionaries({}, optional={"anyOf": UNIONS, "oneOf": UNIONS, "allOf": UNIONS}),
    OBJECTS,
    OBJECTS,
)


def branches_of(schema: Any, root: Any) -> list[Any]:
    schema = root["$defs"][schema["$ref"].rsplit("/", 1)[1]] if "$ref" in schema else schema
    return [schema]


def names(root: dict[str, Any], arguments: dict[str, Any]) -> set[str]:
    """The names that are known to all the alternatives that take the arguments."""
    known = set(root.get("properties", {}))
    for union in ("anyOf", "oneOf", "allOf"):
        parts = [each for branch in root.get(union, []) for each in branches_of(branch, root)]
        if union == "allOf":
            known |= {name for part in parts for name in part.get("properties", {})}
        elif parts:
            taking = [p for p in parts if jsonschema.Draft202012Validator(p).is_valid(arguments)]
            known |= {name for name in arguments if all(name in p.get("properties", {}) for p in taking)}
    return known


@settings(max_examples=examples(200, all=600), deadline=None)
@given(UNITED, st.dictionaries(KNOWN, VALUES, max_size=4))
def test_a_folded_union_takes_what_an_alternative_took(schema: dict[str, Any], arguments: dict[str, Any]) -> None:
    flat = folded(schema)
    assert schema_problem(flat) is None
    json.dumps(flat)
    assume(jsonschema.Draft202012Validator(schema).is_valid(arguments))
    assume(set(arguments) <= names(schema, arguments))
    assert jsonschema.Draft202012Validator(flat).is_valid(arguments)


@settings(max_examples=examples(100, all=300), deadline=None)
@given(ROOTS)
def test_folding_never_makes_it_worse(schema: dict[str, Any]) -> None:
    before = schema_problem(schema)
    after = schema_problem(folded(schema))
    assert after is None or before is not None
