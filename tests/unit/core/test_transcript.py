"""Blocks of a transcript: calls, their answers, cache breakpoints."""

from __future__ import annotations

from typing import Any

import pytest

from turnkeeper.core.session import Entry
from turnkeeper.core.transcript import (
    all_text_of,
    answer,
    text_of,
    tool_uses,
    unanswered,
)

NOW = "2026-03-02T09:30:00.000Z"
THOUGHT = {"type": "thinking", "thinking": "hm", "signature": "c2lnbmF0dXJl"}
HIDDEN = {"type": "redacted_thinking", "data": "ZGF0YQ=="}
CALL = {"type": "tool_use", "id": "toolu_1", "name": "look", "input": {"a": 1.50}}


def entry(kind: Any, *content: dict[str, Any], seq: int = 1) -> Entry:
    return Entry(seq=seq, type=kind, at=NOW, content=content)


def text(words: str) -> dict[str, Any]:
    return {"type": "text", "text": words}


def test_calls_are_open_until_an_entry_answers_them() -> None:
    asked = entry("assistant", text("x"), CALL, {"type": "server_tool_use", "id": "srv"}, seq=2)
    assert tool_uses(asked.content) == [CALL]
    assert unanswered([entry("user"), asked]) == [CALL]
    assert unanswered([entry("user"), asked, entry("status", seq=3)]) == [CALL]
    assert unanswered([entry("user"), asked, entry("tool_results", seq=3)]) == []
    assert unanswered([]) == []


@pytest.mark.parametrize("words", ["", "  "])
def test_an_answer_of_the_kit_is_never_blank(words: str) -> None:
    block, told = answer(CALL, words)
    assert block["content"][0]["text"].strip()
    assert block["is_error"]
    assert (told.tool_use_id, told.tool, told.outcome) == ("toolu_1", "look", "error")


def test_an_ok_answer_is_no_error() -> None:
    block, told = answer(CALL, "x", "ok")
    assert "is_error" not in block
    assert not told.is_error


def test_all_that_can_be_read_in_a_result() -> None:
    content = [
        text("one"),
        {"type": "search_result", "source": "two", "title": "three", "content": [text("four")]},
        {"type": "document", "title": "five", "source": {"type": "text", "media_type": "text/plain", "data": "six"}},
        {"type": "document", "source": {"type": "content", "content": [text("seven")]}},
        {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "QUFB"}},
        {"type": "text", "text": 5},
        "stray",
    ]
    assert all_text_of(content).split() == ["one", "two", "three", "four", "five", "six", "seven", "stray"]
    assert text_of(content[:1]) == "one"
