"""What is refused, and in which words."""

import contextlib
import copy
import json
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from turnkeeper_local.standin.errors import ApiError
from turnkeeper_local.standin.signatures import redact, sign_thinking
from turnkeeper_local.standin.validate import parse_body, validate_count, validate_message

TOOL = {
    "name": "look",
    "description": "Look.",
    "input_schema": {"type": "object", "properties": {"a": {"type": "string"}}},
}
USE = {"type": "tool_use", "id": "toolu_1", "name": "look", "input": {}}
RESULT = {"type": "tool_result", "tool_use_id": "toolu_1", "content": "seen"}
CACHE = {"type": "ephemeral"}


SEARCH = {"type": "server_tool_use", "id": "srvtoolu_1", "name": "web_search", "input": {"query": "x"}}
FOUND = {"type": "web_search_tool_result", "tool_use_id": "srvtoolu_1", "content": []}
MCP_USE = {"type": "mcp_tool_use", "id": "mcptoolu_1", "name": "find", "server_name": "s", "input": {}}
MCP_RESULT = {"type": "mcp_tool_result", "tool_use_id": "mcptoolu_1", "is_error": False, "content": []}
DOCUMENT = {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "words"}}
CITED = {**DOCUMENT, "citations": {"enabled": True}}
FOUND_HERE = {
    "type": "search_result",
    "source": "https://example.com",
    "title": "t",
    "content": [{"type": "text", "text": "words"}],
    "citations": {"enabled": True},
}
IMAGE = {"type": "image", "source": {"type": "url", "url": "https://example.com/a.png"}}


def nested(depth: int) -> Any:
    value: Any = "x"
    for _ in range(depth):
        value = [value]
    return value


def request(**fields: Any) -> dict[str, Any]:
    base = {"model": "claude-sonnet-5-5", "max_tokens": 100, "messages": [{"role": "user", "content": "hi"}]}
    return {**base, **fields}


def talk(*contents: Any) -> dict[str, Any]:
    roles = ("user", "assistant")
    return request(messages=[{"role": roles[i % 2], "content": c} for i, c in enumerate(contents)])


def text(value: str, **fields: Any) -> dict[str, Any]:
    return {"type": "text", "text": value, **fields}


def without(key: str) -> dict[str, Any]:
    return {name: value for name, value in request().items() if name != key}


GOOD = {
    "plain": request(),
    "blocks": talk(
        [text("hi"), {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "aGk="}}]
    ),
    "everything": request(
        system=[text("be good", cache_control=CACHE)],
        tools=[TOOL, {"type": "web_search_20260318", "name": "web_search"}],
        tool_choice={"type": "tool", "name": "look", "disable_parallel_tool_use": True},
        metadata={"user_id": "u-1"},
        stop_sequences=["END"],
        stream=True,
        service_tier="auto",
        speed="fast",
        inference_geo="us",
        container=None,
        output_config={"effort": "low", "format": {"type": "json_schema", "schema": {}}},
        thinking={"type": "adaptive", "display": "omitted"},
        cache_control=CACHE,
    ),
    "tools": talk("hi", [text("ok"), USE], [RESULT, text("and now?")]),
    "results in two messages": request(
        messages=[
            {"role": "user", "content": "hi"},
            {"role": "assistant", "content": [USE, {**USE, "id": "toolu_2"}]},
            {"role": "user", "content": [RESULT]},
            {"role": "user", "content": [{**RESULT, "tool_use_id": "toolu_2"}]},
        ]
    ),
    "users in a row": request(messages=[{"role": "user", "content": "a"}, {"role": "user", "content": "b"}]),
    "result without content": talk("hi", [USE], [{"type": "tool_result", "tool_use_id": "toolu_1"}]),
    "empty result": talk("hi", [USE], [{**RESULT, "content": []}]),
    "thinking": talk(
        "hi", [{"type": "thinking", "thinking": "hm", "signature": sign_thinking("hm")}, text("ok")], "go"
    ),
    "redacted": talk("hi", [{"type": "redacted_thinking", "data": redact("hm")}, text("ok")], "go"),
    "system message": request(messages=[{"role": "user", "content": "a"}, {"role": "system", "content": "b"}]),
    "budget": request(max_tokens=2000, thinking={"type": "enabled", "budget_tokens": 1024}),
    "a server tool": talk("hi", [SEARCH, FOUND, text("ok")], "go"),
    "a server tool that goes on in the next message": request(
        messages=[
            {"role": "user", "content": "hi"},
            {"role": "assistant", "content": [SEARCH]},
            {"role": "assistant", "content": [FOUND, text("ok")]},
            {"role": "user", "content": "go"},
        ]
    ),
    "a paused server tool": talk("hi", [SEARCH]),
    "a server tool that waits for one of ours": talk(
        "hi",
        [
            {**SEARCH, "name": "code_execution"},
            {**USE, "caller": {"type": "code_execution_20260120", "tool_id": "srvtoolu_1"}},
        ],
        [RESULT],
        [{**FOUND, "type": "code_execution_tool_result"}, text("ok")],
        "go",
    ),
    "an mcp tool": talk("hi", [MCP_USE, MCP_RESULT], "go"),
    "documents all cited": talk("hi", [USE], [{**RESULT, "content": [CITED]}, CITED]),
    "a document of parts": talk([{**DOCUMENT, "source": {"type": "content", "content": [IMAGE]}}]),
    "documents not cited": talk([DOCUMENT, {**CITED, "citations": {"enabled": False}}, {**FOUND_HERE}]),
    "nested as deep as it goes": talk("hi", [{**USE, "input": {"a": nested(190)}}], [RESULT]),
    "four markers": talk([text(str(n), cache_control={"type": "ephemeral", "ttl": "1h"}) for n in range(4)]),
}


