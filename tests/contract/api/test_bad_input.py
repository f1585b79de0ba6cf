"""Bad input is answered as the contract says, in the problem format, and nothing is begun for it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.support.http import Caller
from tests.support.kit import MemoryKit

OK = {"agent": "plain", "input": "[[say hello]]"}
TEXT = {"type": "text", "text": "hello"}


@pytest.mark.parametrize(
    ("body", "where"),
    [
        ({}, "body.agent"),
        ({"agent": "plain"}, "body.input"),
        ({**OK, "agent": 5}, "body.agent"),
        ({**OK, "agent": None}, "body.agent"),
        ({**OK, "agent": ""}, "body.agent"),
        ({**OK, "input": ""}, "body.input"),
        ({**OK, "input": " \n"}, "body.input"),
        ({**OK, "input": None}, "body.input"),
        ({**OK, "input": 7}, "body.input"),
        ({**OK, "input": {}}, "body.input"),
        ({**OK, "input": []}, "body.input"),
        ({**OK, "input": ["hello"]}, "body.input[0]"),
        ({**OK, "input": [{"text": "hello"}]}, "body.input[0]"),
        ({**OK, "input": [{"type": "text", "text": ""}, {"type": "text", "text": "\n"}]}, "body.input"),
        ({**OK, "input": [{"type": "tool_result", "tool_use_id": "t", "content": "x"}]}, "body.input[0]"),
        ({**OK, "input": [{"type": "tool_use", "id": "t", "name": "x", "input": {}}]}, "body.input[0]"),
        ({**OK, "input": [{"type": "thinking", "thinking": "x", "signature": "x"}]}, "body.input[0]"),
        ({**OK, "input": [{"type": "image", "source": {"type": "file", "file_id": "f"}}]}, "body.input[0].source"),
        ({**OK, "input": [{"type": "image", "source": {"type": "url", "url": "ftp://x"}}]}, "body.input[0].source.url"),
        ({**OK, "input": [{**TEXT, "role": "system"}]}, "body.input[0].role"),
        ({**OK, "metadata": None}, "body.metadata"),
        ({**OK, "metadata": ["x"]}, "body.metadata"),
        ({**OK, "metadata": {"x": "y" * 17_000}}, "body.metadata"),
        ({**OK, "metadata": {"x": json.loads("[" * 40 + "]" * 40)}}, "body.metadata"),
        ({**OK, "placement": "moon"}, "body.placement"),
        ({**OK, "role": "admin"}, "body.role"),
        ({**OK, "tenant_id": "globex"}, "body.tenant_id"),
        ([], "body"),
        ("hello", "body"),
        (None, "body"),
    ],
)
def test_a_body_that_does_not_fit(ann: Caller, kit: MemoryKit, body: Any, where: str) -> None:
    answer = ann.call("POST", "/v1/sessions", text=json.dumps(body))
    errors = answer.problem(400, "invalid_request")["errors"]
    assert where in [error["where"] for error in errors]
    assert all(error["why"] for error in errors)
    assert kit.table.snapshot() == []


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "agent=plain",
        "\x00",
        '{"agent": NaN}',
        '{"agent": "plain", "input": "x", "metadata": {"number": 1e999}}',
        "[" * 100_000,
        '{"agent": "plain", "input": "\\ud800"}',
        "1" * 9_999,
    ],
)
def test_a_body_that_is_no_json(ann: Caller, text: str) -> None:
    ann.call("POST", "/v1/sessions", text=text).problem(400, "invalid_request")
    ann.call("POST", "/v1/continue", text=text).problem(400, "invalid_request")


@pytest.mark.parametrize("deep", [65, 500, 900])
def test_a_body_that_is_nested_too_deep(ann: Caller, deep: int) -> None:
    nested = "[" * deep + '"\\ud83d\\ude00"' + "]" * deep
    text = f'{{"agent": "plain", "input": [{{"type": "text", "text": "x", "cache_control": {nested}}}]}}'
    answer = ann.call("POST", "/v1/sessions", text=text, headers={"idempotency-key": "k"})
    answer.problem(400, "invalid_request")


def test_no_body_at_all(ann: Caller) -> None:
    ann.post("/v1/sessions").problem(400, "invalid_request")


@pytest.mark.parametrize("binary", [b"\xff\xfe{}", b"\x89PNG", json.dumps(OK).encode("utf-16")])
def test_a_body_that_is_no_text(ann: Caller, binary: bytes) -> None:
    ann.call("POST", "/v1/sessions", binary=binary).problem(400, "invalid_request")


def test_a_body_in_base64_is_read(ann: Caller) -> None:
    ann.call("POST", "/v1/sessions", binary=json.dumps(OK).encode()).ok()


def test_the_content_type_does_not_matter(ann: Caller) -> None:
    ann.call("POST", "/v1/sessions", text=json.dumps(OK), headers={"content-type": "text/plain"}).ok()


def test_too_large_a_body(ann: Caller) -> None:
    body = {"agent": "plain", "input": "x" * (4 * 1024 * 1024)}
    assert ann.post("/v1/sessions", body).problem(413, "input_too_large")["limit_bytes"] == 4 * 1024 * 1024


def test_a_large_body_is_kept_whole(ann: Caller, kit: MemoryKit) -> None:
    text = "[[say big]] " + "".join(f"{n * 7919:x} " for n in range(100_000))
    turn = ann.post("/v1/sessions", {"agent": "plain", "input": text}).ok()
    assert turn["status"] in {"idle", "stopped"}
    assert kit.entries(turn["session_id"])[0].content[0]["text"] == text


def test_an_agent_that_is_not_there(ann: Caller) -> None:
    assert ann.post("/v1/sessions", {**OK, "agent": "nobody"}).problem(404, "agent_not_found")["agent"] == "nobody"
    problem = ann.post("/v1/sessions", {**OK, "agent": "broken"}).problem(404, "agent_not_found")
    assert "left_pad" not in json.dumps(problem)


@pytest.mark.parametrize(
    "session_id", ["x", "ses_x", "ses_" + "0" * 26, "..", "ses_%2e%2e", "%00", "ses_" + "0" * 5000]
)
def test_a_session_that_is_not_there(ann: Caller, session_id: str) -> None:
    ann.get(f"/v1/sessions/{session_id}").problem(404, "session_not_found")
    ann.get(f"/v1/sessions/{session_id}/events").problem(404, "session_not_found")
    ann.delete(f"/v1/sessions/{session_id}").problem(404, "session_not_found")
    ann.post(f"/v1/sessions/{session_id}/cancel").problem(404, "session_not_found")
    ann.post(f"/v1/sessions/{session_id}/turns", {"input": "x"}).problem(404, "session_not_found")


@pytest.mark.parametrize(
    "target",
    [
        "/v1/sessions?limit=0",
        "/v1/sessions?limit=101",
        "/v1/sessions?limit=x",
        "/v1/sessions?limit=",
        "/v1/sessions?limit=1.5",
        "/v1/sessions?limit=%D9%A3",
        "/v1/sessions?status=asleep",
        "/v1/sessions?cursor=x",
        "/v1/sessions?cursor=e30=",
        "/v1/sessions/{}/events?after=-1",
        "/v1/sessions/{}/events?after=x",
        "/v1/sessions/{}/events?after=99999999999999",
        "/v1/sessions/{}/events?wait=26",
        "/v1/sessions/{}/events?wait=-1",
    ],
)
def test_a_query_that_makes_no_sense(ann: Caller, target: str) -> None:
    session_id = ann.post("/v1/sessions", OK).ok()["session_id"]
    assert ann.get(target.format(session_id)).problem(400, "invalid_request")["errors"]


@pytest.mark.parametrize(
    "path", ["/", "/v1", "/v1/", "/v2/sessions", "/v1/sessions/", "/v1/health/", "/favicon.ico", ""]
)
def test_an_address_with_nothing_there(ann: Caller, path: str) -> None:
    ann.get(path).problem(404, "not_found")


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("PUT", "/v1/sessions", "POST, GET, HEAD"),
        ("POST", "/v1/health", "GET, HEAD"),
        ("HEAD", "/v1/sessions/ses_00000000000000000000000000/stream", "GET"),
        ("HEAD", "/v1/continue", "POST"),
        ("GET", "/v1/continue", "POST"),
        ("PATCH", "/v1/sessions/ses_00000000000000000000000000", "GET, HEAD, DELETE"),
        ("OPTIONS", "/v1/spend", "GET, HEAD"),
    ],
)
def test_a_method_that_is_not_taken(ann: Caller, method: str, path: str, allowed: str) -> None:
    answer = ann.call(method, path)
    answer.problem(405, "method_not_allowed")
    assert answer.headers["allow"] == allowed


def test_our_own_failures_tell_nothing(ann: Caller, kit: MemoryKit, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: Any, **__: Any) -> Any:
        raise RuntimeError("password=hunter2 at db.internal")

    monkeypatch.setattr(kit.sessions, "head", fails)
    answer = ann.get("/v1/sessions/ses_00000000000000000000000000")
    answer.problem(500, "internal_error")
    assert "hunter2" not in answer.body
    assert "RuntimeError" not in answer.body
