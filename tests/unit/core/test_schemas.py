"""A tool that the API would refuse every request for is refused when its agent is made, by name."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from turnkeeper import Agent, ToolContext, tool
from turnkeeper.core.kit_tools import end_task_definition, update_plan
from turnkeeper.core.schemas import MAX_DEPTH, schema_problem, tool_problem
from turnkeeper.core.tools import Tool
from turnkeeper.tools import http_fetch, mcp_tools, read_files, shell, sql_query


@tool
def look(at: int) -> str:
    """Look."""
    return "seen"


def nested(depth: int) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "string"}
    for _ in range(depth // 2):
        schema = {"type": "object", "properties": {"a": schema}}
    return schema


def object_of(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties}


@pytest.mark.parametrize(
    ("schema", "words"),
    [
        ({}, "type 'object'"),
        ({"type": "string"}, "type 'object'"),
        ({"type": ["object", "null"]}, "type 'object'"),
        ({"$ref": "#/$defs/a", "$defs": {"a": {"type": "object"}}}, "type 'object'"),
        ({"type": "object", "anyOf": [{"required": ["a"]}]}, r"a union \(anyOf\) at its root"),
        ({"type": "object", "oneOf": []}, r"a union \(oneOf\)"),
        ({"type": "object", "allOf": [True]}, r"a union \(allOf\)"),
        (object_of(**{"user id": {}}), "'user id'"),
        (object_of(**{"größe": {}}), "'größe'"),
        (object_of(**{"": {}}), "''"),
        (object_of(**{"n" * 65: {}}), "'nnn"),
        (object_of(a={"items": [{"type": "string"}]}), "'items'"),
        (object_of(a={"exclusiveMinimum": True}), "'exclusiveMinimum'"),
        (object_of(a={"type": "any"}), "'type'"),
        (object_of(a={"required": True}), "'required'"),
        (object_of(a="string"), "'properties'"),
        ({"type": "object", "properties": None}, "'properties'"),
        (object_of(a={"default": float("inf")}), "not finite"),
        (object_of(a={"description": "half \ud800"}), "half a character"),
        (object_of(a={"enum": [{1: 2}]}), "a name that is no text"),
        (object_of(a={"default": {1, 2}}), "set, which is not JSON"),
        (nested(MAX_DEPTH + 2), "nested deeper"),
    ],
)
def test_a_schema_that_the_api_refuses(schema: dict[str, Any], words: str) -> None:
    with pytest.raises(
        ValueError, match=f"agent 'odd': tool 'look' has a schema that the API does not take: .*{words}"
    ):
        Agent(name="odd", model="m", system="s", tools=[replace(look, input_schema=schema)])


def test_a_schema_that_is_no_object_at_all() -> None:
    for schema in (None, [], "object", True):
        assert schema_problem(schema) == "it is no object"


def test_words_of_somebody_else_are_cut_short() -> None:
    problem = schema_problem(object_of(**{"x " * 5_000: {}}))
    assert problem is not None and len(problem) < 300


def test_what_an_author_may_write() -> None:
    @tool
    def book(ctx: ToolContext, at: int | str | None = None, to: list[dict[str, int]] | None = None) -> str:
        """Book."""
        return ""

    inner = {"anyOf": [{"type": "string"}, {"$ref": "#/$defs/a b"}], "odd key": 1}
    schema = {**object_of(**{"a.b-C_1": inner, "any": True}), "$defs": {"a b": object_of(**{"any name!": {}})}}
    odd = replace(look, name="odd", input_schema=schema)
    assert Agent(name="fine", model="m", system="s", tools=[book, odd, look]).all_tools() == (book, odd, look)


def test_the_kits_own_tools_pass(tmp_path: Path) -> None:
    mine: list[Tool] = [
        *(update_plan, read_files(tmp_path), shell({"ls": []}, tmp_path), http_fetch(["example.com"], ["POST"])),
        sql_query("sqlite:///data.db", {"a": "*"}),
    ]
    for each in mine:
        assert tool_problem(each.description, each.schema()) is None, each.name
    assert tool_problem(end_task_definition.description, end_task_definition.input_schema) is None


def test_words_that_cannot_be_sent() -> None:
    with pytest.raises(ValueError, match="'look' has a description that cannot be sent: it has half a character"):
        Agent(name="odd", model="m", system="s", tools=[replace(look, description="half \ud800")])
    with pytest.raises(ValueError, match="agent 'odd' has a system prompt that cannot be sent"):
        Agent(name="odd", model="m", system="half \ud800")
    with pytest.raises(ValueError, match="in model_options: it has a value of the type set"):
        Agent(name="odd", model="m", system="s", model_options={"stop_sequences": {"a"}})


def test_names_are_unique_with_those_of_the_provider_and_of_every_server() -> None:
    search = {"tools": [{"type": "web_search_20250305", "name": "look", "max_uses": 1}]}
    with pytest.raises(ValueError, match="agent 'odd' has two tools named look"):
        Agent(name="odd", model="m", system="s", tools=[look], model_options=search)
    with pytest.raises(ValueError, match="two tools named a_look"):
        servers = [mcp_tools("http://x/", ["look"], name="a"), mcp_tools("http://y/", ["a.look"])]
        Agent(name="odd", model="m", system="s", tools=servers)
