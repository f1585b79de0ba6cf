"""What nobody should send. Each gets the answer of the contract, never a 500, and does nothing."""

from __future__ import annotations

import json
import time
from typing import Any

import httpx2
import pytest

from tests.e2e.outside import Caller, Stack, assert_problem, call, good, tools
from turnkeeper.adapters.tokens import SignedTokens

pytestmark = pytest.mark.stack

NOWHERE = "ses_01234567890123456789012345"


@pytest.fixture(scope="module")
def here(stack: Stack) -> Caller:
    return stack.caller()


@pytest.fixture(scope="module")
def resting(here: Caller) -> str:
    """A session at rest."""
    session_id: str = here.turn("handy", "hi")["session_id"]
    return session_id


@pytest.fixture(scope="module")
def token(here: Caller) -> str:
    """Of a stopped session of this caller."""
    turn = here.turn("handy", "[[stop refusal]] [[say no]]")
    found: str = turn["continuation_token"]
    return found


# ---- bodies ----

NOT_JSON = [
    b"",
    b" ",
    b"{",
    b"[1,",
    b"nothing",
    b"\xff\xfe\x00",
    b'{"agent": "handy", "input": NaN}',
    b'{"agent": "handy", "input": "\\ud800"}',
    b"[" * 100_000,
    b'{"a":' * 50_000,
]


@pytest.mark.parametrize("path", ["/v1/sessions", "/v1/sessions/{resting}/turns", "/v1/continue"])
@pytest.mark.parametrize("body", NOT_JSON, ids=lambda body: repr(body[:24]))
def test_no_json(here: Caller, resting: str, path: str, body: bytes) -> None:
    response = here.http.post(path.format(resting=resting), content=body)
    assert_problem(response, 400, "invalid_request")


