"""The adapter of the port Model, with the real SDK, against a server that misbehaves on purpose."""

from __future__ import annotations

import json
import logging
import socket
import threading
import time
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.scripted_api import Script, answer, one, reset, scripted, sse, stream
from turnkeeper.adapters.anthropic_errors import status_error
from turnkeeper.adapters.anthropic_model import AnthropicModel
from turnkeeper.adapters.anthropic_stream import PartialMessage
from turnkeeper.core.admission import MAX_DEPTH
from turnkeeper.core.errors import ProviderError, Uncountable
from turnkeeper.ports import ModelReply, ModelRequest

KEY = "sk-test-not-a-key-2f6c"
USAGE = {
    "input_tokens": 25,
    "cache_creation_input_tokens": 10,
    "cache_read_input_tokens": 5,
    "cache_creation": {"ephemeral_5m_input_tokens": 10, "ephemeral_1h_input_tokens": 0},
    "output_tokens": 1,
    "service_tier": "standard",
}


class Keys:
    def __init__(self, *keys: str) -> None:
        self.keys = list(keys) or [KEY]

    def __call__(self) -> str:
        return self.keys[0]

    def refresh(self) -> str:
        if len(self.keys) > 1:
            self.keys.pop(0)
        return self.keys[0]


def start(**extra: Any) -> dict[str, Any]:
    message = {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "claude-sonnet-5-5",
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
        "usage": USAGE,
    }
    return {"type": "message_start", "message": {**message, **extra}}


def block(index: int, raw: dict[str, Any], *deltas: dict[str, Any]) -> list[dict[str, Any]]:
    return [
        {"type": "content_block_start", "index": index, "content_block": raw},
        *({"type": "content_block_delta", "index": index, "delta": delta} for delta in deltas),
        {"type": "content_block_stop", "index": index},
    ]


def text(index: int, *parts: str) -> list[dict[str, Any]]:
    return block(index, {"type": "text", "text": ""}, *({"type": "text_delta", "text": part} for part in parts))


def tool(index: int, *parts: str, name: str = "look") -> list[dict[str, Any]]:
    raw = {"type": "tool_use", "id": f"toolu_{index}", "name": name, "input": {}}
    return block(index, raw, *({"type": "input_json_delta", "partial_json": part} for part in parts))


def finish(stop_reason: str | None = "end_turn", output_tokens: int = 42, **usage: Any) -> list[dict[str, Any]]:
    delta = {"stop_reason": stop_reason, "stop_sequence": None}
    return [
        {"type": "message_delta", "delta": delta, "usage": {"output_tokens": output_tokens, **usage}},
        {"type": "message_stop"},
    ]


HELLO = [start(), *text(0, "Hel", "lo"), *finish()]


def request(**changes: Any) -> ModelRequest:
    settings: dict[str, Any] = {
        "model": "claude-sonnet-5-5",
        "max_tokens": 100,
        "system": [{"type": "text", "text": "Be brief."}],
        "tools": [],
        "messages": [{"role": "user", "content": "private words"}],
        "options": {},
    }
    return ModelRequest(**{**settings, **changes})


def call(*scripts: Script, timeout_seconds: float = 10, **settings: Any) -> ModelReply:
    with scripted(*scripts) as api:
        model = AnthropicModel(settings.pop("keys", Keys()), api.url, **settings)
        return model.call(request(), timeout_seconds=timeout_seconds)


def failure(*scripts: Script, **settings: Any) -> ProviderError:
    with pytest.raises(ProviderError) as caught:
        call(*scripts, **settings)
    return caught.value


# ---- what is sent ----


def test_sends_the_request_as_raw_json_with_options_the_sdk_does_not_know() -> None:
    options = {
        "betas": ["one-2026-01-01", "two-2026-01-01"],
        "made_up": {"deep": [1, None]},
        "thinking": {"type": "adaptive"},
        "tools": [{"type": "web_search_20250305", "name": "web_search", "max_uses": 2}],
        "stream": False,
        "model": "another",
    }
    mine = {"name": "look", "description": "d", "input_schema": {"type": "object"}, "new_field": 1}
    with scripted(stream([sse(*HELLO)])) as api:
        AnthropicModel(Keys(), api.url).call(request(options=options, tools=[mine]), timeout_seconds=5)
        seen = api.seen[0]
    assert seen.line == "POST /v1/messages?beta=true HTTP/1.1"
    assert seen.headers["anthropic-beta"] == "one-2026-01-01,two-2026-01-01"
    assert seen.headers["authorization"] == f"Bearer {KEY}"
    assert seen.body == {
        "model": "claude-sonnet-5-5",
        "max_tokens": 100,
        "stream": True,
        "system": [{"type": "text", "text": "Be brief."}],
        "messages": [{"role": "user", "content": "private words"}],
        "made_up": {"deep": [1, None]},
        "thinking": {"type": "adaptive"},
        "tools": [mine, {"type": "web_search_20250305", "name": "web_search", "max_uses": 2}],
    }


