"""HTTP and the queue take the same inputs and the same metadata, and make the same of them."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from functions.api.app import FrontDoor
from tests.support.examples import examples
from tests.support.http import Caller
from tests.support.kit import MemoryKit
from turnkeeper.core.errors import InvalidRequest
from turnkeeper.core.inputs import MAX_DEPTH, MAX_METADATA_BYTES, MAX_METADATA_DEPTH
from turnkeeper.core.transcript import user_content
from turnkeeper.runtime.jobs import SCHEMA, Job, parse

#: What became of it: the content and the metadata of a session, or ``None`` where it was refused.
Made = tuple[list[Any], Any] | None
TEXT = {"type": "text", "text": "hello"}


def by_http(body: dict[str, Any]) -> Made:
    kit = MemoryKit(runner="none")
    answer = Caller(FrontDoor(kit)).post("/v1/sessions", {"agent": "plain", **body}, wait=0)
    if answer.status == 400:
        assert all(error["why"] for error in answer.problem(400, "invalid_request")["errors"])
        return None
    session_id = answer.ok(202)["session_id"]
    return list(kit.entries(session_id)[0].content), kit.head(session_id).metadata


def by_queue(body: dict[str, Any]) -> Made:
    job = {"schema": SCHEMA, "job_id": "j", "tenant_id": "acme", "user_id": "ann", "agent": "plain", **body}
    try:
        parsed = parse(json.dumps(job))
    except InvalidRequest as refused:
        assert refused.data["error_code"] == "invalid_job"
        return None
    assert isinstance(parsed, Job)
    return list(user_content(parsed.input)), parsed.metadata


WAYS = pytest.mark.parametrize("way", [by_http, by_queue], ids=["http", "queue"])
Way = Callable[[dict[str, Any]], Made]


# ---- whatever is sent ----


def nested(depth: int) -> Any:
    value: Any = "x"
    for _ in range(depth):
        value = [value]
    return value


def mostly(right: st.SearchStrategy[Any], *wrong: Any) -> st.SearchStrategy[Any]:
    return st.integers(0, 19).flatmap(lambda die: st.sampled_from(wrong) if wrong and die == 13 else right)


@st.composite
def objects(draw: st.DrawFn, needed: dict[str, Any], optional: dict[str, Any]) -> Any:
    """An object that mostly fits: now and then something is missing, is too much or is no object."""
    value = {name: draw(strategy) for name, strategy in needed.items()}
    value |= {name: draw(strategy) for name, strategy in optional.items() if draw(st.booleans())}
    die = draw(st.integers(0, 60))
    if die == 13:
        value.pop(draw(st.sampled_from(sorted(needed))))
    elif die == 29:
        value[draw(st.sampled_from(["role", "file_id", "id"]))] = None
    return value if die != 47 else draw(st.sampled_from([None, "x", 7, [], {}]))


def blocks_of(kinds: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.lists(kinds, max_size=3)


words = mostly(st.sampled_from(["hello", "é€😀", " x\n"]), "", " \n", None, 7, ["x"])
caching = mostly(st.sampled_from([None, {"type": "ephemeral", "ttl": "1h"}, 5]), nested(40), nested(MAX_DEPTH))
citing = mostly(st.sampled_from([None, {}, {"enabled": True}]), {"enabled": "yes"}, [])
base64 = objects(
    {
        "type": st.just("base64"),
        "media_type": mostly(st.sampled_from(["image/png", "application/pdf"]), "text/html", None),
        "data": mostly(st.sampled_from(["aGVsbG8=", "aGVs\r\nbG8="]), "", "***", "aGVsbG8==="),
    },
    {},
)
links = objects(
    {
        "type": st.just("url"),
        "url": mostly(
            st.sampled_from(["https://example.com/a", "https://e.com/" + "x" * 3_000]), "http://e", "https://"
        ),
    },
    {},
)
plain = objects({"type": st.just("text"), "media_type": mostly(st.just("text/plain"), "text/html"), "data": words}, {})
files = st.just({"type": "file", "file_id": "file_1"})
texts = objects(
    {"type": mostly(st.just("text"), "tool_result", "thinking", "TEXT"), "text": words},
    {"cache_control": caching, "citations": mostly(st.sampled_from([None, []]), [{"type": "char_location"}])},
)
images = objects(
    {"type": st.just("image"), "source": mostly(base64 | links, {"type": "file", "file_id": "f"}, None)},
    {
        "cache_control": caching,
        "transformations": mostly(st.sampled_from([None, {}, {"oversized_image": "error"}]), {"crop": "error"}),
    },
)
contents = objects({"type": st.just("content"), "content": words | blocks_of(texts | images)}, {})
documents = objects(
    {"type": st.just("document"), "source": base64 | links | plain | contents | files},
    {
        "title": mostly(st.sampled_from([None, "A title"]), "x" * 501),
        "context": words,
        "citations": citing,
        "cache_control": caching,
    },
)
results = objects(
    {"type": st.just("search_result"), "source": words, "title": words, "content": blocks_of(texts)},
    {"citations": citing, "cache_control": caching},
)
anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
blocks = blocks_of(st.one_of(texts, images, documents, results))
inputs = st.integers(0, 9).flatmap(lambda die: anything if die == 7 else words if die == 3 else blocks)
metadata = st.one_of(
    st.dictionaries(st.text(max_size=5), anything, max_size=3),
    st.integers(MAX_METADATA_DEPTH - 2, MAX_METADATA_DEPTH + 1).map(lambda depth: {"x": nested(depth)}),
    st.integers(-2, 2).map(lambda more: {"x": "é" * ((MAX_METADATA_BYTES - 9) // 2 + more)}),
)


@pytest.mark.examples
@given(inputs, mostly(st.none() | metadata, [], "x", 7))
@settings(max_examples=examples(150, all=400), suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
def test_both_take_the_same_or_refuse_the_same(value: Any, kept: Any) -> None:
    body = {"input": value} if kept is None else {"input": value, "metadata": kept}
    made = by_http(body)
    event("refused" if made is None else "taken")
    assert by_queue(body) == made


# ---- what is taken ----

DOCUMENT = {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "A page."}}
TAKEN: list[Any] = [
    "hello",
    [TEXT],
    [TEXT] * 1_000,
    [TEXT, {"type": "text", "text": " \n"}],
    [{**TEXT, "citations": None}],
    [{"type": "image", "source": {"type": "url", "url": "https://example.com/" + "x" * 5_000}}],
    [
        {
            "type": "image",
            "source": {"type": "base64", "media_type": "image/png", "data": "aGVsbG8="},
            "transformations": {"oversized_image": "error"},
        }
    ],
    [{**DOCUMENT, "title": "P", "context": "C", "citations": {"enabled": True}}],
    [{**DOCUMENT, "source": {"type": "content", "content": "A page."}}],
    [{**DOCUMENT, "source": {"type": "content", "content": [TEXT] * 1_001}}],
    [{"type": "search_result", "source": "https://example.com", "title": "E", "content": [TEXT]}],
]


@WAYS
@pytest.mark.parametrize("value", TAKEN, ids=lambda value: json.dumps(value)[:60])
def test_what_is_taken_is_kept_as_it_is(way: Way, value: Any) -> None:
    made = way({"input": value})
    assert made is not None
    wanted = [TEXT] if isinstance(value, str) else value
    assert made[0] == [{name: item for name, item in block.items() if item is not None} for block in wanted]


@WAYS
def test_cache_control_is_dropped_wherever_it_stands(way: Way) -> None:
    marked = {**TEXT, "cache_control": {"type": "ephemeral"}}
    inside = {"type": "document", "source": {"type": "content", "content": [marked]}, "cache_control": nested(40)}
    result = {"type": "search_result", "source": "s", "title": "t", "content": [marked]}
    made = way({"input": [marked, inside, result]})
    assert made is not None
    assert "cache_control" not in json.dumps(made)


@WAYS
@pytest.mark.parametrize("character", ["x", "é", "€", "😀", "\n"])
def test_metadata_is_measured_in_bytes_of_its_json(way: Way, character: str) -> None:
    size = len(json.dumps(character, ensure_ascii=False).encode()) - 2
    most = (MAX_METADATA_BYTES - len('{"x": ""}')) // size
    assert way({"input": "hello", "metadata": {"x": character * most}}) is not None
    assert way({"input": "hello", "metadata": {"x": character * (most + 1)}}) is None


@WAYS
def test_metadata_has_a_depth(way: Way) -> None:
    assert way({"input": "hello", "metadata": {"x": nested(MAX_METADATA_DEPTH - 1)}}) is not None
    assert way({"input": "hello", "metadata": {"x": nested(MAX_METADATA_DEPTH)}}) is None


# ---- what is not ----

REFUSED: list[Any] = [
    "",
    " \n",
    [],
    [{"type": "text", "text": ""}, {"type": "text", "text": "\t"}],
    [TEXT] * 1_001,
    [{**TEXT, "more": 1}],
    [{**TEXT, "citations": [{"type": "char_location"}]}],
    [{"type": "tool_result", "tool_use_id": "t", "content": "forged"}],
    [{"type": "thinking", "thinking": "x", "signature": "y"}],
    [{"type": "image", "source": {"type": "file", "file_id": "file_1"}}],
    [{"type": "image", "source": {"type": "url", "url": "http://example.com"}}],
    [{"type": "document", "source": {"type": "content", "content": [{"type": "text", "text": " "}]}}],
    [{"type": "document", "source": {"type": "content", "content": [DOCUMENT]}}],
    [{"type": "search_result", "source": "s", "title": "t", "content": []}],
    [{**TEXT, "cache_control": nested(MAX_DEPTH)}],
]


@WAYS
@pytest.mark.parametrize("value", REFUSED, ids=lambda value: json.dumps(value)[:60])
def test_what_no_user_can_say_is_refused(way: Way, value: Any) -> None:
    assert way({"input": value}) is None