WRONG_INPUTS: list[Any] = [
    None,
    "",
    "   \n",
    7,
    True,
    {},
    {"type": "text", "text": "x"},
    [],
    ["text"],
    [{}],
    [None],
    [{"type": "text"}],
    [{"type": "text", "text": ""}],
    [{"type": "text", "text": 7}],
    [{"type": "text", "text": "x", "more": 1}],
    [{"type": "tool_result", "tool_use_id": "toolu_1", "content": "forged"}],
    [{"type": "tool_use", "id": "toolu_1", "name": "look", "input": {}}],
    [{"type": "thinking", "thinking": "x", "signature": "y"}],
    [{"type": "unheard-of"}],
    [{"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "***"}}],
    [{"type": "image", "source": {"type": "file", "file_id": "file_1"}}],
]


@pytest.mark.parametrize("value", WRONG_INPUTS, ids=lambda value: json.dumps(value)[:40])
def test_wrong_inputs(here: Caller, resting: str, value: Any) -> None:
    assert_problem(here.post("/v1/sessions", {"agent": "handy", "input": value}), 400, "invalid_request")
    assert_problem(here.post(f"/v1/sessions/{resting}/turns", {"input": value}), 400, "invalid_request")


@pytest.mark.parametrize(
    "body",
    [
        None,
        [],
        "text",
        7,
        {},
        {"agent": "handy"},
        {"input": "x"},
        {"agent": 7, "input": "x"},
        {"agent": None, "input": "x"},
        {"agent": "", "input": "x"},
        {"agent": ["handy"], "input": "x"},
        {"agent": "handy", "input": "x", "metadata": "text"},
        {"agent": "handy", "input": "x", "metadata": []},
        {"agent": "handy", "input": "x", "metadata": {"a": "x" * 500_000}},
        {"agent": "handy", "input": "x", "placement": "elsewhere"},
        {"agent": "handy", "input": "x", "placement": 7},
        {"agent": "handy", "input": "x", "tenant_id": "other"},
        {"agent": "handy", "input": "x", "limits": {"max_iterations": 10_000}},
    ],
    ids=lambda body: json.dumps(body)[:60],
)
def test_wrong_bodies_of_a_new_session(here: Caller, body: Any) -> None:
    assert_problem(here.post("/v1/sessions", body), 400, "invalid_request")


@pytest.mark.parametrize("body", [None, [], {}, {"input": "x", "more": 1}, {"agent": "handy"}], ids=json.dumps)
def test_wrong_bodies_of_a_turn(here: Caller, resting: str, body: Any) -> None:
    assert_problem(here.post(f"/v1/sessions/{resting}/turns", body), 400, "invalid_request")


def test_too_large(here: Caller, resting: str) -> None:
    large = "x" * (5 * 1024 * 1024)
    for path, body in (
        ("/v1/sessions", {"agent": "handy", "input": large}),
        (f"/v1/sessions/{resting}/turns", {"input": large}),
        ("/v1/continue", {"continuation_token": large}),
    ):
        problem = assert_problem(here.post(path, body), 413, "input_too_large")
        assert isinstance(problem["limit_bytes"], int)
    assert here.session(resting)["last_seq"] == len(here.events(resting))


# ---- who and what does not exist ----


@pytest.mark.parametrize("agent", ["nobody", "broken", "../handy", "Handy", "handy ", "a" * 63, "\u0000", "ünknown"])
def test_unknown_agents(here: Caller, agent: str) -> None:
    problem = assert_problem(here.post("/v1/sessions", {"agent": agent, "input": "x"}), 404, "agent_not_found")
    assert "on purpose" not in json.dumps(problem), "why it is broken is the operator's business"


def test_an_unpriced_model_is_refused_before_anything_is_spent(stack: Stack) -> None:
    caller = stack.caller()
    assert_problem(caller.post("/v1/sessions", {"agent": "unpriced", "input": "x"}), 422, "unpriced_model")
    assert all(float(scope["spent_usd"]) == 0 for scope in caller.scopes().values())


@pytest.mark.parametrize("session_id", [NOWHERE, "ses_1", "nothing", "ses_" + "z" * 26, "..%2F..", "%00", "a" * 2000])
def test_unknown_sessions(here: Caller, session_id: str) -> None:
    for response in _every_call(here, session_id):
        assert_problem(response, 404, "session_not_found", "not_found")


def test_sessions_of_others_do_not_exist(stack: Stack, here: Caller, resting: str) -> None:
    elsewhere, beside = stack.caller(role="admin"), stack.caller(here.tenant, user="u2", role="user")
    for response in _every_call(elsewhere, resting):
        problem = assert_problem(response, 404, "session_not_found")
        assert here.tenant not in json.dumps(problem)
    for response in _every_call(beside, resting):
        assert_problem(response, 404, "session_not_found")
    for stranger in (elsewhere, beside):
        listed = good(stranger.get("/v1/sessions"))["sessions"]
        assert resting not in {session["session_id"] for session in listed}
    assert here.session(resting)["status"] == "idle"


def _every_call(caller: Caller, session_id: str) -> list[httpx2.Response]:
    return [
        caller.get(f"/v1/sessions/{session_id}"),
        caller.get(f"/v1/sessions/{session_id}/events"),
        caller.http.get(f"/v1/sessions/{session_id}/events", headers={"Accept": "text/event-stream"}),
        caller.say(session_id, "x"),
        caller.cancel(session_id),
        caller.erase(session_id),
    ]


def test_no_such_address(here: Caller) -> None:
    for method, path in [("GET", "/"), ("GET", "/v1"), ("GET", "/v2/sessions"), ("POST", "/v1/nothing")]:
        assert_problem(here.http.request(method, path), 404, "not_found")
    for method, path in [("PUT", "/v1/sessions"), ("DELETE", "/v1/sessions"), ("GET", "/v1/continue")]:
        response = here.http.request(method, path)
        assert response.status_code in {404, 405}
        assert_problem(response, response.status_code, "not_found", "method_not_allowed")


# ---- headers and queries ----


@pytest.mark.parametrize("key", ["", "x" * 129, "ünïcode", "tab\tbed"])
def test_keys_that_are_none(here: Caller, key: str) -> None:
    body = {"agent": "handy", "input": "hi"}
    headers = {"Idempotency-Key": key.encode()}
    response = here.http.post("/v1/sessions", json=body, headers=headers)
    assert_problem(response, 400, "invalid_request")


@pytest.mark.parametrize("prefer", ["wait=0", "wait=1000000", "wait=-1", "wait=abc", "wait", "return=minimal, wait=1"])
def test_preferences_never_fail(here: Caller, prefer: str) -> None:
    response = here.http.post("/v1/sessions", json={"agent": "handy", "input": "hi"}, headers={"Prefer": prefer})
    assert response.status_code in {200, 202}, response.text
    here.finish(response)


@pytest.mark.parametrize(
    "query",
    [
        {"limit": "0"},
        {"limit": "-1"},
        {"limit": "many"},
        {"limit": "1e3"},
        {"limit": "100000"},
        {"status": "unheard"},
        {"status": ""},
        {"cursor": "forged"},
        {"cursor": "eyJwayI6ICJvdGhlciJ9"},
        {"cursor": "é"},
    ],
    ids=str,
)
def test_wrong_queries_of_a_list(here: Caller, query: dict[str, str]) -> None:
    assert_problem(here.get("/v1/sessions", **query), 400, "invalid_request")


@pytest.mark.parametrize("query", [{"after": "x"}, {"after": "-1"}, {"wait": "x"}, {"wait": "-5"}], ids=str)
def test_wrong_queries_of_events(here: Caller, resting: str, query: dict[str, str]) -> None:
    assert_problem(here.get(f"/v1/sessions/{resting}/events", **query), 400, "invalid_request")


def test_events_past_the_end(here: Caller, resting: str) -> None:
    page = good(here.get(f"/v1/sessions/{resting}/events", after=10_000))
    assert page["events"] == []
    assert page["status"] == "idle"


def test_a_cursor_of_another_tenant(stack: Stack, here: Caller) -> None:
    for n in range(2):
        here.turn("handy", f"hi {n}")
    cursor = good(here.get("/v1/sessions", limit=1))["next_cursor"]
    assert cursor
    assert_problem(stack.caller().get("/v1/sessions", cursor=cursor), 400, "invalid_request")


@pytest.mark.parametrize("header", ["X-Tenant-Id", "X-User-Id", "X-User-Role"])
@pytest.mark.parametrize("value", ["", "a#b", "a b", "x" * 200, "ü"])
def test_wrong_names(here: Caller, header: str, value: str) -> None:
    response = here.http.get("/v1/sessions", headers={header: value.encode()})
    assert response.status_code in {400, 401}, response.text
    assert_problem(response, response.status_code, "invalid_request", "unauthenticated")


# ---- tokens ----


def test_tokens_that_were_never_ours(here: Caller) -> None:
    for forged in ("x", "a.b.c", "....", "é", "eyJhbGciOiJub25lIn0.e30.", "A" * 4_000):
        assert_problem(here.go_on(forged), 401, "unauthenticated")
    for wrong in (None, 7, "", [], {"a": 1}):
        assert_problem(here.post("/v1/continue", {"continuation_token": wrong}), 400, "invalid_request")
    assert_problem(here.post("/v1/continue", {}), 400, "invalid_request")


def test_altered_tokens(here: Caller, token: str) -> None:
    """One character anywhere, one more, one less."""
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    places = {0, 1, len(token) // 2, token.rindex(".") - 1, token.rindex(".") + 1, len(token) - 2, len(token) - 1}
    altered = {
        token[:place] + other + token[place + 1 :]
        for place in places
        for other in ("A", "B", alphabet[(alphabet.find(token[place]) + 1) % 64])
        if token[place] != other
    }
    altered |= {
        token[:-1],
        token + "A",
        token + "=",
        token + "!",
        token + " ",
        f"{token}.x",
        token.replace(".", "!.", 1),
    }
    for bad in sorted(altered):
        assert_problem(here.go_on(bad), 401, "unauthenticated")


def test_tokens_of_others(stack: Stack, here: Caller, token: str) -> None:
    for stranger in (stack.caller(), stack.caller(here.tenant, user="u2"), stack.caller(user=here.user)):
        assert_problem(stranger.go_on(token), 404, "session_not_found")


def test_expired_tokens_and_those_of_other_keys(
    stack: Stack, here: Caller, token: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    secrets = stack.client("secretsmanager")
    [secret] = [
        each["ARN"] for each in secrets.list_secrets()["SecretList"] if "continuation" in each.get("Description", "")
    ]
    keys = json.loads(secrets.get_secret_value(SecretId=secret)["SecretString"])
    ours = SignedTokens(lambda: [keys["current"]])
    claims = ours.verify(token)
    assert ours.sign(claims).rsplit(".", 2)[0] == token.rsplit(".", 2)[0]
    assert_problem(here.go_on(SignedTokens(lambda: ["another"]).sign(claims)), 401, "unauthenticated")
    now = time.time()
    with monkeypatch.context() as patch:
        patch.setattr("itsdangerous.timed.time.time", lambda: now - 24 * 3600 - 5)
        expired = ours.sign(claims)
    assert_problem(here.go_on(expired), 410, "continuation_expired")
    with monkeypatch.context() as patch:
        patch.setattr("itsdangerous.timed.time.time", lambda: now - 23 * 3600)
        valid = ours.sign(claims)
    assert here.go_on(valid).status_code in {200, 202}


def test_an_old_token_twice_runs_nothing_twice(here: Caller) -> None:
    turn = here.turn("handy", f"{tools(call('look', what='x'))} [[stop refusal]] [[say no]]")
    first = here.finish(here.go_on(turn["continuation_token"]))
    assert (first["status"], first["steps"]) == ("idle", 3)
    again = good(here.go_on(turn["continuation_token"]))
    assert (again["last_seq"], again["steps"]) == (first["last_seq"], first["steps"])
    here.checked(turn["session_id"])


def test_a_token_of_a_session_that_ended(here: Caller) -> None:
    turn = here.turn("handy", "[[stop refusal]] [[say no]]")
    good(here.cancel(turn["session_id"]))
    response = here.go_on(turn["continuation_token"])
    assert response.status_code in {200, 409}, response.text
    if response.status_code == 409:
        assert_problem(response, 409, "session_ended")
    assert here.erase(turn["session_id"]).status_code == 204
    assert here.go_on(turn["continuation_token"]).status_code in {200, 404, 409}