def test_leaves_out_what_is_empty() -> None:
    with scripted(stream([sse(*HELLO)])) as api:
        AnthropicModel(Keys(), api.url).call(request(system=[]), timeout_seconds=5)
        assert set(api.seen[0].body) == {"model", "max_tokens", "messages", "stream"}
        assert "anthropic-beta" not in api.seen[0].headers


def test_a_failure_is_sent_once() -> None:
    with scripted(answer(529, {}), answer(529, {})) as api:
        with pytest.raises(ProviderError):
            AnthropicModel(Keys(), api.url).call(request(), timeout_seconds=5)
        assert len(api.seen) == 1


# ---- what comes back ----


def test_a_plain_answer() -> None:
    reply = call(stream([sse(*HELLO)]))
    assert reply == ModelReply(
        message_id="msg_1",
        model="claude-sonnet-5-5",
        content=[{"type": "text", "text": "Hello"}],
        stop_reason="end_turn",
        usage={**USAGE, "output_tokens": 42},
        request_id="req_1",
    )
    assert (reply.tokens.input_tokens, reply.tokens.output_tokens) == (25, 42)


def test_final_usage_replaces_and_null_does_not() -> None:
    final = {"input_tokens": 30, "cache_read_input_tokens": None, "server_tool_use": {"web_search_requests": 2}}
    reply = call(stream([sse(start(), *text(0, "x"), *finish(**final))]))
    assert reply.usage == {
        **USAGE,
        "output_tokens": 42,
        "input_tokens": 30,
        "server_tool_use": {"web_search_requests": 2},
    }


@pytest.mark.parametrize("size", [1, 2, 3, 7])
def test_characters_split_over_chunks(size: int) -> None:
    said = "Grüße 🌍 漢字\u2028 end"
    wire = sse(start(), *text(0, said[:7], said[7:]), *tool(1, '{"q": "', "é🌍", '"}'), *finish("tool_use"))
    pieces = [wire[at : at + size] for at in range(0, len(wire), size)]
    reply = call(stream(pieces), timeout_seconds=30)
    assert reply.content[0]["text"] == said
    assert reply.content[1]["input"] == {"q": "é🌍"}


def test_keeps_thinking_with_its_signature_and_every_unknown_field() -> None:
    events = [
        start(),
        *block(
            0,
            {"type": "thinking", "thinking": "", "signature": ""},
            {"type": "thinking_delta", "thinking": "Let me "},
            {"type": "thinking_delta", "thinking": "see."},
            {"type": "signature_delta", "signature": "c2ln"},
        ),
        *block(1, {"type": "redacted_thinking", "data": "b3BhcXVl"}),
        *block(
            2,
            {"type": "text", "text": "", "citations": None, "novel": {"a": 1}},
            {"type": "text_delta", "text": "Said"},
            {"type": "citations_delta", "citation": {"type": "web_search_result_location", "url": "u", "extra": 1}},
            {"type": "citations_delta", "citation": {"type": "unheard_of", "x": [2]}},
        ),
        *block(3, {"type": "tool_use", "id": "t", "name": "n", "input": {}, "caller": {"type": "direct"}}),
        *block(4, {"type": "web_search_tool_result", "tool_use_id": "s", "content": [{"encrypted_content": "E"}]}),
        *block(
            5,
            {"type": "from_the_future", "body": "", "parts": [], "whole": 1},
            {"type": "future_delta", "body": "ab"},
            {"type": "future_delta", "body": "cd", "parts": [1]},
            {"type": "future_delta", "parts": [2], "whole": 7, "more": True},
        ),
        *block(
            6,
            {"type": "compaction", "content": None},
            {"type": "compaction_delta", "content": "Summary", "encrypted_content": "X"},
        ),
        {"type": "an_event_of_tomorrow", "index": 99},
        *finish("a_reason_of_tomorrow"),
    ]
    reply = call(stream([sse(*events)]))
    assert reply.stop_reason == "a_reason_of_tomorrow"
    assert reply.content == [
        {"type": "thinking", "thinking": "Let me see.", "signature": "c2ln"},
        {"type": "redacted_thinking", "data": "b3BhcXVl"},
        {
            "type": "text",
            "text": "Said",
            "citations": [
                {"type": "web_search_result_location", "url": "u", "extra": 1},
                {"type": "unheard_of", "x": [2]},
            ],
            "novel": {"a": 1},
        },
        {"type": "tool_use", "id": "t", "name": "n", "input": {}, "caller": {"type": "direct"}},
        {"type": "web_search_tool_result", "tool_use_id": "s", "content": [{"encrypted_content": "E"}]},
        {"type": "from_the_future", "body": "abcd", "parts": [1, 2], "whole": 7, "more": True},
        {"type": "compaction", "content": "Summary", "encrypted_content": "X"},
    ]


