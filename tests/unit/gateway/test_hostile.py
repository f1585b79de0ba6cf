"""The gateway against clients that want more than is theirs."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from starlette.responses import JSONResponse

from tests.support.gateway import MODEL, Rig, served
from tests.unit.gateway.test_gateway import ANSWER, HELLO, post, seen_by
from tests.unit.gateway.test_pure import BODY, asked
from turnkeeper.core.errors import InvalidRequest, TurnkeeperError, Unavailable
from turnkeeper_local.standin.serving import serving


def raw_request(rig: Rig, head: str, *pieces: Callable[[], bytes]) -> bytes:
    host, port = rig.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=20) as client:
        client.sendall(head.encode("latin-1"))
        for piece in pieces:
            client.sendall(piece())
        answer = b""
        while chunk := client.recv(65_536):
            answer += chunk
    return answer


@pytest.mark.parametrize(
    ("line", "host", "status"),
    [
        ("POST /v1/models HTTP/1.1", "x/v1/messages?", 404),
        ("POST /v1/messages HTTP/1.1", "[", 400),
        ("POST //v1/messages HTTP/1.1", "x", 404),
        ("POST /v1/messages/ HTTP/1.1", "x", 404),
        ("POST /v1/messages/../messages HTTP/1.1", "x", 404),
        ("POST /v1/messages%2Fcount_tokens HTTP/1.1", "x", 400),
        ("OPTIONS /v1/messages HTTP/1.1", "x", 404),
        ("HEAD /v1/messages HTTP/1.1", "x", 404),
    ],
)
def test_a_path_is_what_stands_in_the_request(rig: Rig, line: str, host: str, status: int) -> None:
    head = f"{line}\r\nhost: {host}\r\nx-api-key: {rig.token()}\r\nconnection: close\r\n\r\n"
    answer = raw_request(rig, head)
    assert answer.startswith(f"HTTP/1.1 {status} ".encode())


@pytest.mark.parametrize(
    "token",
    [
        "tkgw." + "A" * 8_000 + ".gwt_1.s",
        "tkgw.YQ." + "g" * 8_000 + ".s",
        "tkgw.YQ.\xe9.s",
        "tkgw.\xe9.a.b",
        "tkgw.Iw.#.s",
    ],
)
def test_a_token_of_any_form_is_no_token(rig: Rig, token: str, monkeypatch: pytest.MonkeyPatch) -> None:
    get = rig.table.get

    def checked(key: Any) -> Any:
        assert len(key.pk.encode()) <= 2_048, "the table refuses such a key"
        return get(key)

    monkeypatch.setattr(rig.table, "get", checked)
    head = f"POST /v1/messages HTTP/1.1\r\nhost: x\r\nx-api-key: {token}\r\nconnection: close\r\n\r\n"
    assert b" 401 " in raw_request(rig, head).split(b"\r\n")[0]


def test_no_beta_or_hint_of_a_client_breaks_its_call() -> None:
    seen, app = seen_by(lambda: JSONResponse(ANSWER))
    body = json.dumps({**HELLO, "metadata": {"user_id": "\ud800"}})
    with serving(app) as url, served(url) as rig:
        head = (
            f"POST /v1/messages HTTP/1.1\r\nhost: x\r\nx-api-key: {rig.token()}\r\nconnection: close\r\n"
            f"anthropic-beta: thinking-\xe9-2025-01-01\r\nanthropic-version: \xb2023-06-01\r\n"
            f"x-claude-code-session-id: \xe9\r\ncontent-length: {len(body)}\r\n\r\n"
        )
        assert b" 200 " in raw_request(rig, head, body.encode).split(b"\r\n")[0]
        [call] = rig.calls("settled")
    assert call["hint_user"].encode() and call["hint_session"].encode()
    assert "anthropic-beta" not in seen[0]["headers"]


def test_betas_may_come_in_several_headers_and_two_tokens_are_none() -> None:
    seen, app = seen_by(lambda: JSONResponse(ANSWER))
    body = json.dumps(HELLO)
    with serving(app) as url, served(url) as rig:
        for status, more in ((200, ""), (401, f"x-api-key: {rig.token()}\r\n"), (400, "content-encoding: gzip\r\n")):
            head = (
                f"POST /v1/messages HTTP/1.1\r\nhost: x\r\nX-API-Key: {rig.token()}\r\nconnection: close\r\n{more}"
                f"content-encoding: identity\r\nanthropic-beta: effort-2025-11-24\r\n"
                f"Anthropic-Beta: context-1m-2025-08-07\r\ncontent-length: {len(body)}\r\n\r\n"
            )
            assert f" {status} ".encode() in raw_request(rig, head, body.encode).split(b"\r\n")[0]
    [sent] = seen
    assert sent["headers"]["anthropic-beta"] == "effort-2025-11-24,context-1m-2025-08-07"


def test_a_token_that_expires_while_its_body_comes_admits_nothing(rig: Rig) -> None:
    body = json.dumps(HELLO).encode()
    for path in ("/v1/messages", "/v1/messages/count_tokens"):
        head = (
            f"POST {path} HTTP/1.1\r\nhost: x\r\nx-api-key: {rig.token(valid=timedelta(seconds=0.8))}\r\n"
            f"connection: close\r\ncontent-length: {len(body)}\r\n\r\n"
        )

        def late() -> bytes:
            time.sleep(1.0)
            return body

        assert b" 403 " in raw_request(rig, head, late).split(b"\r\n")[0]
    assert rig.calls() == []


def test_a_revoked_token_counts_nothing_either(rig: Rig) -> None:
    token = rig.token()
    body = {"model": MODEL, "messages": HELLO["messages"]}
    assert post(rig, body, token, "/v1/messages/count_tokens").status_code == 200
    [known] = rig.till.tokens.all()
    rig.till.tokens.revoke(known, actor="ops")
    assert post(rig, body, token, "/v1/messages/count_tokens").status_code == 403


def test_a_call_whose_body_comes_after_the_lease_was_closed_is_not_made(rig: Rig) -> None:
    """The runner still has the session then, so the lease's own condition holds."""
    head_of = rig.till.new_head("ses-1")
    rig.till.open(head_of)
    token, body = rig.gateway.lease_token(head_of), json.dumps(HELLO).encode()
    head = (
        f"POST /v1/messages HTTP/1.1\r\nhost: x\r\nx-api-key: {token}\r\nconnection: close\r\n"
        f"content-length: {len(body)}\r\n\r\n"
    )

    def late() -> bytes:
        time.sleep(0.3)
        assert rig.gateway.close_lease(token, wait_seconds=0).reserved_nanousd == 0
        return body

    assert b" 403 " in raw_request(rig, head, late).split(b"\r\n")[0]
    assert rig.calls() == []


