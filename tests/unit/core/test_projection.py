"""What the model is sent of a transcript. That it is always what the API takes: tests/properties/test_projection.py."""

from __future__ import annotations

from typing import Any

import pytest

from turnkeeper.core.cache_markers import marked
from turnkeeper.core.projection import NO_RESULT, Place, project
from turnkeeper.core.repairs import left_out
from turnkeeper.core.session import Entry, LeftOut
from turnkeeper.core.transcript import GO_ON, tool_result

NOW = "2026-03-02T09:30:00.000Z"
THOUGHT = {"type": "thinking", "thinking": "hm", "signature": "c2lnbmF0dXJl"}
HIDDEN = {"type": "redacted_thinking", "data": "ZGF0YQ=="}
CALL = {"type": "tool_use", "id": "toolu_1", "name": "look", "input": {"a": 1.50}}
IMAGE = {"type": "image", "source": {"type": "url", "url": "https://example.com/a.png"}}


def entry(kind: Any, *content: dict[str, Any], seq: int = 1, **more: Any) -> Entry:
    return Entry(seq=seq, type=kind, at=NOW, content=content, **more)


def text(words: str) -> dict[str, Any]:
    return {"type": "text", "text": words}


def result(call_id: str, words: str = "ok") -> dict[str, Any]:
    return tool_result(call_id, [text(words)], is_error=False)


HELLO = entry("user", text("hello"))


@pytest.mark.parametrize("blank", ["", " ", "\n\t", "\u00a0\u2003"])
def test_what_says_nothing_is_left_out(blank: str) -> None:
    entries = [entry("user", text("hi"), text(blank)), entry("assistant", text(blank), seq=2), entry("status", seq=3)]
    assert project(entries).messages == [{"role": "user", "content": [text("hi")]}]


def test_thinking_is_sent_back_as_it_came_in_its_order() -> None:
    content = (THOUGHT, HIDDEN, text("so"), THOUGHT, CALL)
    _, message, *_ = project([HELLO, entry("assistant", *content, seq=2)]).messages
    assert message["content"] == list(content)


def test_a_thought_without_words_keeps_its_signature() -> None:
    silent = {**THOUGHT, "thinking": ""}
    _, message, *_ = project([HELLO, entry("assistant", silent, CALL, seq=2)]).messages
    assert message["content"] == [silent, CALL]


def test_blocks_of_unknown_types_stay_as_they_are() -> None:
    future = {"type": "from_the_future", "deep": [{"text": ""}], "n": 1}
    _, message, *_ = project([HELLO, entry("assistant", future, text("x"), seq=2)]).messages
    assert message["content"][0] == future


def test_cache_breakpoints_of_others_are_taken_out() -> None:
    marked = {**text("x"), "cache_control": {"type": "ephemeral"}}
    result = tool_result("toolu_1", [dict(marked)], is_error=False)
    messages = project(
        [
            entry("user", marked),
            entry("assistant", CALL, seq=2),
            entry("tool_results", {**result, "cache_control": {"type": "x"}}, seq=3),
        ]
    ).messages
    assert "cache_control" not in str(messages)


def test_broken_characters_become_whole() -> None:
    call = {**CALL, "input": {"a\udc00": ["half \ud83d"]}}
    messages = project([entry("user", text("x \ud800 y")), entry("assistant", call, seq=2)]).messages
    assert messages[0]["content"][0]["text"] == "x \ufffd y"
    assert messages[1]["content"][0]["input"] == {"a\ufffd": ["half \ufffd"]}
    str(messages).encode()


def test_entries_are_not_changed_by_being_sent() -> None:
    block = {**text("x"), "cache_control": {"type": "ephemeral"}}
    kept = entry("user", block)
    marked([], [], project([kept]).messages, {})
    assert kept.content == (block,)


# ---- calls ----


def test_two_calls_of_one_id_are_told_apart_and_keep_their_results() -> None:
    sent = project(
        [
            HELLO,
            entry("assistant", CALL, CALL, seq=2),
            entry("tool_results", result("toolu_1", "one"), result("toolu_1", "two"), seq=3),
            entry("assistant", CALL, seq=4),
            entry("tool_results", result("toolu_1", "three"), seq=5),
        ]
    ).messages
    calls = [block["id"] for message in sent[1::2] for block in message["content"]]
    results = [block["tool_use_id"] for message in sent[2::2] for block in message["content"]]
    assert len(set(calls)) == 3
    assert calls == results
    assert [block["content"][0]["text"] for message in sent[2::2] for block in message["content"]] == [
        "one",
        "two",
        "three",
    ]