def test_pings_and_comments_are_passed_over() -> None:
    wire = [
        sse({"type": "ping"}, start(), {"type": "ping"}),
        b": hello\n\n",
        sse(*text(0, "x"), {"type": "ping"}, *finish()),
    ]
    assert call(stream(wire)).content == [{"type": "text", "text": "x"}]


def test_an_empty_answer_is_returned_as_it_is() -> None:
    reply = call(stream([sse(start(), *finish("end_turn", 0))]))
    assert (reply.content, reply.stop_reason) == ([], "end_turn")


@pytest.mark.parametrize("parts", [(), ("",), ("{}",), ("", "{", "}")])
def test_a_tool_without_arguments(parts: tuple[str, ...]) -> None:
    reply = call(stream([sse(start(), *tool(0, *parts), *finish("tool_use"))]))
    assert reply.content[0]["input"] == {}


@pytest.mark.parametrize("stop_reason", ["max_tokens", "model_context_window_exceeded", "refusal", "unheard_of"])
@pytest.mark.parametrize("parts", [(), ("",), ('{"path": "/etc',), ('{"path": "x"',), ("[1, 2]",)])
def test_a_tool_call_that_was_cut_off_is_kept_out(stop_reason: str, parts: tuple[str, ...]) -> None:
    events = [start(), *text(0, "x"), *tool(1, '{"a": 1}'), *tool(2, *parts), *finish(stop_reason)]
    reply = call(stream([sse(*events)]))
    assert [raw["type"] for raw in reply.content] == ["text", "tool_use"]
    assert reply.content[1]["input"] == {"a": 1}
    assert reply.stop_reason == stop_reason


def test_thinking_that_was_cut_off_before_its_signature_is_kept_out() -> None:
    thought = block(
        0, {"type": "thinking", "thinking": "", "signature": ""}, {"type": "thinking_delta", "thinking": "h"}
    )
    assert call(stream([sse(start(), *thought, *finish("max_tokens"))])).content == []


def content_of(*events: dict[str, Any]) -> list[dict[str, Any]]:
    """What the adapter's own part makes of these events, without a server in between."""
    message = PartialMessage()
    for event in (start(), *events):
        message.feed(event)
    return message.content()


_json_text = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
_numbers_that_do_not_fit = st.sampled_from(["1e999", "-1e999", "NaN", "Infinity", "-Infinity", "9" * 5_000])
_nested = st.builds(
    lambda depth, shell: shell[0] * depth + shell[1] * depth,
    st.integers(MAX_DEPTH, 5_000),
    st.sampled_from(["[]", ('{"a":[', "]}")]),
)
_no_objects = (
    st.text().filter(lambda text: text.strip() and not text.lstrip().startswith("{"))
    | _json_text.filter(lambda value: not isinstance(value, dict)).map(json.dumps)
    | _numbers_that_do_not_fit.map(lambda number: f'{{"a": [{number}]}}')
    | _nested.map(lambda value: f'{{"a": {value}}}')
    | st.dictionaries(st.text(), _json_text, min_size=1).map(lambda value: json.dumps(value)[:-1])
)


@given(_no_objects, st.sampled_from(["end_turn", "tool_use", "pause_turn"]))
def test_an_input_that_is_no_json_object_comes_back_as_the_text_that_it_is(text: str, stop_reason: str) -> None:
    events = [*tool(0, text[:3], text[3:]), *tool(1, '{"a": 1}'), *finish(stop_reason)]
    first, second = content_of(*events)
    assert first == {"type": "tool_use", "id": "toolu_0", "name": "look", "input": {}, "raw_input": text}
    assert second == {"type": "tool_use", "id": "toolu_1", "name": "look", "input": {"a": 1}}


@given(_no_objects)
def test_the_same_in_an_answer_that_was_cut_off_is_left_out(text: str) -> None:
    assert content_of(*tool(0, text), *finish("max_tokens")) == []


