"""The adapter of the port Model, with the real SDK, against a server that misbehaves on purpose."""

from __future__ import annotations

import json
import threading
import time
from typing import Any

import botocore.auth
import pytest
from botocore.exceptions import MetadataRetrievalError
from hypothesis import given
from hypothesis import strategies as st

from tests.support.model_calls import (
    HELLO,
    KEY,
    USAGE,
    Keys,
    block,
    body,
    call,
    failure,
    finish,
    request,
    start,
    text,
    tool,
)
from tests.support.scripted_api import Script, amazon_event, answer, one, reset, scripted, sse, stream
from turnkeeper.adapters.anthropic_model import AnthropicModel
from turnkeeper.adapters.anthropic_stream import PartialMessage
from turnkeeper.core.admission import MAX_DEPTH
from turnkeeper.core.errors import ProviderError, Uncountable
from turnkeeper.ports import ModelReply

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


@pytest.mark.parametrize(
    ("first", "last", "expected"),
    [
        (None, {"id": "c_1", "expires_at": "2026-03-02T10:00:00Z"}, "c_1"),
        ({"id": "c_1", "expires_at": "2026-03-02T10:00:00Z"}, None, "c_1"),
        (
            {"id": "c_1", "expires_at": "2026-03-02T10:00:00Z"},
            {"id": "c_2", "expires_at": "2026-03-02T10:05:00Z", "skills": []},
            "c_2",
        ),
        (None, None, None),
        (None, {"id": "c_1"}, None),
        (None, "c_1", None),
    ],
)
def test_the_container_is_told_at_the_beginning_or_the_end(first: Any, last: Any, expected: str | None) -> None:
    begun, [told, stopped] = start(), finish()
    begun = {**begun, "message": {**begun["message"], "container": first}}
    told = {**told, "delta": {**told["delta"], "container": last}}
    reply = call(stream([sse(begun, *text(0, "x"), told, stopped)]))
    assert (reply.container.id if reply.container else None) == expected


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
    wire = b"".join(amazon_event(event) for event in HELLO)
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
    with scripted(stream([b"".join(amazon_event(event) for event in HELLO)])) as api:
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


def test_bedrock_whose_credentials_cannot_be_asked_just_now(monkeypatch: pytest.MonkeyPatch) -> None:
    def away(*_: Any, **__: Any) -> Any:
        raise MetadataRetrievalError(error_msg="away")

    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "not-a-secret")
    monkeypatch.setenv("AWS_REGION", "eu-central-1")
    monkeypatch.setattr(botocore.auth.SigV4Auth, "add_auth", away)
    with pytest.raises(ProviderError) as caught:
        AnthropicModel(None, "http://127.0.0.1:1", "bedrock").call(request(), timeout_seconds=10)
    assert (caught.value.retryable, caught.value.certainty) == (True, "unbilled")


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
