"""What readers are told of an entry that is being made, and what end users see of events."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.streaming import check_agrees
from turnkeeper.core.deltas import (
    MOST_CHARS,
    Delta,
    Forming,
    Heard,
    Part,
    Told,
    ToolState,
    pieces_of,
    settled,
)
from turnkeeper.core.session import Entry, ToolOutcome
from turnkeeper.core.views import delta_seen, event_seen

AT = "2026-01-01T00:00:00Z"


def answer(*content: dict[str, Any]) -> Entry:
    return Entry(type="assistant", at=AT, seq=2, content=content)


def text(words: str) -> dict[str, Any]:
    return {"type": "text", "text": words}


def hear(told: Told, heard: Heard, forming: Forming) -> list[Delta]:
    heard.take(forming)
    return list(told.deltas(heard))


def forming(*parts: Part, start: int = 0, **more: Any) -> Forming:
    return Forming(2, "1.1", start, pieces_of(parts, start), **more)


_ARGUMENTS = st.dictionaries(st.text(), st.text(), max_size=2)
PARTS = st.lists(
    st.one_of(
        st.builds(Part, st.sampled_from(["text", "thinking"]), st.text(max_size=20)),
        _ARGUMENTS.map(lambda value: Part("tool_input", json.dumps(value), "toolu_1", "look")),
        st.just(Part("other")),
    ),
    max_size=5,
)


def block_of(part: Part) -> dict[str, Any]:
    if part.kind == "tool_input":
        return {"type": "tool_use", "id": part.tool_use_id, "name": part.tool, "input": json.loads(part.text)}
    return {"type": part.kind, part.kind: part.text}


@given(PARTS, st.lists(st.tuples(st.integers(0, 100), st.integers(0, 30)), max_size=8))
def test_whatever_is_seen_of_it_what_was_told_is_the_entry_or_nothing(
    parts: list[Part], looks: list[tuple[int, int]]
) -> None:
    """Looks are at any lengths, in order, each with a window of its own; some miss what the next builds on."""
    told, heard, deltas = Told(), Heard(2, "1.1"), list[Delta]()
    whole = sum(len(part.text) for part in parts)
    for length, window in sorted(looks):
        left = min(length, whole)
        start = max(0, left - window)
        so_far = []
        for part in parts:
            so_far.append(Part(part.kind, part.text[:left], part.tool_use_id, part.tool))
            left -= min(left, len(part.text))
        deltas += hear(told, heard, forming(*so_far, start=start))
    landed = answer(*map(block_of, parts))
    deltas += told.land(landed)
    while resets := [at for at, delta in enumerate(deltas) if delta["type"] == "reset"]:
        deltas = deltas[resets[-1] + 1 :]
    event = {"seq": 2, "content": list(landed.content)}
    check_agrees(deltas, event)


@pytest.mark.parametrize(
    "kept",
    [
        answer(text("something else")),
        answer(),
        answer({"type": "thinking", "thinking": "words"}),
        Entry(type="runner_lost", at=AT, seq=2),
        Entry(type="assistant", at=AT, seq=3, content=(text("words"),)),
    ],
)
def test_what_was_not_kept_as_it_was_told_is_taken_back(kept: Entry) -> None:
    told, heard = Told(), Heard(2, "1.1")
    assert hear(told, heard, forming(Part("text", "wor"))) == [{"type": "text", "seq": 2, "index": 0, "text": "wor"}]
    assert list(told.land(kept)) == [{"type": "reset", "seq": 2, "reason": "entry"}]
    assert list(told.land(kept)) == []


def test_another_attempt_begins_anew() -> None:
    told, heard = Told(), Heard(2, "1.1")
    hear(told, heard, forming(Part("text", "wor")))
    again = Heard(2, "1.2")
    assert [delta["type"] for delta in hear(told, again, forming(Part("text", "wo")))] == ["reset", "text"]
    assert list(told.land(answer(text("word")))) == [{"type": "text", "seq": 2, "index": 0, "text": "rd"}]


def test_a_gap_is_told_once_and_the_rest_comes_with_the_entry() -> None:
    told, heard = Told(), Heard(2, "1.1")
    hear(told, heard, forming(Part("text", "abc")))
    gap = forming(Part("text", "abcdefgh"), start=6)
    assert hear(told, heard, gap) == [{"type": "reset", "seq": 2, "reason": "lost"}]
    assert hear(told, heard, gap) == []
    assert list(told.land(answer(text("abcdefgh")))) == []


def test_who_comes_late_is_told_all_that_others_were_told() -> None:
    heard = Heard(2, "1.1")
    for length in range(1, 6):
        heard.take(forming(Part("text", "abcde"[:length])))
    assert list(Told().deltas(heard)) == [{"type": "text", "seq": 2, "index": 0, "text": "abcde"}]


def test_more_than_a_process_remembers_comes_with_the_entry() -> None:
    heard = Heard(2, "1.1")
    heard.take(forming(Part("text", "x" * (MOST_CHARS + 1))))
    assert not heard.lost
    heard.take(forming(Part("text", "x" * (MOST_CHARS + 2))))
    assert heard.lost


def test_tools_are_told_by_how_they_stand() -> None:
    told, heard = Told(), Heard(2, "1.1")
    running = ToolState("toolu_1", "look", None, 2, "2 of 3", 0.5)
    deltas = hear(told, heard, forming(calls=(running,)))
    assert [(delta["type"], delta.get("fraction")) for delta in deltas] == [
        ("tool_started", None),
        ("tool_progress", 0.5),
    ]
    assert hear(told, heard, forming(calls=(running,))) == []
    outcome = ToolOutcome(tool_use_id="toolu_1", tool="look", outcome="error", duration_ms=1)
    [finished] = told.land(Entry(type="tool_results", at=AT, seq=2, outcomes=(outcome,)))
    assert (finished["type"], finished["outcome"]) == ("tool_finished", "error")


@given(st.text(st.characters(codec=None), max_size=30), st.integers(0, 30))
def test_a_text_that_grows_never_changes_what_was_told_of_it(words: str, at: int) -> None:
    assert settled(words).startswith(settled(words[:at]))
    settled(words).encode()


@given(st.builds(forming, PARTS.map(tuple).flatmap(lambda parts: st.sampled_from([*parts, Part("text", "x")]))))
def test_a_state_survives_being_written(state: Forming) -> None:
    assert Forming.read(json.loads(json.dumps(state.dump()))) == state


# ---- views ----

INSIDE = "never shown to users"
_RESULT = {"tool_use_id": "toolu_1", "tool": "look", "is_error": False, "outcome": "ok"}
_SHOWN = ["user", "assistant", "tool_results", "status", "rewind"]
_HIDDEN = ["repair", "compaction", "runner_lost", "other", "new"]


def everything(kind: str) -> dict[str, Any]:
    """An event that has all members that any event has, each with a text that is not for users."""
    block = {"id": "toolu_1", "name": "look", "input": {"x": INSIDE}, "citations": [INSIDE], "signature": INSIDE}
    return {
        "seq": 3,
        "type": kind,
        "at": AT,
        "content": [
            {"type": "text", "text": "hello", **block},
            {"type": "thinking", "thinking": INSIDE},
            {"type": "tool_use", **block},
            {"type": "server_tool_use", **block},
            {"type": "image", "source": {"data": INSIDE}},
        ],
        "results": [{**_RESULT, "content": [text(INSIDE)], "flag": {"reasons": [INSIDE]}, "duration_ms": 5}],
        "left_out": [{"seq": 1, "index": None, "what": INSIDE}],
        "status": "stopped",
        "stop": {"reason": "cost_cap", "detail": {"scope": INSIDE, "summary": INSIDE}},
        **dict.fromkeys(
            ("model", "usage", "cost_usd", "request_id", "reason", "summary", "notes", "runner_id"), INSIDE
        ),
        "what_comes_next_year": INSIDE,
    }


@pytest.mark.parametrize("kind", [*_SHOWN, *_HIDDEN])
def test_end_users_see_what_is_for_them_and_nothing_that_is_added(kind: str) -> None:
    event = everything(kind)
    assert event_seen("full", event) == event
    seen = event_seen("user", event)
    assert INSIDE not in json.dumps(seen)
    assert (seen is None) == (kind in _HIDDEN)


def test_end_users_read_what_an_agent_says_in_ending_its_task() -> None:
    stop = {"reason": "end_task", "detail": {"status": "completed", "summary": "All is well.", "more": INSIDE}}
    seen = event_seen("user", {"seq": 1, "type": "status", "at": AT, "status": "completed", "stop": stop})
    assert seen is not None
    assert seen["stop"] == {"reason": "end_task", "detail": {"status": "completed", "summary": "All is well."}}


def test_what_the_kit_says_to_the_model_is_not_for_users() -> None:
    assert event_seen("user", {**everything("user"), "by_kit": True}) is None


@pytest.mark.parametrize("kind", ["thinking", "tool_input", "something_new"])
def test_deltas_that_are_not_for_users(kind: str) -> None:
    delta = {"type": kind, "seq": 1}
    assert delta_seen("full", delta) == delta
    assert delta_seen("user", delta) is None