@given(st.dictionaries(st.text(), _json_text))
def test_an_input_that_is_a_json_object_is_read_streamed_or_whole(value: dict[str, Any]) -> None:
    whole = block(1, {"type": "tool_use", "id": "toolu_1", "name": "look", "input": value})
    first, second = content_of(*tool(0, json.dumps(value)), *whole, *finish("tool_use"))
    assert (first["input"], second["input"]) == (value, value)
    assert "raw_input" not in {*first, *second}


@given(_json_text.filter(lambda value: value and not isinstance(value, dict)))
def test_an_input_that_came_whole_and_is_no_object_is_kept_as_text(value: Any) -> None:
    events = block(0, {"type": "tool_use", "id": "toolu_0", "name": "look", "input": value})
    [raw] = content_of(*events, *finish("tool_use"))
    assert (raw["input"], json.loads(raw["raw_input"])) == ({}, value)


@pytest.mark.parametrize("field", ["id", "name"])
@given(value=_json_text.filter(lambda value: not isinstance(value, str)), missing=st.booleans())
def test_a_call_without_a_proper_id_or_name_comes_back(field: str, value: Any, missing: bool) -> None:
    raw = {"type": "tool_use", "id": "toolu_0", "name": "look", "input": {}, field: value}
    if missing:
        del raw[field]
    expected = {"type": "tool_use", "id": "toolu_0", "name": "look", "input": {}, field: ""}
    assert content_of(*block(0, raw), *finish("tool_use")) == [expected]


def test_a_call_that_makes_no_sense_is_an_answer_that_was_paid_for_once() -> None:
    reply = call(stream([sse(start(), *tool(0, '{"a": '), *finish("tool_use"))]))
    assert reply.content[0]["raw_input"] == '{"a": '
    assert reply.usage["output_tokens"] == 42


# ---- streams that break ----

LONG = [start(), *text(0, "a", "b"), *tool(1, '{"q": ', "1}"), *finish("tool_use")]


@pytest.mark.parametrize("end", ["clean", "cut", "reset"])
@pytest.mark.parametrize("count", range(len(LONG) + 1))
def test_a_stream_that_ends_after_each_event(end: str, count: int) -> None:
    script = stream([one(event) for event in LONG[:count]], end=end)
    if count >= len(LONG) - 1:
        # All there is to know has been said, message_stop or not.
        reply = call(script)
        assert reply.content[1]["input"] == {"q": 1}
        assert reply.usage["output_tokens"] == 42
        return
    error = failure(script)
    assert error.retryable
    assert error.certainty == "unknown"
    assert error.usage == (USAGE if count else None)
    assert error.request_id == "req_1"


@pytest.mark.parametrize("end", ["clean", "cut"])
def test_a_stream_that_ends_within_an_event(end: str) -> None:
    wire = sse(*LONG)
    cut = wire.index(b'"message_delta"') + 5
    error = failure(stream([wire[:cut]], end=end))
    assert (error.retryable, error.certainty, error.usage) == (True, "unknown", USAGE)


def test_final_usage_without_a_stop_reason_is_known_money() -> None:
    error = failure(stream([sse(start(), *text(0, "x"), *finish(None))]))
    assert (error.retryable, error.certainty) == (True, "known")
    assert error.usage == {**USAGE, "output_tokens": 42}


def test_a_block_left_open_is_no_answer() -> None:
    events = [event for event in HELLO if event["type"] != "content_block_stop"]
    error = failure(stream([sse(*events)]))
    assert (error.retryable, error.certainty) == (True, "known")


@pytest.mark.parametrize(
    "garbage",
    [
        b"event: content_block_delta\ndata: {not json\n\n",
        b'event: content_block_delta\ndata: {"type": "content_block_delta", "index": 7, "delta": {}}\n\n',
        b'event: content_block_delta\ndata: {"type": "content_block_delta"}\n\n',
        b"event: content_block_delta\ndata: \xff\xfe\n\n",
        b"event: message_start\ndata: null\n\nevent: content_block_stop\ndata: [3]\n\n",
    ],
)
def test_garbage_in_the_stream_never_makes_an_answer_up(garbage: bytes) -> None:
    error = failure(stream([sse(start(), garbage)]))
    assert (error.retryable, error.certainty, error.usage) == (True, "unknown", USAGE)


def test_not_a_stream_at_all() -> None:
    error = failure(answer(200, b"<html>captive portal</html>"))
    assert (error.retryable, error.certainty, error.usage) == (True, "unknown", None)