def test_why_a_call_was_not_made_is_remembered_and_a_count_is_no_call(rig: Rig) -> None:
    head = rig.till.new_head("ses-1")
    rig.till.open(head)
    token = rig.gateway.lease_token(head)
    assert post(rig, {**HELLO, "wrong": 1}, token, "/v1/messages/count_tokens").status_code == 400
    assert rig.gateway.refusal(token) is None
    assert post(rig, {**HELLO, "wrong": 1}, token).status_code == 400
    assert isinstance(rig.gateway.refusal(token), InvalidRequest)
    assert post(rig, HELLO, token).status_code == 200
    assert rig.gateway.refusal(token) is None


def test_the_end_of_a_lease_waits_for_a_call_that_is_being_admitted(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    head = rig.till.new_head("ses-1")
    rig.till.open(head)
    token = rig.gateway.lease_token(head)
    caller = asyncio.run(rig.gateway.caller({"x-api-key": token}))
    entered, go_on = threading.Event(), threading.Event()

    async def gone() -> bool:
        return False

    def slow(*_: Any) -> Any:
        entered.set()
        go_on.wait(10)
        raise Unavailable("away", retry_after_seconds=1)

    monkeypatch.setattr(rig.gateway.till, "_want", slow)
    request = threading.Thread(target=lambda: _quietly(rig.gateway.admit(caller, asked(BODY), gone)))
    request.start()
    assert entered.wait(10)
    closed: list[float] = []
    closing = threading.Thread(target=lambda: closed.append(rig.gateway.close_lease(token).spent_nanousd))
    closing.start()
    closing.join(0.3)
    assert not closed
    go_on.set()
    closing.join(10)
    request.join(10)
    assert closed == [0]


def test_slow_counts_of_tokens_hold_up_no_call_that_needs_none(model_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many are asked for: those for which there is no room wait, and are told so at last."""
    with served(model_url, wait_seconds=0.5) as rig:
        till, token = rig.gateway.till, rig.token()
        under_way, go_on = threading.Semaphore(0), threading.Event()

        def slow(_request: Any) -> int:
            under_way.release()
            go_on.wait(30)
            return 100

        monkeypatch.setattr(till.model, "count_tokens", slow)
        bound = till.contexts.bound
        uncounted = {**HELLO, "stop_sequences": ["no bytes here"]}

        def none_for_some(purse: str, body: Any, known: Any) -> int | None:
            return None if "stop_sequences" in body else bound(purse, body, known)

        monkeypatch.setattr(till.contexts, "bound", none_for_some)
        answers: list[Any] = []
        asking_all = [threading.Thread(target=lambda: answers.append(post(rig, uncounted, token))) for _ in range(30)]
        for each in asking_all:
            each.start()
        for _ in range(8):
            assert under_way.acquire(timeout=10)
        assert post(rig, HELLO, token).status_code == 200
        rig.wait_for(lambda: len(answers) == 22)
        assert {answer.status_code for answer in answers} == {503}
        assert "counts of tokens" in answers[0].json()["error"]["message"]
        assert int(answers[0].headers["retry-after"]) > 0
        go_on.set()
        for each in asking_all:
            each.join(30)
        assert [answer.status_code for answer in answers[22:]] == [200] * 8
        assert post(rig, uncounted, token).status_code == 200


def _quietly(admission: Any) -> None:
    try:
        asyncio.run(admission)
    except TurnkeeperError:
        return
