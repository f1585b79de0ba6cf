"""The front door around its calls: logs, stages, and what else API Gateway may send."""

from __future__ import annotations

import json
import logging
import time
from typing import Any

import pytest

from functions.api.app import FrontDoor
from functions.api.http import Request
from tests.support.http import Caller, answered, event
from tests.support.kit import MemoryKit
from turnkeeper.core.errors import Unavailable
from turnkeeper.core.tracing import turn_context
from turnkeeper.runtime.store import keys
from turnkeeper.table import StoreBusy, Update


def test_a_line_for_each_call_and_nothing_of_what_was_said(ann: Caller, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    body = {"agent": "plain", "input": "[[say swordfish]]", "metadata": {"x": "swordfish"}}
    turn = ann.post("/v1/sessions", body, key="swordfish").ok()
    ann.get(f"/v1/sessions/{turn['session_id']}").ok()
    ann.post("/v1/sessions", {"agent": "plain", "input": 5, "swordfish": "swordfish"})
    lines = [record for record in caplog.records if record.message == "answered"]
    assert [(line.call, line.status, line.tenant_id) for line in lines] == [
        ("createSession", 200, "acme"),
        ("getSession", 200, "acme"),
        ("createSession", 400, "acme"),
    ]
    assert lines[1].session_id == turn["session_id"]
    assert lines[2].code == "invalid_request"
    assert "swordfish" not in str([record.__dict__ for record in caplog.records])


@pytest.mark.parametrize("error", [StoreBusy("busy"), Unavailable("S3 is busy", retry_after_seconds=2.5)])
def test_who_is_busy_says_when_to_come_back(ann: Caller, kit: MemoryKit, error: Any, monkeypatch: Any) -> None:
    def fails(*_: Any, **__: Any) -> Any:
        raise error

    monkeypatch.setattr(kit.sessions, "head", fails)
    answer = ann.get("/v1/sessions/ses_00000000000000000000000000")
    answer.problem(503, "unavailable")
    assert answer.headers["retry-after"] == ("1" if isinstance(error, StoreBusy) else "3")


def test_a_stage_with_a_name_is_no_part_of_the_address(kit: MemoryKit) -> None:
    made = event("GET", "/prod/v1/health")
    made["requestContext"]["stage"] = "prod"
    answered(FrontDoor(kit), made).ok()
    made["rawPath"] = "/v1/health"
    answered(FrontDoor(kit), made).ok()


@pytest.mark.parametrize("made", [{}, {"requestContext": None}, {"headers": None, "rawPath": None, "body": None}])
def test_an_event_that_is_hardly_one(kit: MemoryKit, made: Any) -> None:
    answered(FrontDoor(kit), made).problem(404, "not_found")


@pytest.mark.parametrize("body", ["!!!", "é", '{"agent": "plain", "input": "x"}'])
def test_a_body_that_only_says_that_it_is_base64(kit: MemoryKit, body: str) -> None:
    made = event("POST", "/v1/sessions", body=body, is_base64=True)
    answered(FrontDoor(kit), made).problem(400, "invalid_request")


def test_another_server_can_stand_in_front(kit: MemoryKit) -> None:
    """Nothing behind the edge knows of API Gateway."""
    request = Request(
        method="POST",
        path="/v1/sessions",
        headers={"x-tenant-id": "acme", "x-user-id": "ann", "prefer": "wait=5"},
        query={},
        body=b'{"agent": "plain", "input": "[[say hello]]"}',
        claims={},
        principal=None,
        request_id="r",
        ends_at=time.monotonic() + 60,
    )
    response = FrontDoor(kit).answer(request)
    assert (response.status, json.loads(response.body)["output_text"]) == (200, "hello")
    session = kit.sessions.head("acme", json.loads(response.body)["session_id"])
    assert response.headers == {
        "preference-applied": "wait=5",
        "x-trace-id": turn_context(session).trace_id,
        "cache-control": "no-store",
        "x-content-type-options": "nosniff",
    }


def test_a_turn_that_another_one_followed_is_answered_as_it_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever waits for a turn is not told the next one's answer."""
    kit = MemoryKit(runner="none")
    ann = Caller(FrontDoor(kit))
    sleep = kit.clock.sleep

    def two_turns(_: float) -> None:
        """What happens between two looks at the session."""
        monkeypatch.setattr(kit.clock, "sleep", sleep)
        [session] = ann.get("/v1/sessions").ok()["sessions"]
        kit.run(kit.head(session["session_id"]))
        ann.post(f"/v1/sessions/{session['session_id']}/turns", {"input": "[[say two]]"}, wait=0).ok(202)
        kit.run(kit.head(session["session_id"]))

    monkeypatch.setattr(kit.clock, "sleep", two_turns)
    turn = ann.post("/v1/sessions", {"agent": "plain", "input": "[[say one]]"}).ok()
    assert (turn["output_text"], turn["turn"], turn["status"]) == ("one", 1, "idle")
    assert ann.get(f"/v1/sessions/{turn['session_id']}").ok()["output_text"] == "two"


def test_a_browsers_preflight_needs_no_identity_and_promises_nothing() -> None:
    """Which origins may call is for API Gateway to say; an OPTIONS that is no preflight is a method like any other."""
    kit = MemoryKit(identity="jwt")
    asked = {"Origin": "https://app.example.com", "Access-Control-Request-Method": "POST"}
    answer = answered(FrontDoor(kit), event("OPTIONS", "/v1/sessions", headers=asked))
    assert answer.status == 204
    assert not [name for name in answer.headers if name.startswith("access-control")]
    answered(FrontDoor(kit), event("OPTIONS", "/v1/sessions")).problem(405, "method_not_allowed")


@pytest.mark.parametrize(
    "call",
    ["GET ", "GET /events", "GET /explain", "GET /stream", "POST /turns", "POST /cancel", "POST /fork", "DELETE "],
)
def test_a_session_that_only_a_newer_release_can_read_is_asked_for_again(
    ann: Caller, kit: MemoryKit, call: str, caplog: pytest.LogCaptureFixture
) -> None:
    """During a deployment, that is no defect of either release."""
    session_id = ann.post("/v1/sessions", {"agent": "plain", "input": "[[say hello]]"}).ok()["session_id"]
    kit.table.write([Update(keys.head_key("acme", session_id), set={"status": "resting on its laurels"})])
    method, path = call.split(" ")
    answer = ann.call(method, f"/v1/sessions/{session_id}{path}", text='{"input": "x"}' if path == "/turns" else None)
    assert answer.problem(503, "unavailable")["detail"].startswith("The session is one of a newer release (status)")
    assert answer.headers["retry-after"] == "5"
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]
    kit.table.write([Update(keys.head_key("acme", session_id), set={"packed": b"\x00", "status": "idle"})])
    ann.get(f"/v1/sessions/{session_id}").problem(500, "internal_error")
