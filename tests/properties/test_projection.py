"""Whatever stands in a transcript, the model is sent what the API takes."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.examples import examples
from turnkeeper.core.admission import admit, call_problem
from turnkeeper.core.cache_markers import marked
from turnkeeper.core.conversation import Conversation
from turnkeeper.core.projection import project
from turnkeeper.core.repairs import left_out
from turnkeeper.core.sent import json_bytes, list_json
from turnkeeper.core.session import Entry, LeftOut
from turnkeeper.core.transcript import tool_uses
from turnkeeper_local.standin.signatures import redact, sign_thinking
from turnkeeper_local.standin.validate import validate_message

pytestmark = pytest.mark.examples

NOW = "2026-03-02T09:30:00.000Z"
WORDS = st.sampled_from(["", " ", "words", "half \ud800", "[[say x]]"])
IDS = st.sampled_from(["toolu_1", "toolu_2", "", "with space", "x" * 300, None, 7, "half \udfff"])
NAMES = st.sampled_from(["look", "get invoice!", "", "n" * 300, None, "half \ud800"])


def nested(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = {"a": value} if depth % 2 else [value]
    return value


ODD_KINDS = st.sampled_from([["string", "null"], {"a": 1}, None, 5, "url", "image", {"type": ["url"]}])
VALUES = st.one_of(
    st.sampled_from([1, 1.5, None, True, float("inf"), float("nan"), "", "half \ud800"]),
    st.integers(1, 60).map(nested),
    # What looks like a part of a block, and is none: arguments may be a JSON schema, or speak of the API itself.
    st.builds(
        lambda name, value: {name: value}, st.sampled_from(["type", "source", "media_type", "content"]), ODD_KINDS
    ),
)
INPUTS = st.one_of(
    st.dictionaries(
        st.sampled_from(["", "a", "half \ud800", "number", "type", "source", "content"]), VALUES, max_size=3
    ),
    st.sampled_from([[1], "text", None, 5]),
)
TEXT = WORDS.map(lambda words: {"type": "text", "text": words})
MARKED = WORDS.map(lambda words: {"type": "text", "text": words, "cache_control": {"type": "ephemeral"}})
CALLS = st.builds(lambda i, n, x: {"type": "tool_use", "id": i, "name": n, "input": x}, IDS, NAMES, INPUTS)
RESULTS = st.builds(
    lambda i, parts: {"type": "tool_result", "tool_use_id": i, "content": parts}, IDS, st.lists(TEXT, max_size=2)
)
THOUGHTS = st.sampled_from(
    [
        {"type": "thinking", "thinking": "hm", "signature": sign_thinking("hm")},
        {"type": "redacted_thinking", "data": redact("hidden")},
    ]
)
SERVED = st.builds(
    lambda i, call: (
        {"type": "server_tool_use", "id": i, "name": "web_search", "input": {}}
        if call
        else {"type": "web_search_tool_result", "tool_use_id": i, "content": []}
    ),
    st.sampled_from(["srv_1", "srv_2"]),
    st.booleans(),
)
DOCUMENTS = st.builds(
    lambda cited: {
        "type": "document",
        "source": {"type": "text", "media_type": "text/plain", "data": "x"},
        **({"citations": {"enabled": cited}} if cited is not None else {}),
    },
    st.sampled_from([True, False, None]),
)
#: Contents that were fetched, alone and inside a document.
PICTURE = {
    "type": "image",
    "source": {"type": "base64", "media_type": "image/gif", "data": "R0lGODlh"},
    "fetched": {"from": "https://example.com/a", "sha256": "0" * 64, "bytes": 6},
}
KEPT = st.sampled_from([PICTURE, {"type": "document", "source": {"type": "content", "content": [PICTURE]}}])
PLAIN = ["user", "assistant", "tool_results", "status"]
KINDS = ["user", "assistant", "assistant", "tool_results", "status", "repair", "rewind", "compaction"]
#: Blocks that nobody can tell what they are.
UNTYPED = ODD_KINDS.filter(lambda kind: not isinstance(kind, str)).map(lambda kind: {"type": kind, "text": "x"})
ANSWERS = st.lists(st.one_of(TEXT, CALLS, THOUGHTS, SERVED, UNTYPED), max_size=4)
INPUT_BLOCKS = st.lists(st.one_of(TEXT, MARKED, DOCUMENTS, KEPT), max_size=3)


@st.composite
def transcripts(draw: st.DrawFn, kinds: Sequence[str] = KINDS) -> list[Entry]:
    entries: list[Entry] = []
    for seq in range(1, draw(st.integers(1, 10)) + 1):
        kind = draw(st.sampled_from(kinds))
        content: list[dict[str, Any]] = []
        marks: tuple[LeftOut, ...] = ()
        if kind == "user":
            content = draw(INPUT_BLOCKS)
        elif kind == "assistant":
            content = draw(ANSWERS)
        elif kind == "tool_results":
            content = [*draw(st.lists(RESULTS, max_size=3)), *draw(st.lists(TEXT, max_size=1))]
        elif kind in ("repair", "rewind", "compaction"):
            content = draw(st.lists(TEXT, max_size=1)) if kind == "compaction" else []
            index = {"repair": st.integers(0, 3), "rewind": st.none()}.get(
                kind, st.one_of(st.none(), st.integers(0, 3))
            )
            marks = tuple(
                draw(st.lists(st.builds(LeftOut, st.integers(1, seq), index, st.just("refused")), max_size=2))
            )
        entries.append(
            Entry(
                seq=seq,
                type=kind,  # type: ignore[arg-type]
                at=NOW,
                content=tuple(content),
                stop_reason=draw(st.sampled_from([None, "end_turn", "refusal", "max_tokens"])),
                by_kit=draw(st.booleans()),
                left_out=marks,
            )
        )
    return entries


def check(entries: list[Entry]) -> None:
    projection = project(entries)
    assert [len(places) for places in projection.places] == [len(m["content"]) for m in projection.messages]
    if not projection.messages:
        return  # Everything was left out: there is nothing to ask.
    body = {"model": "m", "max_tokens": 5, "messages": marked([], [], projection.messages, {}).messages}
    written = json.dumps(body, ensure_ascii=False, allow_nan=False)
    written.encode()
    validate_message(json.loads(written), beta=False)


@settings(max_examples=examples(200, all=400), deadline=None)
@given(transcripts())
def test_any_transcript_is_sent_as_the_api_takes_it(entries: list[Entry]) -> None:
    check(entries)


@settings(max_examples=examples(300, all=600), deadline=None)
@given(st.one_of(transcripts(), transcripts(PLAIN)), st.integers(0, 10), st.sampled_from(["m", "another"]))
def test_a_conversation_that_is_kept_is_sent_as_one_that_is_projected_anew(
    entries: list[Entry], begun: int, other: str
) -> None:
    kept = Conversation(entries[:begun])
    for at in range(min(begun, len(entries)), len(entries) + 1):
        model = other if at % 3 == 2 else "m"
        waiting = [replace(each, seq=0) for each in entries[at : at + 1] if each.type in ("user", "tool_results")]
        for behind in (waiting, []):
            sent = kept.project(behind, model)
            anew = project([*entries[:at], *behind], model=model)
            assert list(sent.messages) == list(anew.messages)
            assert list(sent.places) == list(anew.places)
            messages = marked([], [], sent.messages, {}).messages
            assert list_json(messages) == json_bytes(marked([], [], anew.messages, {}).messages)
        kept.extend(entries[at : at + 1])


@settings(max_examples=200, deadline=None)
@given(transcripts(), st.integers(0, 12), st.one_of(st.none(), st.integers(0, 4)))
def test_a_refused_block_is_sent_no_more(entries: list[Entry], message: int, block: int | None) -> None:
    marks = left_out(entries, "m", (message, block), "refused")
    repaired = [*entries, Entry(seq=len(entries) + 1, type="repair", at=NOW, left_out=tuple(marks))]
    check(repaired)
    sent = {place for places in project(repaired).places for place in places}
    assert not sent & {
        place for mark in marks for place in sent if place and (place.seq, place.index) == (mark.seq, mark.index)
    }


@settings(max_examples=300, deadline=None)
@given(st.lists(ANSWERS, min_size=1, max_size=4))
def test_calls_that_are_taken_in_can_be_told_apart_and_stored(answers: list[list[dict[str, Any]]]) -> None:
    taken: set[str] = set()
    for content in answers:
        admitted = admit(content, taken)
        assert all(isinstance(block["type"], str) for block in admitted)
        json.dumps(admitted, allow_nan=False)
        calls = tool_uses(admitted)
        assert len(calls) == len(tool_uses(content))
        ids = [call["id"] for call in calls]
        assert len({*ids, *taken}) == len(ids) + len(taken)
        taken |= set(ids)
        for call in calls:
            assert isinstance(call["name"], str)
            json.dumps(call["input"], allow_nan=False)
            assert isinstance(call["input"], dict)
            if call_problem(call) is not None:
                assert call["input"] == {}