def test_a_call_without_a_result_gets_one_and_a_result_without_a_call_goes() -> None:
    sent = project(
        [HELLO, entry("assistant", CALL, seq=2), entry("tool_results", result("other"), text("note"), seq=3)]
    ).messages
    missing, note = sent[2]["content"]
    assert (missing["tool_use_id"], missing["content"]) == ("toolu_1", [text(NO_RESULT)])
    assert note == text("note")


def test_a_servers_call_that_was_cut_off_is_left_out_but_for_the_one_that_the_api_paused_in() -> None:
    cut = {"type": "server_tool_use", "id": "srv_1", "name": "web_search", "input": {}}
    found = {"type": "web_search_tool_result", "tool_use_id": "srv_2", "content": []}
    whole = [{**cut, "id": "srv_2"}, found]
    entries = [HELLO, entry("assistant", text("a"), cut, *whole, seq=2, stop_reason="max_tokens")]
    assert project([*entries, entry("user", text("b"), seq=3)]).messages[1]["content"] == [text("a"), *whole]
    paused = [HELLO, entry("assistant", text("a"), cut, seq=2, stop_reason="pause_turn")]
    assert project(paused).messages[-1] == {"role": "assistant", "content": [text("a"), cut]}


def test_thoughts_of_another_model_are_left_out() -> None:
    entries = [
        HELLO,
        entry("assistant", THOUGHT, text("a"), seq=2, model="claude-a-1-20260101"),
        entry("user", text("b"), seq=3),
    ]
    assert project(entries, model="claude-a-1").messages[1]["content"] == [THOUGHT, text("a")]
    assert project(entries, model="claude-b-1").messages[1]["content"] == [text("a")]


# ---- what is left out ----


def test_a_declined_turn_is_withdrawn_once_the_user_says_something_else() -> None:
    declined = [HELLO, entry("assistant", text("no"), seq=2, stop_reason="refusal")]
    # One that goes on, goes on from there.
    note = entry("user", text(GO_ON), seq=3, by_kit=True)
    assert [message["content"] for message in project([*declined, note]).messages] == [
        [text("hello")],
        [text("no")],
        [text(GO_ON)],
    ]
    assert project([*declined, entry("user", text("what else?"), seq=3)]).messages == [
        {"role": "user", "content": [text("what else?")]}
    ]


def test_an_answer_that_is_last_is_followed_by_a_word_to_go_on() -> None:
    assert project([HELLO, entry("assistant", text("a"), seq=2)]).messages[-1]["content"] == [text(GO_ON)]


def test_what_a_refusal_names_is_left_out_once_and_the_model_reads_why() -> None:
    entries = [
        entry("user", text("look"), IMAGE),
        entry("assistant", CALL, seq=2),
        entry("tool_results", tool_result("toolu_1", [IMAGE], is_error=False), seq=3),
    ]
    assert project(entries).at(0, 1) == (Place(1, 1),)
    [mark] = left_out(entries, "m", (2, 0), "cannot be processed")
    assert (mark.seq, mark.index) == (3, 0)
    repaired = [*entries, entry("repair", seq=4, left_out=(mark,))]
    [block] = project(repaired).messages[2]["content"]
    assert block["tool_use_id"] == "toolu_1"
    assert "cannot be processed" in block["content"][0]["text"]
    assert left_out(repaired, "m", (2, 0), "again") == []
    # Where no place is named, what came since the last answer is meant.
    assert [(mark.seq, mark.index) for mark in left_out(entries, "m", None, "why")] == [(3, 0)]
    assert left_out(entries, "m", (9, 0), "why") == []


def test_what_was_withdrawn_is_not_sent() -> None:
    entries = [HELLO, entry("assistant", text("a"), seq=2), entry("user", text("b"), seq=3)]
    withdrawn = entry("rewind", seq=4, left_out=(LeftOut(2, None, ""), LeftOut(3, None, "")))
    assert project([*entries, withdrawn]).messages == [{"role": "user", "content": [text("hello")]}]


def test_citations_are_asked_for_in_all_documents_or_in_none() -> None:
    document = {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "x"}}
    cited = {**document, "citations": {"enabled": True}}
    sent = project([entry("user", document, cited)]).messages[0]["content"]
    assert [block["citations"] for block in sent] == [{"enabled": True}] * 2
    assert "citations" not in str(project([entry("user", document, document)]).messages)
