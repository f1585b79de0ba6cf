"""Functions as tools, and what they return as content."""

from __future__ import annotations

import json
from datetime import date
from typing import Any

import pytest
from pydantic import BaseModel, ValidationError

from turnkeeper import ToolContext, tool
from turnkeeper.core.agent import Agent
from turnkeeper.core.tools import content_of


class Point(BaseModel):
    x: int
    y: int = 2


@tool
def plain(a: int, b: str = "x", c: list[Point] | None = None) -> str:
    """What the model reads."""
    return f"{a}{b}{c}"


def test_the_signature_is_the_schema() -> None:
    schema = plain.schema()
    assert set(schema["properties"]) == {"a", "b", "c"}
    assert schema["required"] == ["a"]
    assert schema["additionalProperties"] is False
    assert (plain.name, plain.description, plain.effect) == ("plain", "What the model reads.", "read")


def test_the_context_is_not_shown() -> None:
    @tool
    def with_context(ctx: ToolContext, a: int) -> int:
        """Do."""
        return a

    @tool
    def renamed(context: ToolContext, a: int) -> int:
        """Do."""
        return a

    assert set(with_context.schema()["properties"]) == set(renamed.schema()["properties"]) == {"a"}


@pytest.mark.parametrize("arguments", [{}, {"a": "no"}, {"a": 1, "z": 1}, {"a": 1, "c": [{"x": "?"}]}])
def test_arguments_that_do_not_fit_are_refused(arguments: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        plain.body(None, arguments)  # type: ignore[arg-type]


def test_a_tools_own_data_that_does_not_fit_is_not_the_models_fault() -> None:
    @tool(effect="once")
    def pay() -> Point:
        """Pay."""
        return Point.model_validate({"x": "a secret value"})

    with pytest.raises(ValueError, match="Point: 1 values do not fit") as raised:
        pay.body(None, {})  # type: ignore[arg-type]
    assert not isinstance(raised.value, ValidationError)
    assert "secret" not in str(raised.value)


def test_a_tool_needs_words_and_types() -> None:
    def wordless(a: int) -> int:
        return a

    def untyped(a):  # type: ignore[no-untyped-def]
        """Do."""

    for function in (wordless, untyped):
        with pytest.raises(TypeError):
            tool(function)


def test_what_could_not_be_called_as_declared_is_refused() -> None:
    """Each of them would fail in every turn; of one that is async, the model would be told that it ran."""

    async def later(a: int) -> int:
        """Do."""
        return a

    async def pieces(a: int) -> Any:
        """Do."""
        yield a

    def many(*items: str) -> None:
        """Do."""

    def named(**items: str) -> None:
        """Do."""

    def by_place(a: int, /) -> None:
        """Do."""

    def context_last(a: int, ctx: ToolContext) -> None:
        """Do."""

    def context_by_name(*, ctx: ToolContext, a: int) -> None:
        """Do."""

    def private(_a: int) -> None:
        """Do."""

    for function in (later, pieces, many, named, by_place, context_last, context_by_name, private):
        with pytest.raises(TypeError, match=function.__name__):
            tool(function)


@pytest.mark.parametrize(
    "slip",
    [
        # Neither read nor once: a call that was made would be made again.
        {"effect": "write"},
        {"effect": "Once"},
        {"timeout_seconds": 0},
        {"timeout_seconds": float("nan")},
        {"timeout_seconds": float("inf")},
        {"timeout_seconds": "5"},
        # The letters of a name: nothing would be kept secret, and the tool granted to nobody.
        {"secret_arguments": "password"},
        {"volatile": "at"},
        {"scopes": "billing:read"},
    ],
    ids=str,
)
def test_slips_of_a_declaration_show_where_it_is_made(slip: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(slip))):

        @tool(**slip)
        def pay(password: str, at: str = "") -> None:
            """Pay."""


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("words", "words"),
        ("", "(empty)"),
        (" \n", "(empty)"),
        (None, "(no content)"),
        (5, "5"),
        (True, "true"),
        ({"a": [1, None]}, '{"a":[1,null]}'),
        (Point(x=1), '{"x":1,"y":2}'),
        ([Point(x=1)], '[{"x":1,"y":2}]'),
        (date(2026, 3, 2), '"2026-03-02"'),
        ({1: {2}}, '{"1":[2]}'),
        (b"bytes", '"bytes"'),
        ([], "[]"),
        (float("nan"), "null"),
        ([{"type": "text", "text": 5}], '[{"type":"text","text":5}]'),
        ([{"type": "text"}], '[{"type":"text"}]'),
        ([{"type": "tool_use", "id": "x"}], '[{"type":"tool_use","id":"x"}]'),
    ],
)
def test_everything_that_is_json_becomes_text(value: Any, text: str) -> None:
    assert content_of(value) == [{"type": "text", "text": text}]


def test_content_blocks_stay_what_they_are() -> None:
    blocks = [{"type": "text", "text": "a"}, {"type": "image", "source": {"type": "base64"}}]
    assert content_of(blocks) == blocks
    assert content_of([{"type": "text", "text": " "}]) == [{"type": "text", "text": "(empty)"}]


def test_garbage_is_refused() -> None:
    loop: list[Any] = []
    loop.append(loop)
    for value in (object(), b"\xff\xfe", {"a": object()}, loop, [{"type": "image", "source": object()}]):
        with pytest.raises((ValueError, TypeError)):
            content_of(value)


def test_agents_are_checked_when_they_are_made() -> None:
    good: dict[str, Any] = {"name": "a", "model": "m", "system": "s"}
    assert Agent(**good)
    for bad in (
        {"name": "A"},
        {"name": "-a"},
        {"name": "a" * 64},
        {"system": " "},
        {"placement": "moon"},
        {"done": "maybe"},
        {"tools": [plain, plain]},
    ):
        with pytest.raises(ValueError):
            Agent(**good | bad)
    assert json.dumps(plain.schema())
