"""Calls of the adapter of the port Model, with the real SDK, and the answers of a server that it calls."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.scripted_api import Script, scripted
from turnkeeper.adapters.anthropic_model import AnthropicModel
from turnkeeper.core.errors import ProviderError
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
    message: dict[str, Any] = {
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


def body(error_type: str, message: str = "Sorry") -> dict[str, Any]:
    return {"type": "error", "error": {"type": error_type, "message": message}}
