"""What comes from outside: what is refused is told by its place, and nothing that was sent is repeated."""

from __future__ import annotations

from typing import Any

import pytest

from turnkeeper.core.errors import InvalidRequest
from turnkeeper.core.inputs import (
    MAX_BLOCKS,
    MAX_DEPTH,
    MAX_METADATA_BYTES,
    MAX_METADATA_DEPTH,
    AgentName,
    Body,
    Input,
    Metadata,
    is_deeper,
    parse_json,
    read,
)

TEXT = {"type": "text", "text": "hello"}


class Request(Body):
    agent: AgentName
    input: Input
    metadata: Metadata


def request(value: Any = "hello", **more: Any) -> Request:
    return read(Request, {"agent": "plain", "input": value, **more})


def errors(value: Any) -> list[tuple[str, str]]:
    with pytest.raises(InvalidRequest) as refused:
        read(Request, value)
    return [(error["where"], error["why"]) for error in refused.value.data["errors"]]


def places(value: Any, **more: Any) -> list[str]:
    return [where for where, _ in errors({"agent": "plain", "input": value, **more})]


def nested(depth: int) -> Any:
    value: Any = "x"
    for _ in range(depth):
        value = {"a": value}
    return value


# ---- what fits ----


def test_a_text_stays_a_text_and_blocks_become_plain_json() -> None:
    assert request("hello").input == "hello"
    block = {**TEXT, "cache_control": {"type": "ephemeral"}, "citations": None}
    assert request([block]).input == [TEXT]
    assert request().metadata == {}


# ---- where it does not ----


@pytest.mark.parametrize(
    ("value", "where"),
    [
        ("", "body.input"),
        (" \n", "body.input"),
        ([], "body.input"),
        ([{"type": "text", "text": " "}, {"type": "text", "text": ""}], "body.input"),
        ([TEXT] * (MAX_BLOCKS + 1), "body.input"),
        (7, "body.input"),
        ([7], "body.input[0]"),
        ([TEXT, {"type": "text"}], "body.input[1].text"),
        ([TEXT, {"type": "text", "text": 7}], "body.input[1].text"),
        ([{**TEXT, "role": "user"}], "body.input[0].role"),
        ([{"type": "tool_result", "tool_use_id": "t"}], "body.input[0]"),
        ([{"type": "image"}], "body.input[0].source"),
        ([{"type": "image", "source": {"type": "url", "url": "http://e"}}], "body.input[0].source.url"),
        ([{"type": "image", "source": {"type": "file", "file_id": "f"}}], "body.input[0].source"),
        (
            [{"type": "document", "source": {"type": "content", "content": [{"type": "text", "text": ""}]}}],
            "body.input[0].source.content[0].text",
        ),
        ([{"type": "search_result", "source": "s", "title": "", "content": [TEXT]}], "body.input[0].title"),
        ([{"type": "search_result", "source": "s", "title": "t", "content": []}], "body.input[0].content"),
    ],
)
def test_what_does_not_fit_is_told_by_the_place_where_it_was_sent(value: Any, where: str) -> None:
    assert places(value) == [where]


def test_a_block_is_enough_where_others_are_blank() -> None:
    assert request([{"type": "text", "text": " "}, TEXT]).input == [{"type": "text", "text": " "}, TEXT]
    image = {"type": "image", "source": {"type": "url", "url": "https://e/a.png"}}
    assert request([image]).input == [image]
    assert len(request([TEXT] * MAX_BLOCKS).input) == MAX_BLOCKS


def test_several_errors_are_told_and_not_without_end() -> None:
    assert sorted(where for where, _ in errors({"input": 7, "more": 1})) == ["body.agent", "body.input", "body.more"]
    assert places([{"type": "text", "text": 7}] * 50) == [f"body.input[{n}].text" for n in range(20)]


def test_nothing_but_names_is_repeated() -> None:
    found = errors({"agent": "x" * 64, "input": {"hunter2": "hunter3"}, "metadata": "hunter4"})
    assert [where for where, _ in found] == ["body.agent", "body.input", "body.metadata"]
    assert "hunter" not in str(found)
    assert all(why and not why.startswith("Value error") for _, why in found)


@pytest.mark.parametrize("value", [None, 7, "text", []])
def test_a_body_is_an_object(value: Any) -> None:
    assert [where for where, _ in errors(value)] == ["body"]


# ---- sizes ----


def test_depth_is_counted_by_objects_and_lists() -> None:
    assert not is_deeper("x", 0)
    assert is_deeper({}, 0)
    assert not is_deeper({"a": 1}, 1)
    assert is_deeper({"a": []}, 1)
    assert is_deeper([1, [2, [3]]], 2)
    assert not is_deeper([1, [2, [3]]], 3)
    assert is_deeper(nested(100_000), 64)


def test_a_body_may_be_nested_so_deep_and_metadata_less() -> None:
    assert request(metadata=nested(MAX_METADATA_DEPTH)).metadata == nested(MAX_METADATA_DEPTH)
    assert places("x", metadata=nested(MAX_METADATA_DEPTH + 1)) == ["body.metadata"]
    deep = [{**TEXT, "cache_control": nested(MAX_DEPTH - 3)}]
    assert request(deep).input == [TEXT]
    with pytest.raises(InvalidRequest, match=f"more than {MAX_DEPTH} deep") as refused:
        request([{**TEXT, "cache_control": nested(MAX_DEPTH - 2)}])
    assert refused.value.data == {"errors": [{"where": "body", "why": "nested too deep"}]}


def test_metadata_is_bounded_in_bytes() -> None:
    room = MAX_METADATA_BYTES - len('{"a": ""}')
    assert request(metadata={"a": "é" * (room // 2)})
    assert places("x", metadata={"a": "é" * (room // 2 + 1)}) == ["body.metadata"]


# ---- JSON ----


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "Expecting value"),
        ("{", "Expecting property name"),
        ("NaN", "NaN is not JSON"),
        ('{"a": -Infinity}', "-Infinity is not JSON"),
        ('{"a": [1e999]}', "1e999 is too large a number"),
        ("[" * 200_000, "nested too deep"),
    ],
)
def test_what_is_no_json(text: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        parse_json(text)


def test_json_is_read_as_it_is() -> None:
    assert parse_json('{"a": [1, null, "é"]}') == {"a": [1, None, "é"]}
