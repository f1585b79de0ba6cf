"""What callers are told of a runner that was lost, while it is silent and afterwards; and why a call was denied."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from tests.support.api import Caller
from tests.support.kit import MemoryKit
from turnkeeper.core.errors import ProviderError
from turnkeeper.runtime.store import keys
from turnkeeper.table import Update


def create(ann: Caller, text: str = "[[say done]]", agent: str = "helper", **more: Any) -> Any:
    return ann.post("/v1/sessions", {"agent": agent, "input": text}, **more)


def events(ann: Caller, session_id: str) -> Any:
    return ann.get(f"/v1/sessions/{session_id}/events").ok()


def test_a_runner_that_is_silent_and_then_lost(ann: Caller, kit: MemoryKit) -> None:
    session_id = create(ann, agent="slow", wait=0).ok(202)["session_id"]
    path = f"/v1/sessions/{session_id}"
    assert ann.get(path).ok()["lease_expires_at"] is None
    kit.sessions.claim("acme", session_id, "task-1/token", "fargate")
    alive = ann.get(path).ok()
    assert alive["lease_expires_at"] > alive["updated_at"]
    assert alive["runner_silent_since"] is None
    kit.table.update(Update(keys.head_key("acme", session_id), set={"lease_expires_at": 60_000}))
    silent = ann.get(f"{path}/events?wait=0").ok()
    assert silent["lease_expires_at"] == "1970-01-01T00:01:00.000Z"
    assert silent["runner_silent_since"] is not None
    assert ann.get(path).ok()["runner_silent_since"] == silent["runner_silent_since"]

    assert kit.run(kit.head(session_id)).status == "idle"
    page = events(ann, session_id)
    assert (page["lease_expires_at"], page["runner_silent_since"]) == (None, None)
    [lost] = [event for event in page["events"] if event["type"] == "runner_lost"]
    assert (lost["runner"], lost["runner_id"], lost["taken_over_by"]) == ("fargate", "task-1", "lambda")
    assert (lost["in_doubt_usd"], lost["cost_usd"], lost["open_calls"]) == ("0.000000", "0.000000", [])
    assert lost["last_heard_at"] == silent["runner_silent_since"]


def test_what_is_in_doubt_is_told_of_events_turns_sessions_and_spend(ann: Caller, kit: MemoryKit) -> None:
    session_id = create(ann).ok()["session_id"]
    path = f"/v1/sessions/{session_id}"
    assert {ann.get(path).ok()["in_doubt_usd"], create(ann).ok()["in_doubt_usd"]} == {"0.000000"}
    call, failing = kit.model.call, [True]

    def breaks_off(request: object, *, timeout_seconds: float, **_: object) -> object:
        if failing.pop() if failing else False:
            raise ProviderError("broke off", retryable=True, certainty="unknown")
        return call(request, timeout_seconds=timeout_seconds)  # type: ignore[arg-type]

    kit.model.call = breaks_off  # type: ignore[method-assign,assignment]
    turn = ann.post(f"{path}/turns", {"input": "[[say later]]"}).ok()
    doubted = Decimal(turn["in_doubt_usd"])
    assert 0 < doubted < Decimal(turn["cost_usd"])
    told = [Decimal(event["in_doubt_usd"]) for event in events(ann, session_id)["events"] if "in_doubt_usd" in event]
    assert told == [doubted], "also where no runner was lost, the entry that tells the cost tells the doubt"
    [task] = [each for each in ann.get(f"/v1/spend?session_id={session_id}").ok()["scopes"] if each["scope"] == "task"]
    assert Decimal(task["in_doubt_usd"]) == doubted
    assert "in_doubt_usd" not in ann.get("/v1/spend").ok()["scopes"][0]


def test_a_denied_call_says_which_scope_is_missing_and_who_has_it(ann: Caller, kit: MemoryKit) -> None:
    turn = create(ann, '[[tool write_note {"text": "x"}]] [[say done]]', "helper").ok()
    [told] = [event for event in events(ann, turn["session_id"])["events"] if event["type"] == "tool_results"]
    [result] = told["results"]
    assert result["outcome"] == "denied"
    assert result["denial"]["why"] == "role"
    assert result["denial"]["missing_scopes"] == ["notes:write"]
    able = [name for name, role in kit.policy.roles.items() if "notes:write" in role.scopes]
    assert result["denial"]["given_to_roles"] == sorted(able)
    assert able
    assert "needs scope notes:write" in result["content"][0]["text"]
    [record] = [each for each in kit.sessions.audit("acme", turn["session_id"]) if each["kind"] == "tool_call"]
    assert record["detail"]["denial"] == result["denial"]