@pytest.mark.parametrize(
    ("error_type", "status", "retryable"),
    [
        ("overloaded_error", 529, True),
        ("api_error", 500, True),
        ("rate_limit_error", 429, True),
        ("invalid_request_error", 400, False),
        ("unheard_of_error", 500, True),
    ],
)
@pytest.mark.parametrize("begun", [False, True])
def test_an_error_inside_the_stream(error_type: str, status: int, retryable: bool, begun: bool) -> None:
    told = {"type": "error", "error": {"type": error_type, "message": "Sorry"}}
    error = failure(stream([sse(*([start()] if begun else []), told)]))
    assert (error.status_code, error.retryable, error.certainty) == (status, retryable, "unknown")
    assert error.usage == (USAGE if begun else None)
    assert error.data["error_type"] == error_type


# ---- time ----


def test_a_trickle_does_not_outlive_its_time() -> None:
    pieces = [sse(start()), *[one({"type": "ping"})] * 100]
    began = time.monotonic()
    error = failure(stream(pieces, pause_seconds=0.1), timeout_seconds=0.6)
    assert 0.5 < time.monotonic() - began < 2
    assert (error.retryable, error.certainty, error.usage) == (True, "unknown", USAGE)
    assert "longer than" in error.detail


def test_events_that_trickle_do_not_outlive_their_time() -> None:
    pieces = [one(event) for event in [start(), *text(0, *["x"] * 100)]]
    began = time.monotonic()
    error = failure(stream(pieces, pause_seconds=0.1), timeout_seconds=0.6)
    assert 0.5 < time.monotonic() - began < 2
    assert (error.certainty, error.usage) == ("unknown", USAGE)


def test_silence_before_the_answer() -> None:
    began = time.monotonic()
    error = failure(lambda connection: time.sleep(3), timeout_seconds=0.5)
    assert time.monotonic() - began < 2
    assert (error.retryable, error.certainty, error.usage) == (True, "unknown", None)


def test_silence_within_the_answer_ends_before_the_time_is_up() -> None:
    began = time.monotonic()
    error = failure(stream([sse(start())], end="hang"), timeout_seconds=20, idle_seconds=0.4)
    assert time.monotonic() - began < 3
    assert "silent" in error.detail
    assert (error.certainty, error.usage) == ("unknown", USAGE)


def test_a_server_that_never_ends_its_body_costs_a_second_at_most() -> None:
    began = time.monotonic()
    reply = call(stream([sse(*HELLO)], end="hang"), timeout_seconds=20)
    assert reply.content == [{"type": "text", "text": "Hello"}]
    assert time.monotonic() - began < 3


def test_no_time_left() -> None:
    error = failure(timeout_seconds=0)
    assert (error.retryable, error.certainty) == (True, "unbilled")


def test_a_slow_answer_in_time_is_an_answer() -> None:
    pieces = [one(event) for event in HELLO]
    assert call(stream(pieces, pause_seconds=0.05), timeout_seconds=10, idle_seconds=1).stop_reason == "end_turn"


# ---- errors before a stream began ----


def body(error_type: str, message: str = "Sorry") -> dict[str, Any]:
    return {"type": "error", "error": {"type": error_type, "message": message}}


@pytest.mark.parametrize(
    ("status", "error_type", "retryable"),
    [
        (400, "invalid_request_error", False),
        (401, "authentication_error", False),
        (402, "billing_error", False),
        (403, "permission_error", False),
        (404, "not_found_error", False),
        (408, "request_timeout", True),
        (409, "conflict_error", True),
        (413, "request_too_large", False),
        (422, "invalid_request_error", False),
        (429, "rate_limit_error", True),
        (500, "api_error", True),
        (502, "api_error", True),
        (503, "api_error", True),
        (504, "timeout_error", True),
        (529, "overloaded_error", True),
    ],
)
def test_error_answers(status: int, error_type: str, retryable: bool) -> None:
    error = failure(answer(status, body(error_type)))
    assert (error.status_code, error.retryable, error.certainty) == (status, retryable, "unbilled")
    assert error.usage is None
    assert error.request_id == "req_1"
    assert error.data["error_type"] == error_type
    assert "Sorry" in error.detail
    assert error.detail == str(error)


@pytest.mark.parametrize(
    ("told", "too_long"),
    [
        (answer(400, body("invalid_request_error", "prompt is too long: 200001 tokens > 200000 maximum")), True),
        (answer(400, body("invalid_request_error", "input length and `max_tokens` exceed context limit: 9")), True),
        (answer(400, {"message": "Input is too long for requested model."}), True),
        (answer(413, body("request_too_large")), True),
        (answer(400, body("invalid_request_error", "messages: at least one message is required")), False),
        (answer(500, body("api_error", "prompt is too long")), False),
    ],
)
def test_a_conversation_that_is_too_long_can_be_told(told: Script, too_long: bool) -> None:
    assert failure(told).data.get("context_window", False) is too_long


