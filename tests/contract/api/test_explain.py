"""The story of a session through the API: its shape, who may have it, and of which turns."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from typing import Any

from tests.support.api import Caller
from tests.support.kit import MemoryKit


def create(ann: Caller, text: str = "[[say done]]", agent: str = "helper") -> str:
    return str(ann.post("/v1/sessions", {"agent": agent, "input": text}).ok()["session_id"])


def told(ann: Caller, session_id: str, query: str = "") -> Any:
    return ann.get(f"/v1/sessions/{session_id}/explain{query}").ok()


def test_the_story_of_a_session_names_what_each_line_is_about(ann: Caller, kit: MemoryKit) -> None:
    session_id = create(ann, '[[tool add {"a": 1, "b": 2}]] [[fail 529]] [[say done]]')
    session = ann.get(f"/v1/sessions/{session_id}").ok()
    document = told(ann, session_id)
    assert set(document) == {"session_id", "turn", "story", "why_ended", "what_now"}
    assert (document["session_id"], document["turn"]) == (session_id, None)
    assert all(set(line) == {"at", "text", "refs", "cost_usd"} for line in document["story"])
    assert [line["at"] for line in document["story"]] == sorted(line["at"] for line in document["story"])
    [asked] = [line for line in document["story"] if line["refs"].get("trace_id")]
    assert asked["refs"]["trace_id"] == session["trace_id"]
    assert asked["refs"]["request_id"] == kit.head(session_id).turn.request_id
    costs = (Decimal(line["cost_usd"]) for line in document["story"] if line["cost_usd"] is not None)
    assert sum(costs) == Decimal(session["cost_usd"])
    assert {line["refs"]["call"] for line in document["story"] if "call" in line["refs"]} == {1, 2, 3}
    assert isinstance(document["why_ended"], str)
    assert f"turnkeeper chat helper --session {session_id}" in document["what_now"]


def test_the_story_of_one_turn(ann: Caller) -> None:
    session_id = create(ann, "[[say one]]")
    ann.post(f"/v1/sessions/{session_id}/turns", {"input": "[[say two]]"}).ok()
    first, second = (told(ann, session_id, f"?turn={turn}") for turn in (1, 2))
    assert (first["turn"], second["turn"]) == (1, 2)
    assert "Turn 1: " in str(first["story"])
    assert "Turn 2: " not in str(first["story"])
    assert "Turn 1: " not in str(second["story"])
    for turn in ("0", "3", "x", "-1", ""):
        ann.get(f"/v1/sessions/{session_id}/explain?turn={turn}").problem(400, "invalid_request")


def test_nobody_elses_session_is_explained(ann: Caller) -> None:
    session_id = create(ann)
    path = f"/v1/sessions/{session_id}/explain"
    replace(ann, user="bob").get(path).problem(404, "session_not_found")
    replace(ann, tenant="other").get(path).problem(404, "session_not_found")
    replace(ann, tenant="other", role="admin").get(path).problem(404, "session_not_found")
    ann.get("/v1/sessions/nonsense/explain").problem(404, "session_not_found")


def test_only_admins_are_told_of_the_tenants_money(ann: Caller) -> None:
    session_id = create(ann)
    scopes = {line["refs"].get("scope") for line in told(ann, session_id)["story"]}
    assert {"task", "user_daily"} <= scopes
    assert "tenant_monthly" not in scopes
    admins = told(replace(ann, user="boss", role="admin"), session_id)
    assert "tenant_monthly" in {line["refs"].get("scope") for line in admins["story"]}


def test_a_session_that_runs_and_one_that_was_erased(ann: Caller, kit: MemoryKit) -> None:
    queued = ann.post("/v1/sessions", {"agent": "slow", "input": "hello"}, wait=0).ok(202)["session_id"]
    document = told(ann, queued)
    assert document["why_ended"].startswith("It has not ended: it is on its way to the worker since ")
    assert f"`turnkeeper cancel {queued} --tenant acme --user ann`" in document["what_now"]
    gone = create(ann, "[[say something private]]")
    assert ann.delete(f"/v1/sessions/{gone}").status == 204
    document = told(ann, gone)
    assert document["why_ended"].startswith("Its contents were erased.")
    assert "private" not in str(document)
