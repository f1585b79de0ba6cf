"""Rewind and fork over HTTP."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.support.http import Caller


def test_a_turn_is_taken_back_once_for_a_key(ann: Caller) -> None:
    session = ann.post("/v1/sessions", {"agent": "plain", "input": "[[say one]]"}).json()
    path = f"/v1/sessions/{session['session_id']}"
    ann.post(f"{path}/turns", {"input": "[[say two]]"})
    first = ann.post(f"{path}/rewind", {"turns": 1}, **{"idempotency-key": "k"})
    again = ann.post(f"{path}/rewind", {"turns": 1}, **{"idempotency-key": "k"})
    assert (first.status, again.status) == (200, 200)
    assert first.json()["left_out"] == again.json()["left_out"] != []
    assert (first.json()["status"], first.json()["once_calls"]) == ("idle", [])
    events = ann.get(f"{path}/events").json()["events"]
    assert [event["type"] for event in events].count("rewind") == 1


def test_a_repeated_rewind_tells_of_its_own_and_not_of_a_later_one(ann: Caller) -> None:
    session = ann.post("/v1/sessions", {"agent": "plain", "input": "[[say one]]"}).json()
    path = f"/v1/sessions/{session['session_id']}"
    ann.post(f"{path}/turns", {"input": "[[say two]]"})
    first = ann.post(f"{path}/rewind", {"turns": 1}, key="first").ok()
    later = ann.post(f"{path}/rewind", {"turns": 1}, key="later").ok()
    assert first["left_out"] != later["left_out"]
    for key, told in (("first", first), ("later", later)):
        assert ann.post(f"{path}/rewind", {"turns": 1}, key=key).ok()["left_out"] == told["left_out"]


def test_a_repeated_copy_is_answered_as_it_was_also_when_turns_have_followed(ann: Caller) -> None:
    session = ann.post("/v1/sessions", {"agent": "plain", "input": "[[say one]]"}).json()
    path = f"/v1/sessions/{session['session_id']}/fork"
    bodies = ({}, {"input": "[[say two]]"}, {"at_seq": 1})
    made = [ann.post(path, body, key=str(body)).ok() for body in bodies]
    assert [(turn["turn"], turn["steps"], turn["output_text"]) for turn in made] == [
        (1, 0, ""),
        (2, 1, "two"),
        (1, 0, ""),
    ]
    for turn in made:
        ann.post(f"/v1/sessions/{turn['session_id']}/turns", {"input": "[[say more]]"}).ok()
    assert [ann.post(path, body, key=str(body)).ok() for body in bodies] == made


@pytest.mark.parametrize("body", [{"turns": 0}, {"turns": 1, "to_seq": 1}, {"to_seq": -1}, {"to_seq": 999}, {"x": 1}])
def test_a_rewind_that_makes_no_sense_is_refused(ann: Caller, body: dict[str, int]) -> None:
    session = ann.post("/v1/sessions", {"agent": "plain", "input": "[[say one]]"}).json()
    answer = ann.post(f"/v1/sessions/{session['session_id']}/rewind", body)
    assert (answer.status, answer.json()["code"]) == (400, "invalid_request")


def test_a_copy_is_a_session_of_its_own(ann: Caller) -> None:
    bob = replace(ann, user="bob")
    session = ann.post("/v1/sessions", {"agent": "plain", "input": "[[say one]]"}).json()
    path = f"/v1/sessions/{session['session_id']}"
    turn = ann.post(f"{path}/fork", {"input": "[[say again]]"}).json()
    assert (turn["status"], turn["output_text"]) == ("idle", "again")
    copy = ann.get(f"/v1/sessions/{turn['session_id']}").json()
    assert copy["forked_from"] == {"session_id": session["session_id"], "seq": session["last_seq"]}
    assert ann.post(f"{path}/fork", {}).json()["status"] == "idle"
    assert ann.post(f"{path}/fork").json()["status"] == "idle", "no body says nothing, as all of it may be left out"
    assert bob.post(f"{path}/fork", {}).status == 404
    assert bob.post(f"{path}/rewind", {}).status == 404
