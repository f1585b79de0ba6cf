"""What the adapter of the port Model makes of errors, of connections that fail, and of keys that are refused."""

from __future__ import annotations

import logging
import socket
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest

from tests.support.model_calls import (
    HELLO,
    KEY,
    Keys,
    body,
    failure,
    request,
)
from tests.support.scripted_api import Script, answer, reset, scripted, sse, stream
from turnkeeper.adapters.anthropic_errors import status_error
from turnkeeper.adapters.anthropic_model import AnthropicModel
from turnkeeper.core.errors import ProviderError

# ---- errors before a stream began ----


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


@pytest.mark.parametrize("address", ["ftp://127.0.0.1", "api.example.com", "http://a:b"])
def test_an_address_that_is_none_is_not_tried_again(address: str) -> None:
    with pytest.raises(ProviderError) as caught:
        AnthropicModel(Keys(), address).call(request(), timeout_seconds=5)
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