@pytest.mark.parametrize(
    ("message", "at"),
    [
        ("messages.1.content.0: `tool_use` ids must be unique", (1, 0)),
        ("messages.3: `tool_use` ids were found without `tool_result` blocks immediately after: toolu_1.", (3, None)),
        ("messages.0.content.1: unexpected `tool_use_id` found in `tool_result` blocks: toolu_1.", (0, 1)),
        ("messages.12.content.3.tool_use.input: Input should be a valid dictionary", (12, 3)),
        ("messages.1.content.0.tool_use.name: String should match pattern '^[a-zA-Z0-9_-]{1,128}$'", (1, 0)),
        ("messages.5.content.0.tool_result.content.1.image.source.base64.data: Image does not match the type", (5, 0)),
        ("messages.4.content.2.image.source.base64: image exceeds 5 MB maximum: 6 bytes > 5 bytes", (4, 2)),
        ("messages.0.content.0.document.source.base64: The PDF specified was not valid.", (0, 0)),
        ("messages.1.content.0: Invalid `signature` in `thinking` block", (1, 0)),
        ("messages.1.content.0.type: Expected `thinking` or `redacted_thinking`, but found `text`.", (1, 0)),
        ("messages.2.content: Input should be a valid list", (2, None)),
        ("messages.2.role: Input should be 'user' or 'assistant'", (2, None)),
        ("messages.7: all messages must have non-empty content", (7, None)),
        ("messages.1.content.0: X; messages.2.content.1: Y", (1, 0)),
        ("The model returned the following errors: messages.2.content.1.text.text: Field required", (2, 1)),
        (
            "Malformed input request: #/messages/1/content/2/type: bad, please reformat your input and try again.",
            (1, 2),
        ),
        ("Malformed input request: #/messages/1/content: expected minimum item count: 1, found: 0", (1, None)),
        ("messages[3].content[1].image: could not be read", (3, 1)),
        ("Could not process image", None),
        ("The PDF specified is password protected.", None),
        ("messages: text content blocks must be non-empty", None),
        ("messages: at least one message is required", None),
        ("tools.0.custom.input_schema.type: Field required", None),
        ("system.1.text: Field required", None),
        ("A maximum of 4 blocks with cache_control may be provided. Found 5.", None),
        # Amazon's own counting begins at 1; a place one off is worse than none.
        ("Value at 'messages.1.member.content.2.member.toolUse.name' failed to satisfy constraint", None),
    ],
)
@pytest.mark.parametrize(
    "shape", [lambda words: body("invalid_request_error", words), lambda words: {"message": words}]
)
def test_where_a_request_is_wrong_is_read_from_the_message(shape: Any, message: str, at: Any) -> None:
    for status, expected in ((400, at), (500, None)):
        error = status_error(status, shape(message), {}, certainty="unbilled", now=datetime.now(UTC))
        assert error.data.get("at") == expected


def test_what_to_do_is_said() -> None:
    assert "check that it is valid" in failure(answer(401, body("authentication_error"))).detail
    assert "check the model's name" in failure(answer(404, body("not_found_error", "model: claude-x"))).detail


def test_a_proxys_page_is_not_quoted_at_length() -> None:
    error = failure(answer(502, b"<html>" + b"bad gateway " * 1000))
    assert (error.retryable, error.certainty) == (True, "unbilled")
    assert len(error.detail) < 200


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after": "7"}, 7.0),
        ({"retry-after": "0.5"}, 0.5),
        ({"retry-after": "-3"}, 0.0),
        ({"retry-after-ms": "1500", "retry-after": "9"}, 1.5),
        ({"retry-after-ms": "soon", "retry-after": "9"}, 9.0),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "nan"}, None),
        ({}, None),
    ],
)
def test_retry_after(headers: dict[str, str], seconds: float | None) -> None:
    assert failure(answer(429, body("rate_limit_error"), headers)).retry_after_seconds == seconds


@pytest.mark.parametrize(("ahead", "seconds"), [(30, 30.0), (-30, 0.0)])
def test_retry_after_as_a_date(ahead: int, seconds: float) -> None:
    now = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)
    headers = {"retry-after": format_datetime(now + timedelta(seconds=ahead), usegmt=True)}
    error = failure(answer(529, body("overloaded_error"), headers), now=lambda: now)
    assert error.retry_after_seconds == seconds