@pytest.mark.parametrize("name", GOOD)
def test_accepted(name: str) -> None:
    before = copy.deepcopy(GOOD[name])
    validate_message(GOOD[name], beta=False)
    assert GOOD[name] == before


BAD = [
    (without("model"), "model: Field required"),
    (without("max_tokens"), "max_tokens: Field required"),
    (without("messages"), "messages: Field required"),
    (request(model=""), "model: String"),
    (request(model=3), "model: Input should be a valid string"),
    (request(max_tokens=0), "max_tokens: Input should be greater than or equal to 1"),
    (request(max_tokens="5"), "max_tokens: Input should be a valid integer"),
    (request(max_tokens=True), "max_tokens: Input should be a valid integer"),
    (request(max_tokens=10**7), "maximum allowed number of output tokens"),
    (request(temperature=1.0), "temperature: Extra inputs are not permitted"),
    (request(top_p=0.5), "top_p: Extra inputs are not permitted"),
    (request(top_k=5), "top_k: Extra inputs are not permitted"),
    (request(foo=1), "foo: Extra inputs are not permitted"),
    (request(mcp_servers=[]), "mcp_servers: Extra inputs are not permitted"),
    (request(stream="yes"), "stream: Input should be a valid boolean"),
    (request(system=None), "system: Input should not be null"),
    (request(system=3), "system: Input should be"),
    (request(system=[text("")]), "system: text content blocks must be non-empty"),
    (request(metadata={"tenant": "a"}), "metadata.tenant: Extra inputs"),
    (request(metadata={"user_id": "a@example.com"}), "email"),
    (request(stop_sequences=[" "]), "non-whitespace"),
    (request(service_tier="gold"), "service_tier: Input should be 'auto' or 'standard_only'"),
    (request(thinking={"type": "enabled", "budget_tokens": 10}), "budget_tokens: Input should be greater"),
    (request(thinking={"type": "enabled", "budget_tokens": 2000}), "must be greater than `thinking.budget_tokens`"),
    (request(thinking={"type": "adaptive", "budget_tokens": 2000}), "Extra inputs"),
    (request(thinking={"type": "deep"}), "thinking.type: Input should be"),
    (request(messages=[]), "at least one message is required"),
    (request(messages={}), "messages: Input should be a valid list"),
    (request(messages=["hi"]), "messages.0: Input should be a valid dictionary"),
    (request(messages=[{"role": "assistant", "content": "hi"}]), 'first message must use the "user" role'),
    (request(messages=[{"role": "system", "content": "hi"}]), 'first message must use the "user" role'),
    (request(messages=[{"role": "tool", "content": "hi"}]), "messages.0.role: Input should be"),
    (request(messages=[{"content": "hi"}]), "messages.0.role: Field required"),
    (request(messages=[{"role": "user"}]), "messages.0.content: Field required"),
    (request(messages=[{"role": "user", "content": "hi", "id": "1"}]), "messages.0.id: Extra inputs"),
    (talk(""), "must have non-empty content"),
    (talk([]), "must have non-empty content"),
    (talk("hi", [], "go"), "must have non-empty content"),
    (talk("  "), "non-whitespace"),
    (talk([text("")]), "text content blocks must be non-empty"),
    (talk([text(" ")]), "non-whitespace"),
    (talk([text("hi", parsed_output=None)]), "messages.0.content.0.text.parsed_output: Extra inputs"),
    (talk([text("hi", citations=[{}])]), "citations are not allowed"),
    (talk([text("hi", cache_control={"type": "forever"})]), "cache_control.type: Input should be 'ephemeral'"),
    (talk([{"type": "hologram"}]), "Input tag 'hologram'"),
    (talk([{"text": "hi"}]), "messages.0.content.0.type: Field required"),
    (talk([USE]), "can only be in `assistant` messages"),
    (talk("hi", [RESULT], "go"), "can only be in `user` messages"),
    (talk("hi", [{"type": "document", "source": {}}], "go"), "can only be in `user` messages"),
    (talk([{**DOCUMENT, "source": {"type": "content", "content": [{**IMAGE, "x": 1}]}}]), "x: Extra inputs"),
    (talk([{**DOCUMENT, "source": {"type": "content", "content": [DOCUMENT]}}]), "expected tags: 'text', 'image'"),
    (
        talk("hi", [USE]),
        "messages.1: `tool_use` ids were found without `tool_result` blocks immediately after: toolu_1",
    ),
    (talk("hi", [USE], "no result"), "without `tool_result` blocks immediately after: toolu_1"),
    (talk("hi", [USE], [text("first"), RESULT]), "must come first"),
    (talk("hi", [USE], [RESULT, RESULT]), "each tool_use must have a single result"),
    (talk("hi", [USE], [RESULT], "ok", [RESULT]), "messages.4.content.0: unexpected `tool_use_id`"),
    (talk([RESULT]), "messages.0.content.0: unexpected `tool_use_id` found in `tool_result` blocks: toolu_1"),
    (talk("hi", [USE, {**USE, "id": "toolu_2"}], [RESULT]), "immediately after: toolu_2"),
    (talk("hi", [USE, USE], [RESULT]), "messages.1.content.1: `tool_use` ids must be unique"),
    (talk("hi", [USE], [RESULT], [USE], [RESULT]), "ids must be unique"),
    (talk("hi", [{**USE, "input": "x"}], [RESULT]), "tool_use.input: Input should be a valid dictionary"),
    (talk("hi", [{**USE, "id": "a b"}], [RESULT]), "tool_use.id: String should match pattern"),
    (talk("hi", [{**USE, "index": 0}], [RESULT]), "tool_use.index: Extra inputs"),
    (talk("hi", [USE], [{**RESULT, "outcome": "ok"}]), "tool_result.outcome: Extra inputs"),
    (talk("hi", [USE], [{**RESULT, "content": 3}]), "tool_result.content: Input should be"),
    (talk("hi", [USE], [{**RESULT, "content": [text("")]}]), "non-empty"),
    (talk("hi", [USE], [{**RESULT, "content": [USE]}]), "Input tag 'tool_use'"),
    (talk("hi", [USE], [{**RESULT, "content": "", "is_error": True}]), "cannot be empty if `is_error`"),
    (
        talk("hi", [SEARCH, text("ok")], "go"),
        "messages.1: `web_search` tool use with id `srvtoolu_1` was found without a corresponding "
        "`web_search_tool_result` block",
    ),
    (talk("hi", [MCP_USE], "go"), "without a corresponding `mcp_tool_result` block"),
    (
        talk("hi", [text("ok"), FOUND], "go"),
        "messages.1.content.1: unexpected `tool_use_id` found in `web_search_tool_result` blocks: srvtoolu_1",
    ),
    (talk("hi", [FOUND, SEARCH], "go"), "must have a corresponding `server_tool_use` block before it"),
    (talk("hi", [SEARCH, FOUND, FOUND], "go"), "unexpected `tool_use_id`"),
    (talk("hi", [SEARCH, {**USE, "caller": {"type": "direct"}}], [RESULT], [FOUND], "go"), "without a corresponding"),
    (talk("hi", [{**SEARCH, "id": "a b"}]), "server_tool_use.id: String should match pattern"),
    (talk("hi", [{**SEARCH, "input": []}]), "server_tool_use.input: Input should be a valid dictionary"),
    (talk([DOCUMENT, CITED]), "citations must be enabled on all or none"),
    (talk("hi", [USE], [{**RESULT, "content": [CITED]}], "ok", [DOCUMENT]), "citations must be enabled on all or none"),
    (talk([FOUND_HERE, {**FOUND_HERE, "citations": {"enabled": False}}]), "citations must be enabled on all or none"),
    (talk([{**DOCUMENT, "citations": {"enabled": "yes"}}]), "citations.enabled: Input should be a valid boolean"),
    (talk([{**DOCUMENT, "source": {"type": "text", "data": "x"}}]), "source.text.media_type: Field required"),
    (
        talk("hi", [{"type": "thinking", "thinking": "hm!", "signature": sign_thinking("hm")}], "go"),
        "Invalid `signature`",
    ),
    (talk("hi", [{"type": "thinking", "thinking": "hm"}], "go"), "signature: Field required"),
    (talk("hi", [{"type": "redacted_thinking", "data": "AAAA"}], "go"), "Invalid `data`"),
    (
        talk([text(str(n), cache_control=CACHE) for n in range(5)]),
        "A maximum of 4 blocks with cache_control may be provided. Found 5.",
    ),
    ({**talk([text(str(n), cache_control=CACHE) for n in range(4)]), "cache_control": CACHE}, "Found 5."),
    (
        {**talk([text("b", cache_control={**CACHE, "ttl": "1h"})]), "system": [text("a", cache_control=CACHE)]},
        "must not come after a ttl='5m'",
    ),
    (request(tools=[{**TOOL, "name": "a b"}]), "tools.0.custom.name: String should match pattern"),
    (request(tools=[{**TOOL, "name": "a" * 129}]), "String should match pattern"),
    (request(tools=[TOOL, TOOL]), "Tool names must be unique"),
    (request(tools=[{"name": "look"}]), "tools.0.custom.input_schema: Field required"),
    (request(tools=[{**TOOL, "input_schema": {}}]), "input_schema.type: Field required"),
    (request(tools=[{**TOOL, "input_schema": {"type": "string"}}]), "Input should be 'object'"),
    (
        request(tools=[{**TOOL, "input_schema": {"type": "object", "anyOf": []}}]),
        "does not support oneOf, allOf, or anyOf",
    ),
    (
        request(tools=[{**TOOL, "input_schema": {"type": "object", "properties": {"a b": {}}}}]),
        "Property keys should match pattern",
    ),
    (request(tools=[{**TOOL, "strict": True}]), "additionalProperties"),
    (request(tools=[{**TOOL, "effect": "read"}]), "tools.0.custom.effect: Extra inputs"),
    (request(tools=[{"type": "teleport_2026", "name": "x"}]), "Input tag 'teleport_2026'"),
    (request(tools=[TOOL], tool_choice={"type": "tool", "name": "other"}), "Tool 'other' not found"),
    (request(tools=[TOOL], tool_choice={"type": "must"}), "tool_choice.type: Input should be"),
    (request(tool_choice={"type": "any"}), "only be specified while providing tools"),
]


