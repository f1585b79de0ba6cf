"""The bytes of a conversation, of which most are kept from request to request."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from hypothesis import given, settings

from tests.unit.core.test_canonical import ANY_JSON
from turnkeeper.core import sent
from turnkeeper.core.cache_markers import marked
from turnkeeper.core.sent import Sent, json_bytes, list_json


def _message(number: int) -> Sent:
    role = "assistant" if number % 2 else "user"
    return Sent(role, [{"type": "text", "text": f"Message {number} – ä"}])


def _as_sent(messages: list[Sent]) -> list[Any]:
    return marked([], [], messages, {}).messages


@settings(max_examples=500)
@given(ANY_JSON)
def test_a_message_has_the_bytes_that_clients_of_the_api_write(value: Any) -> None:
    encoder = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    try:
        written = encoder.encode(value).encode()
    except (TypeError, ValueError) as error:
        with pytest.raises(type(error), match=re.escape(str(error))):
            json_bytes(value)
    else:
        assert json_bytes(value) == written


@pytest.mark.parametrize("depth", [200, 300, 400, 600])
def test_what_is_nested_deep_has_its_bytes_too(depth: int) -> None:
    value: Any = []
    for _ in range(depth):
        value = [value]
    assert json_bytes(value) == b"[" * depth + b"[]" + b"]" * depth


def test_a_growing_conversation_has_the_bytes_that_it_would_have_anew() -> None:
    messages: list[Sent] = []
    for number in range(200):
        messages.append(_message(number))
        assert list_json(_as_sent(messages)) == json_bytes(_as_sent(messages))


def test_of_a_growing_conversation_only_what_is_new_is_encoded(monkeypatch: pytest.MonkeyPatch) -> None:
    messages = [_message(number) for number in range(200)]
    list_json(_as_sent(messages))
    encoded: list[Any] = []
    monkeypatch.setattr(sent, "json_bytes", lambda value: encoded.append(value) or json_bytes(value))
    for number in range(200, 300):
        messages.append(_message(number))
        encoded.clear()
        list_json(_as_sent(messages))
        # The new message, the one that has lost its mark, and the two marks.
        assert len(encoded) <= 4


@pytest.mark.parametrize("at", [0, 1, 15, 16, 63, 64, 100, 199])
def test_another_message_in_it_is_sent(at: int) -> None:
    messages = [_message(number) for number in range(200)]
    list_json(messages)
    messages[at] = Sent("user", [{"type": "text", "text": "other"}])
    assert list_json(messages) == json_bytes(messages)
    # One that is equal, but has other bytes.
    messages[at] = Sent("user", [{"type": "tool_result", "content": 1}])
    assert list_json(messages) == json_bytes(messages)
    messages[at] = Sent("user", [{"type": "tool_result", "content": 1.0}])
    assert list_json(messages) == json_bytes(messages)


@pytest.mark.parametrize("length", [0, 1, 15, 31, 32, 33, 64, 150])
def test_less_of_it_is_sent(length: int) -> None:
    messages = [_message(number) for number in range(200)]
    whole = list_json(messages)
    assert list_json(messages[:length]) == json_bytes(messages[:length])
    assert list_json(messages[length:]) == json_bytes(messages[length:])
    assert list_json(messages) == whole


def test_what_is_no_message_of_a_conversation_may_stand_in_it() -> None:
    messages: list[Any] = [_message(number) for number in range(200)]
    messages[70] = {"role": "user", "content": "plain"}
    assert list_json(messages) == json_bytes(messages)


def test_each_byte_is_kept_once() -> None:
    messages = [_message(number) for number in range(200)]
    list_json(messages)
    joined = [message for message in messages if message._json is None]
    _, pieces = messages[0]._beginning
    assert len(joined) == sent._RUN * len(pieces) >= 128