def test_the_provider_may_say_whether_to_retry() -> None:
    assert not failure(answer(429, body("rate_limit_error"), {"x-should-retry": "false"})).retryable
    assert failure(answer(400, body("invalid_request_error"), {"x-should-retry": "true"})).retryable


def test_an_error_answer_that_breaks_off_is_unbilled() -> None:
    def play(connection: socket.socket) -> None:
        connection.sendall(b"HTTP/1.1 500 No\r\ncontent-length: 100\r\n\r\n{")

    error = failure(play)
    assert (error.retryable, error.certainty) == (True, "unbilled")


# ---- connections that fail ----


def test_refused_connections_are_unbilled() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(ProviderError) as caught:
        AnthropicModel(Keys(), f"http://127.0.0.1:{port}").call(request(), timeout_seconds=5)
    assert (caught.value.retryable, caught.value.certainty) == (True, "unbilled")


def test_names_that_do_not_resolve_are_unbilled() -> None:
    with pytest.raises(ProviderError) as caught:
        AnthropicModel(Keys(), "http://nowhere.invalid").call(request(), timeout_seconds=5)
    assert (caught.value.retryable, caught.value.certainty) == (True, "unbilled")


def test_an_address_that_is_none_is_not_tried_again() -> None:
    with pytest.raises(ProviderError) as caught:
        AnthropicModel(Keys(), "ftp://127.0.0.1").call(request(), timeout_seconds=5)
    assert (caught.value.retryable, caught.value.certainty) == (False, "unbilled")


@pytest.mark.parametrize("script", [lambda connection: None, reset])
def test_a_connection_that_breaks_after_the_request_is_unknown(script: Script) -> None:
    error = failure(script)
    assert (error.retryable, error.certainty, error.usage) == (True, "unknown", None)


# ---- keys ----


def test_a_key_that_was_changed_meanwhile_is_worth_another_try() -> None:
    keys = Keys("old", "new")
    with scripted(answer(401, body("authentication_error")), stream([sse(*HELLO)])) as api:
        model = AnthropicModel(keys, api.url)
        with pytest.raises(ProviderError) as caught:
            model.call(request(), timeout_seconds=5)
        assert (caught.value.retryable, caught.value.certainty) == (True, "unbilled")
        assert model.call(request(), timeout_seconds=5).stop_reason == "end_turn"
        assert [seen.headers["authorization"] for seen in api.seen] == ["Bearer old", "Bearer new"]


def test_a_key_that_is_just_wrong_is_not() -> None:
    assert not failure(answer(401, body("authentication_error"))).retryable