@pytest.mark.parametrize(("body", "words"), BAD, ids=[words for _, words in BAD])
def test_refused(body: dict[str, Any], words: str) -> None:
    with pytest.raises(ApiError) as caught:
        validate_message(body, beta=False)
    assert caught.value.status == 400
    assert caught.value.error_type == "invalid_request_error"
    assert words in caught.value.message


ANY_BLOCK = {
    "text": lambda block: talk([block]),
    "image": lambda block: talk([block]),
    "document": lambda block: talk([block]),
    "search_result": lambda block: talk([block]),
    "container_upload": lambda block: talk([block]),
    "tool_use": lambda block: talk("hi", [block], [RESULT]),
    "tool_result": lambda block: talk("hi", [USE], [block]),
    "server_tool_use": lambda block: talk("hi", [block, FOUND], "go"),
    "web_search_tool_result": lambda block: talk("hi", [SEARCH, block], "go"),
    "mcp_tool_use": lambda block: talk("hi", [block, MCP_RESULT], "go"),
    "mcp_tool_result": lambda block: talk("hi", [MCP_USE, block], "go"),
    "compaction": lambda block: talk("hi", [block, text("ok")], "go"),
}
BLOCKS = [
    *(text("hi"), IMAGE, DOCUMENT, FOUND_HERE, {"type": "container_upload", "file_id": "file_1"}, USE, RESULT),
    *(SEARCH, FOUND, MCP_USE, MCP_RESULT, {"type": "compaction", "content": "Summary"}),
]


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: block["type"])
@given(name=st.from_regex(r"x_[a-z]{1,9}|raw_input|parsed_output|outcome", fullmatch=True))
def test_a_field_that_a_block_does_not_have_is_refused(block: dict[str, Any], name: str) -> None:
    place = ANY_BLOCK[block["type"]]
    validate_message(place(block), beta=False)
    with pytest.raises(ApiError, match=rf"{block['type']}\.{name}: Extra inputs are not permitted"):
        validate_message(place({**block, name: 1}), beta=False)


