"""The gateway against clients that want more than is theirs, and a provider and a table that do odd things."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import json
import socket
import threading
import time
import tracemalloc
from collections.abc import AsyncIterator, Callable
from datetime import datetime, timedelta
from typing import Any

import botocore.auth
import httpx2
import pytest
from botocore.exceptions import MetadataRetrievalError
from hypothesis import given, settings
from hypothesis import strategies as st
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from tests.support.gateway import MODEL, Key, Rig, served
from tests.support.scripted_api import scripted
from tests.unit.gateway.test_gateway import ANSWER, HELLO, asking, post, seen_by
from tests.unit.gateway.test_pure import BODY, asked, values
from turnkeeper.adapters.prices import BundledPrices
from turnkeeper.core.errors import InvalidRequest, TurnkeeperError, Unavailable, UnpricedModel
from turnkeeper.core.ledger import bound_nanousd
from turnkeeper.gateway.asking import FIELDS
from turnkeeper.gateway.bounds import Contexts, beginnings_of
from turnkeeper.gateway.money import _sampled
from turnkeeper.gateway.provider import AnthropicProvider, BedrockProvider, Provider
from turnkeeper.testing.memory_table import MemoryTable
from turnkeeper_local.standin.serving import serving

# ---- bodies ----

odd = st.one_of(
    values,
    st.sampled_from(
        [
            10**400,
            -1,
            0,
            [],
            {},
            [{}],
            {"budget_tokens": "all"},
            {"budget_tokens": None},
            {"budget_tokens": 9e9},
            {"budget_tokens": True},
            {"edits": 5},
            {"edits": True},
            {"edits": {"type": "clear_"}},
            {"edits": [None]},
            [{"type": "web_search_20250305", "max_uses": 10**30}],
            [{"type": ["custom"]}],
            [{"cache_control": {"ttl": "1h"}}],
            "\ud800",
        ]
    ),
)


@settings(max_examples=400, deadline=None)
@given(st.dictionaries(st.sampled_from(sorted(FIELDS)), odd, max_size=4))
def test_whatever_is_in_a_body_it_is_read_priced_and_made_shorter_or_refused(more: dict[str, Any]) -> None:
    try:
        found = asked({**BODY, **more})
        rates = BundledPrices().rates(found.model, found.options)
        begins = beginnings_of(found.body, found.betas, changes=found.changes)
        bound = Contexts().bound("t", found.body, begins)
        shorter = found.clamped(1)
    except TurnkeeperError as error:
        assert len(str(error)) < 1_000
        return
    assert bound is None or bound > 0
    assert _sampled(1, found.server_tools) * rates.input_nanousd < 10**38  # What a number of the table holds.
    assert json.loads(shorter, parse_constant=pytest.fail)["max_tokens"] == 1


@pytest.mark.parametrize(
    "raw",
    [
        b'{"model":"m","max_tokens":1,"messages":[{}],"temperature":1e999}',
        b'{"model":"m","max_tokens":1,"messages":[{}],"thinking":{"budget_tokens":1e999}}',
        b'{"model":"m","max_tokens":1,"messages":[{}],"thinking":{"budget_tokens":"9"}}',
        b'{"model":"' + b"m" * 1_000 + b'","max_tokens":1,"messages":[{}]}',
        b'{"model":"m\\nlevel=error","max_tokens":1,"messages":[{}]}',
        b'{"model":"m","max_tokens":1,"messages":[{}],"' + b"x" * 100_000 + b'":1}',
        b'{"model":"m","max_tokens":1,"messages":[{}],"tools":[{"type":"tool_search_tool_bm25_20251119"}]}',
        b'{"model":"m","max_tokens":1,"messages":[{}],"tools":[{"type":"web_search_20260209","max_uses":1}]}',
        b'{"model":"m","max_tokens":1,"messages":[{}],"tools":[{"type":"web_fetch_latest","max_uses":1}]}',
    ],
)
def test_what_would_fail_later_or_cannot_be_bounded_is_refused_in_few_words(raw: bytes) -> None:
    with pytest.raises(InvalidRequest) as caught:
        asked(raw)
    assert len(str(caught.value)) < 400


def test_uses_of_a_tool_are_a_number_that_a_call_can_have() -> None:
    found = asked({**BODY, "tools": [{"type": "web_search_20250305", "name": "s", "max_uses": 10**30}]})
    with pytest.raises(UnpricedModel):
        BundledPrices().rates(found.model, found.options)


def test_a_search_that_is_called_by_the_model_alone_runs_as_often_as_it_says() -> None:
    tool = {"type": "web_search_20260209", "name": "s", "max_uses": 2, "allowed_callers": ["direct"]}
    assert [each.max_uses for each in asked({**BODY, "tools": [tool]}).server_tools] == [2]


def test_what_a_fetch_brings_is_read_again_after_each_use() -> None:
    tool = {"type": "web_fetch_20250910", "name": "f", "max_uses": 3, "max_content_tokens": 100_000}
    found = asked({**BODY, "tools": [tool]})
    most = sum(1_000 + use * 100_000 for use in range(4))
    assert _sampled(1_000, found.server_tools) >= most


def test_tools_of_any_size_are_priced_and_forgotten() -> None:
    prices = BundledPrices()

    def call(number: int) -> None:
        tools = [{"name": f"t{number}_{each}", "description": "d" * 1_000, "input_schema": {}} for each in range(100)]
        found = asked({**BODY, "tools": tools})
        prices.rates(found.model, found.options)
        prices.cost_nanousd(found.model, {"input_tokens": 1, "output_tokens": 1}, found.options)

    call(0)
    tracemalloc.start()
    for number in range(20):
        call(number)
    kept, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert kept < 500_000


# ---- what bounds a call ----

PAGE = {"type": "document", "source": {"type": "url", "url": "https://example.com/a.pdf"}}
THOUGHT = {"type": "thinking", "thinking": "hm " * 10_000, "signature": "s"}
USE = {"type": "tool_use", "id": "t1", "name": "n", "input": {}}
RESULT = {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t1", "content": "ok"}]}


def test_a_page_that_grows_between_its_count_and_its_call_is_set_aside_in_full() -> None:
    """Its owner may be the client. Neither a count nor what it was before says how much the model will read."""

    def answer() -> Response:
        return JSONResponse({"input_tokens": 10})

    seen: list[str] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        request = Request(scope, receive)
        await request.body()
        seen.append(request.url.path)
        await (answer() if "count" in request.url.path else JSONResponse(ANSWER))(scope, receive, send)

    body = {**BODY, "messages": [{"role": "user", "content": [PAGE]}]}
    with serving(app) as url, served(url, tenant_monthly=10**12) as rig:
        for _ in "12":
            assert post(rig, body).status_code == 200
        rates = rig.gateway.till.prices.rates(MODEL, {})
        assert rates.window is not None
        least = bound_nanousd(rates.window, 0, rates.input_nanousd, 0, 0)
        assert all(call["amount_nanousd"] >= least for call in rig.calls())
        rig.till.tenants.set("acme", actor="ops", caps={"tenant_monthly": 10**7})
        assert post(rig, body).status_code == 402


def test_thoughts_that_were_left_out_of_one_call_are_read_by_another() -> None:
    """The turn is over in the first call, so its thoughts are not read; in the second one it goes on."""
    contexts = Contexts()
    turn = [{"role": "user", "content": "do"}, {"role": "assistant", "content": [THOUGHT, USE]}, RESULT]
    over = {**BODY, "messages": [*turn, {"role": "assistant", "content": "done"}, {"role": "user", "content": "next"}]}
    contexts.learn("t", over, beginnings_of(over, ()), 600)
    goes_on = {**BODY, "messages": turn}
    bound = contexts.bound("t", goes_on, beginnings_of(goes_on, ()))
    assert bound is not None and bound > 10_000
    more = {**over, "messages": [*over["messages"], {"role": "assistant", "content": "yes"}, BODY["messages"][0]]}
    bound = contexts.bound("t", more, beginnings_of(more, ()))
    assert bound is not None and bound < 1_000


def test_what_was_summarized_in_one_call_is_read_by_another() -> None:
    contexts = Contexts()
    long = [{"role": "user", "content": "long " * 10_000}]
    summary = {"role": "assistant", "content": [{"type": "compaction", "content": "it was long"}]}
    summed = {**BODY, "messages": [*long, summary, *BODY["messages"]]}
    contexts.learn("t", summed, beginnings_of(summed, ()), 50)
    plain = {**BODY, "messages": [*long, {"role": "assistant", "content": "yes"}, *BODY["messages"]]}
    bound = contexts.bound("t", plain, beginnings_of(plain, ()))
    assert bound is not None and bound > 50_000


def test_a_tool_that_was_not_read_yet_may_be_read_now() -> None:
    contexts = Contexts()
    tool = {"name": "n", "description": "word " * 10_000, "input_schema": {}, "defer_loading": True}
    first = {**BODY, "tools": [tool]}
    contexts.learn("t", first, beginnings_of(first, ()), 500)
    found = {"type": "tool_result", "tool_use_id": "t1", "content": [{"type": "tool_reference", "tool_name": "n"}]}
    then = {**first, "messages": [*BODY["messages"], {"role": "user", "content": [found]}]}
    bound = contexts.bound("t", then, beginnings_of(then, ()))
    assert bound is not None and bound > 50_000


# ---- requests ----


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


# ---- the provider ----

USED: dict[str, Any] = {"input_tokens": 7, "output_tokens": 3}
FULL, NOTHING = "in_doubt", "voided"


@pytest.mark.parametrize(
    ("answer", "state"),
    [
        (lambda: Response("<html>hello</html>", 200, media_type="text/html"), FULL),
        (lambda: Response("", 302, {"location": "https://example.com/v1/messages"}), NOTHING),
        (lambda: Response(b"", 204), FULL),
        (lambda: JSONResponse({**ANSWER, "usage": {"output_tokens": 3}}), FULL),
        (lambda: JSONResponse({**ANSWER, "usage": {"input_tokens": 3}}), FULL),
        (lambda: JSONResponse({**ANSWER, "usage": {"input_tokens": None, "output_tokens": 3}}), FULL),
        (lambda: JSONResponse({**ANSWER, "usage": {**USED, "service_tier": ["x"]}}), FULL),
        (lambda: JSONResponse({**ANSWER, "usage": {**USED, "iterations": "x"}}), FULL),
        (lambda: JSONResponse({"type": "error", "error": {"type": "overloaded_error"}}), FULL),
        (lambda: JSONResponse(ANSWER, headers={"request-id": "r" * 20_000}), "settled"),
        (
            lambda: Response(
                b'data: {"type":"message_delta","delta":{},"usage":{"output_tokens":3}}\n\n',
                media_type="text/event-stream",
            ),
            FULL,
        ),
        (
            lambda: Response(
                b'data: {"type":"message_start","message":{"usage":{"input_tokens":5,"output_tokens":1}}}\n\n'
                b'data: {"type":"error","error":{"type":"overloaded_error"}}\n\n',
                media_type="Text/Event-Stream",
            ),
            FULL,
        ),
    ],
)
def test_what_an_odd_answer_costs(answer: Callable[[], Response], state: str) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await answer()(scope, receive, send)

    with serving(app) as url, served(url) as rig:
        post(rig, asking("hello", stream=True))
        rig.wait_for(lambda: not rig.calls("pending"))
        [call] = rig.calls()
        assert (call["state"], len(call["request_id"] or "")) <= (state, 200)
        assert call["state"] == state
        rig.books().check_at_rest()


@pytest.mark.parametrize("status", [200, 400])
@pytest.mark.parametrize("streams", [False, True])
def test_an_answer_that_comes_compressed_is_read_and_told_plainly(status: int, streams: bool) -> None:
    """As some proxies do, whatever was asked of them."""
    events = (
        b'data: {"type":"message_start","message":{"usage":{"input_tokens":7,"output_tokens":1}}}\n\n'
        b'data: {"type":"message_delta","delta":{},"usage":{"output_tokens":3}}\n\n'
    )
    plain, kind = (events, "text/event-stream") if streams else (json.dumps(ANSWER).encode(), "application/json")

    def answer() -> Response:
        return Response(gzip.compress(plain), status, {"content-encoding": "gzip"}, media_type=kind)

    _, app = seen_by(answer)
    with serving(app) as url, served(url) as rig:
        assert post(rig, asking("hello", stream=streams)).content == plain
        rig.wait_for(lambda: not rig.calls("pending"))
        assert [call["state"] for call in rig.calls()] == ["settled" if status == 200 else NOTHING]


class OtherKey(Key):
    def __init__(self, text: str) -> None:
        self.text = text

    def __call__(self) -> str:
        return self.text


def broken_refusal(connection: socket.socket) -> None:
    connection.sendall(b"HTTP/1.1 529 Busy\r\ncontent-length: 100\r\n\r\n{")


@pytest.mark.parametrize(
    "provider",
    [
        lambda: AnthropicProvider(Key(), "api.example.com"),
        lambda: AnthropicProvider(Key(), "ftp://127.0.0.1"),
        lambda: AnthropicProvider(Key(), "http://a:b"),
        lambda: AnthropicProvider(OtherKey("sk-\u4e2d"), "http://127.0.0.1:1"),
        lambda: BedrockProvider("http://127.0.0.1:1"),
        lambda: BedrockProvider("http://a:b"),
        lambda: BedrockProvider("ftp://127.0.0.1"),
    ],
)
def test_what_was_certainly_not_sent_costs_nothing(provider: Callable[[], Provider], aws_credentials: None) -> None:
    """However long the operator does not see that the address is wrong, no cap is used up by it."""
    with served("http://127.0.0.1:1", provider=provider) as rig:
        assert post(rig, HELLO).status_code == 502
        assert post(rig, {**HELLO, "stream": True}).status_code == 502
        assert [call["state"] for call in rig.calls()] == [NOTHING, NOTHING]
        assert "\u4e2d" not in str(rig.calls())


@pytest.mark.parametrize("error", [RuntimeError("no credentials"), MetadataRetrievalError(error_msg="away")])
def test_what_cannot_be_signed_costs_nothing(
    error: Exception, aws_credentials: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_: Any, **__: Any) -> Any:
        raise error

    monkeypatch.setattr(botocore.auth.SigV4Auth, "add_auth", away)
    with served("http://127.0.0.1:1", provider=lambda: BedrockProvider("http://127.0.0.1:1")) as rig:
        assert post(rig, HELLO).status_code == 502
        assert [call["state"] for call in rig.calls()] == [NOTHING]


def test_a_refusal_of_bedrocks_that_breaks_off_costs_nothing(aws_credentials: None) -> None:
    with scripted(broken_refusal) as api, served(api.url, provider=lambda: BedrockProvider(api.url)) as rig:
        assert post(rig, {**HELLO, "stream": True}).status_code == 502
        assert [call["state"] for call in rig.calls()] == [NOTHING]


def test_a_process_that_waits_long_for_an_answer_says_that_it_lives() -> None:
    alive: list[timedelta] = []
    holds: list[Rig] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await asyncio.sleep(2.0)
        [rig] = holds
        assert isinstance(rig.table, MemoryTable)
        [beat] = [item for item in rig.table.snapshot() if "alive_until" in item]
        [call] = rig.calls("pending")
        alive.append(datetime.fromisoformat(beat["alive_until"]) - datetime.fromisoformat(call["at"]))
        await JSONResponse(ANSWER)(scope, receive, send)

    with serving(app) as url, served(url, lease_seconds=0.3) as rig:
        holds.append(rig)
        assert post(rig, HELLO).status_code == 200
    assert alive[0] > timedelta(seconds=1.5)


class Breaking:
    """An answer whose connection does not close well."""

    def __init__(self, status: int, broken: bool) -> None:
        self.status, self.broken = status, broken
        self.headers = {"content-type": "application/json"}

    async def chunks(self) -> AsyncIterator[bytes]:
        yield json.dumps(ANSWER).encode()
        if self.broken:
            raise RuntimeError("a fault of the client library")

    async def close(self) -> None:
        raise RuntimeError("the connection is gone")


@pytest.mark.parametrize(
    ("status", "broken", "state"),
    [(200, False, "settled"), (200, True, FULL), (529, False, NOTHING), (529, True, NOTHING)],
)
def test_whatever_breaks_a_call_is_resolved(status: int, broken: bool, state: str) -> None:
    class Provider:
        async def ask(self, path: str, asked: Any, body: bytes) -> Breaking:
            return Breaking(status, broken)

        async def close(self) -> None:
            pass

    with served("http://127.0.0.1:9", provider=Provider) as rig:
        with contextlib.suppress(httpx2.HTTPError):
            post(rig, HELLO)
        rig.wait_for(lambda: not rig.calls("pending"), 5)
        assert [call["state"] for call in rig.calls()] == [state]
        assert rig.gateway._open == 0
        rig.books().check_at_rest()


# ---- the table ----


class Away(MemoryTable):
    """Takes no write while it is away."""

    away = False
    #: Takes one more, but its answer is lost.
    goes_after_next = False

    def write(self, operations: Any) -> Any:
        if not self.away:
            done = super().write(operations)
            if not self.goes_after_next:
                return done
            self.away = True
        raise Unavailable("the table is away", retry_after_seconds=1)


def test_a_client_has_its_answer_while_the_table_is_away_and_the_money_follows() -> None:
    table = Away()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        table.away = True
        await JSONResponse(ANSWER)(scope, receive, send)

    with serving(app) as url, served(url, table=table) as rig:
        token = rig.token()
        assert post(rig, HELLO, token).json() == ANSWER
        assert len(rig.calls("pending")) == 1
        assert post(rig, HELLO, token).status_code == 503
        assert len(rig.calls()) == 1
        table.away = False
        rig.wait_for(lambda: bool(rig.calls("settled")))
        rig.books().check_at_rest()


def test_what_was_set_aside_as_the_table_went_away_is_given_back_in_full(model_url: str) -> None:
    table = Away()
    with served(model_url, table=table, lease_seconds=0.3) as rig:
        token = rig.token()
        assert post(rig, HELLO, token).status_code == 200
        table.goes_after_next = True
        assert post(rig, HELLO, token).status_code == 503
        assert len(rig.calls("pending")) == 1
        table.away = table.goes_after_next = False
        time.sleep(0.2)
        assert post(rig, HELLO, token).status_code == 200
        rig.wait_for(lambda: not rig.calls("pending"))
        assert [call["state"] for call in rig.calls()] == ["settled", "voided", "settled"]
        rig.books().check_at_rest()