def test_neither_key_nor_contents_show(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANTHROPIC_AUTH_TOKEN", "another-secret")
    caplog.set_level(logging.DEBUG)
    with scripted(stream([sse(*HELLO)]), answer(400, body("invalid_request_error"))) as api:
        model = AnthropicModel(Keys(), api.url)
        model.call(request(), timeout_seconds=5)
        with pytest.raises(ProviderError) as caught:
            model.call(request(), timeout_seconds=5)
        assert api.seen[0].headers["authorization"] == f"Bearer {KEY}"
    for shown in (caplog.text, repr(model), repr(vars(caught.value))):
        assert KEY not in shown
        assert "private words" not in shown
        assert "Hello" not in shown


# ---- count_tokens ----


def test_count_tokens_drops_what_it_does_not_take() -> None:
    options = {"metadata": {"user_id": "u"}, "service_tier": "auto", "thinking": {"type": "adaptive"}, "made_up": 1}
    with scripted(answer(200, {"input_tokens": 1234})) as api:
        asked = request(options=options, tools=[{"name": "n", "input_schema": {}}])
        assert AnthropicModel(Keys(), api.url).count_tokens(asked) == 1234
        assert api.seen[0].line == "POST /v1/messages/count_tokens HTTP/1.1"
        assert set(api.seen[0].body) == {"model", "system", "messages", "tools", "thinking"}


@pytest.mark.parametrize("script", [answer(529, body("overloaded_error")), answer(200, {"no": 1}), reset])
def test_count_tokens_that_fails(script: Script) -> None:
    with scripted(script) as api, pytest.raises(ProviderError) as caught:
        AnthropicModel(Keys(), api.url).count_tokens(request())
    # Counting is free, whatever becomes of it.
    assert (caught.value.retryable, caught.value.certainty) == (True, "unbilled")


# ---- many at once, and Bedrock ----


def test_many_threads_share_one() -> None:
    with scripted(*[stream([one(event) for event in HELLO], pause_seconds=0.01)] * 24) as api:
        model = AnthropicModel(Keys(), api.url)
        replies: list[ModelReply] = []
        threads = [
            threading.Thread(target=lambda: replies.append(model.call(request(), timeout_seconds=20)))
            for _ in range(24)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert [reply.stop_reason for reply in replies] == ["end_turn"] * 24


def test_bedrock_sends_the_models_name_as_it_is_and_reads_its_event_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "not-a-secret")
    monkeypatch.setenv("AWS_REGION", "eu-central-1")
    monkeypatch.delenv("AWS_BEARER_TOKEN_BEDROCK", raising=False)
    wire = b"".join(_amazon_event(event) for event in HELLO)
    with scripted(stream([wire[:50], wire[50:]]), stream([wire[:300]])) as api:
        model = AnthropicModel(None, api.url, "bedrock")
        reply = model.call(request(model="eu.anthropic.claude-sonnet-5-5-v1:0"), timeout_seconds=10)
        with pytest.raises(ProviderError) as caught:
            model.call(request(model="anthropic.claude-sonnet-5-5"), timeout_seconds=10)
        seen = api.seen[0]
    assert reply.content == [{"type": "text", "text": "Hello"}]
    assert reply.usage["output_tokens"] == 42
    assert seen.line == "POST /model/eu.anthropic.claude-sonnet-5-5-v1:0/invoke-with-response-stream HTTP/1.1"
    assert seen.headers["authorization"].startswith("AWS4-HMAC-SHA256")
    assert "model" not in seen.body
    assert "stream" not in seen.body
    assert (caught.value.retryable, caught.value.certainty) == (True, "unknown")


def test_bedrock_is_sent_its_own_name_of_a_model_and_nothing_where_it_has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "not-a-secret")
    monkeypatch.setenv("AWS_REGION", "eu-central-1")
    monkeypatch.delenv("AWS_BEARER_TOKEN_BEDROCK", raising=False)
    with scripted(stream([b"".join(_amazon_event(event) for event in HELLO)])) as api:
        model = AnthropicModel(None, api.url, "bedrock")
        model.call(request(model="claude-haiku-4-5"), timeout_seconds=10)
        with pytest.raises(ProviderError, match="Bedrock has no claude-opus-4-1") as caught:
            model.call(request(model="claude-opus-4-1"), timeout_seconds=10)
        with pytest.raises(Uncountable):
            model.count_tokens(request())
        [seen] = api.seen
    assert seen.line.split()[1].startswith("/model/global.anthropic.claude-haiku-4-5-20251001-v1:0/")
    assert (caught.value.retryable, caught.value.certainty) == (False, "unbilled")


def test_bedrock_refuses_in_its_own_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "not-a-secret")
    monkeypatch.setenv("AWS_REGION", "eu-central-1")
    headers = {"x-amzn-requestid": "amz-1"}
    with scripted(answer(429, {"message": "Too many tokens"}, headers)) as api, pytest.raises(ProviderError) as caught:
        AnthropicModel(None, api.url, "bedrock").call(request(), timeout_seconds=10)
    assert (caught.value.retryable, caught.value.certainty, caught.value.status_code) == (True, "unbilled", 429)
    assert "Too many tokens" in caught.value.detail


def test_bedrock_without_credentials_or_region(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE", "AWS_REGION"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.delenv("AWS_DEFAULT_REGION", raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nonexistent")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nonexistent")
    with pytest.raises(ProviderError) as caught:
        AnthropicModel(None, "http://127.0.0.1:1", "bedrock").call(request(), timeout_seconds=10)
    assert (caught.value.retryable, caught.value.certainty) == (False, "unbilled")
    monkeypatch.setenv("AWS_REGION", "eu-central-1")
    with pytest.raises(ProviderError) as caught:
        AnthropicModel(None, "http://127.0.0.1:1", "bedrock").call(request(), timeout_seconds=10)
    assert (caught.value.retryable, caught.value.certainty) == (True, "unbilled")


def _amazon_event(event: dict[str, Any]) -> bytes:
    import base64
    import binascii
    import struct

    def header(name: str, value: str) -> bytes:
        return bytes([len(name)]) + name.encode() + b"\x07" + struct.pack(">H", len(value)) + value.encode()

    headers = header(":event-type", "chunk") + header(":message-type", "event")
    headers += header(":content-type", "application/json")
    payload = json.dumps({"bytes": base64.b64encode(json.dumps(event).encode()).decode()}).encode()
    prelude = struct.pack(">II", 16 + len(headers) + len(payload), len(headers))
    prelude += struct.pack(">I", binascii.crc32(prelude))
    message = prelude + headers + payload
    return message + struct.pack(">I", binascii.crc32(message))