@pytest.mark.parametrize("block", [IMAGE, DOCUMENT], ids=lambda block: block["type"])
def test_a_field_that_a_source_does_not_have_is_refused(block: dict[str, Any]) -> None:
    with pytest.raises(ApiError, match=r"source\..*Extra inputs"):
        validate_message(talk([{**block, "source": {**block["source"], "size": 1}}]), beta=False)


NAMES = st.text(max_size=3) | st.from_regex(r"[a-zA-Z0-9_-]{0,130}", fullmatch=True)


@given(NAMES, NAMES)
def test_ids_and_names_are_what_the_api_takes(identity: str, name: str) -> None:
    body = talk("hi", [{**USE, "id": identity, "name": name}], [{**RESULT, "tool_use_id": identity}])
    tool = request(tools=[{**TOOL, "name": name}])
    right_name = bool(re.fullmatch("[a-zA-Z0-9_-]{1,128}", name))
    right_id = bool(re.fullmatch("[a-zA-Z0-9_-]+", identity))
    for each, right in ((body, right_name and right_id), (tool, right_name)):
        with contextlib.nullcontext() if right else pytest.raises(ApiError, match="String should match pattern"):
            validate_message(each, beta=False)


@given(st.text(max_size=4) | st.from_regex(r"[a-zA-Z0-9_.-]{0,70}", fullmatch=True))
def test_property_names_are_what_the_api_takes(name: str) -> None:
    body = request(tools=[{**TOOL, "input_schema": {"type": "object", "properties": {name: {}}}}])
    right = bool(re.fullmatch(r"[a-zA-Z0-9_.-]{1,64}", name))
    with contextlib.nullcontext() if right else pytest.raises(ApiError, match="Property keys should match"):
        validate_message(body, beta=False)


def test_beta_fields_need_a_beta_request() -> None:
    validate_message(request(mcp_servers=[], context_management={}), beta=True)


def test_count_tokens_takes_no_max_tokens() -> None:
    validate_count(without("max_tokens"), beta=False)
    with pytest.raises(ApiError, match="max_tokens: Extra inputs"):
        validate_count(request(), beta=False)


NOT_JSON = [
    *(b'{"a": %s}' % number for number in (b"NaN", b"Infinity", b"-Infinity", b"1e999", b"-1e999")),
    *(b'{"a": ' + b"[" * depth + b"]" * depth + b"}" for depth in (200, 900, 5_000)),
]


@pytest.mark.parametrize("depth", [0, 10, 199])
def test_bodies_are_read_as_deep_as_the_parser_goes(depth: int) -> None:
    assert parse_body(json.dumps({"a": nested(depth)}).encode()) == {"a": nested(depth)}


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"3", b"\xff", b'{"a": "\\ud800"}', b"[" * 100_000, *NOT_JSON])
def test_bodies_that_are_no_json_object(body: bytes) -> None:
    with pytest.raises(ApiError):
        parse_body(body)
