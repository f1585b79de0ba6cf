"""The demo's own judgement: it has to see what is wrong."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from tests.unit.cli.fake_api import FakeApi, assistant, results, status, user
from turnkeeper_local.cli.demo import checks, report
from turnkeeper_local.cli.demo.script import LIVE, SCRIPTED
from turnkeeper_local.standin.directives import parse

Document = dict[str, Any]


@pytest.fixture
def transcript() -> tuple[Document, list[Document]]:
    api = FakeApi()
    calls = (("toolu_1", "a", {}), ("toolu_2", "b", {}))
    session = api.session(
        "ses_1",
        user("hi"),
        assistant("", *calls, cost="0.001"),
        results(("toolu_1", "a", "ok", "1"), ("toolu_2", "b", "error", "2")),
        {**status("queued"), "runner": "lambda"},
        assistant("done", cost="0.000234"),
        {**status("idle", "end_turn"), "runner": "fargate"},
        usage={"input_tokens": 200, "output_tokens": 40, "cache_read_input_tokens": 1800},
        cost_usd="0.001234",
    )
    return session, api.events["ses_1"]


def test_a_sound_transcript_has_no_faults(transcript: tuple[Document, list[Document]]) -> None:
    assert checks.faults(*transcript) == []


@pytest.mark.parametrize(
    ("spoil", "fault"),
    [
        (lambda session, events: events.pop(2), "gaps"),
        (lambda session, events: events.append(events[-1]), "gaps"),
        (lambda session, events: session.update(last_seq=9), "last_seq"),
        (lambda session, events: session.update(cost_usd="0.001233"), "cost"),
        (lambda session, events: session.update(steps=1), "steps"),
        (lambda session, events: session["usage"].update(output_tokens=41), "output_tokens"),
        (lambda session, events: events[2]["results"].pop(), "answered"),
        (lambda session, events: events[2]["results"].append(events[2]["results"][0]), "answered"),
        (lambda session, events: events[2].update(results=[]), "answered"),
        (lambda session, events: events[4]["content"].append({"type": "tool_use", "id": "x"}), "never answered"),
    ],
)
def test_each_fault_is_found(transcript: tuple[Document, list[Document]], spoil: Any, fault: str) -> None:
    session, events = copy.deepcopy(transcript)
    spoil(session, events)
    assert any(fault in found for found in checks.faults(session, events)), checks.faults(session, events)


def test_the_timeline_tells_who_did_what(transcript: tuple[Document, list[Document]]) -> None:
    rows = report.timeline({"long": transcript})
    assert [(row["runner"], row["what"]) for row in rows] == [
        ("lambda", "the user says something"),
        ("lambda", "asks for a, b"),
        ("lambda", "handed off to the worker"),
        ("fargate", "answers"),
    ]
    assert report.total({"long": transcript}) == "0.001234"


def test_what_is_said_to_the_stand_in_is_a_script_and_to_claude_is_not() -> None:
    for name in ("first", "long", "next", "job", "capped"):
        assert parse(getattr(SCRIPTED, name)) is not None, name
        assert parse(getattr(LIVE, name)) is None, name
