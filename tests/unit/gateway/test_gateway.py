"""The gateway as clients see it, with the real SDK, the stand-in behind it and a table in memory."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import socket
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import anthropic
import httpx2
import pytest
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from tests.support.gateway import MODEL, REAL_KEY, Rig, served
from tests.support.money import TENANT
from tests.support.scripted_api import amazon_event, answer, scripted, stream
from turnkeeper.adapters.prices import BundledPrices
from turnkeeper.core.errors import CostCapExceeded, LeaseLost
from turnkeeper.gateway.provider import BedrockProvider
from turnkeeper.runtime.store import keys
from turnkeeper.table import Key, Update
from turnkeeper_local.standin.serving import serving

#: A dollar, in nano-dollars.
USD = 10**9
HELLO: dict[str, Any] = {"model": MODEL, "max_tokens": 100, "messages": [{"role": "user", "content": "[[say hello]]"}]}


def asking(text: str, **more: Any) -> dict[str, Any]:
    return {**HELLO, "messages": [{"role": "user", "content": text}], **more}


def post(rig: Rig, body: Any, token: str | None = None, path: str = "/v1/messages", **headers: str) -> httpx2.Response:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return httpx2.post(
        rig.url + path, content=content, headers={"x-api-key": token or rig.token(), **headers}, timeout=30
    )


def cost_of(usage: Any) -> int:
    return BundledPrices().cost_nanousd(MODEL, usage.model_dump(exclude_none=True), {})


# ---- what goes through ----


@pytest.mark.parametrize("streams", [False, True])
def test_a_call_is_answered_as_the_model_answers_and_costs_what_its_usage_says(rig: Rig, streams: bool) -> None:
    client = rig.client()
    if streams:
        with client.messages.stream(**HELLO) as stream:
            assert "".join(stream.text_stream) == "hello"
            message = stream.get_final_message()
    else:
        message = client.messages.create(**HELLO)
    assert message.content[0].to_dict()["text"] == "hello"
    rig.wait_for(lambda: not rig.calls("pending"))
    [call] = rig.calls("settled")
    assert call["spent_nanousd"] == cost_of(message.usage) > 0
    assert call["usage"]["output_tokens"] == message.usage.output_tokens
    assert call["request_id"].startswith("req_") and "turnkeeper" not in call["request_id"]
    assert {"user": "ann", "model": MODEL, "via": "gateway"}.items() <= call.items()
    books = rig.books()
    books.check()
    books.check_at_rest()


def seen_by(answer: Callable[[], Response]) -> tuple[list[dict[str, Any]], Callable[..., Awaitable[None]]]:
    """A model API that answers like this, and what it was sent."""
    seen: list[dict[str, Any]] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        request = Request(scope, receive)
        body = await request.body()
        seen.append({"headers": dict(request.headers), "body": body, "query": request.url.query})
        await answer()(scope, receive, send)

    return seen, app


ANSWER = {
    "id": "msg_1", "type": "message", "role": "assistant", "model": MODEL, "content": [{"type": "text", "text": "ok"}],
    "stop_reason": "end_turn", "stop_sequence": None, "usage": {"input_tokens": 7, "output_tokens": 3},
}  # fmt: skip


def test_bytes_go_on_as_they_came_with_the_real_key_and_no_other_header() -> None:
    raw = b'{ "messages" : [{"role":"user","content":"h\\u0069"}],\n "max_tokens": 10, "model": "claude-sonnet-5-5" }'
    seen, app = seen_by(lambda: JSONResponse(ANSWER, headers={"anthropic-organization-id": "org", "request-id": "r1"}))
    with serving(app) as url, served(url) as rig:
        answer = post(
            rig,
            raw,
            **{
                "anthropic-beta": "claude-code-20250219, context-1m-2025-08-07,made-up-2026-01-01",
                "anthropic-version": "2023-06-01",
                "cookie": "a=b",
                "x-claude-code-session-id": "s-1",
                "content-type": "text/plain",
            },
        )
        [call] = rig.calls()
    assert answer.json() == ANSWER
    assert "anthropic-organization-id" not in answer.headers
    assert answer.headers["request-id"] == call["request_id"] == "r1"
    [sent] = seen
    assert sent["body"] == raw
    assert call["body_sha256"] == hashlib.sha256(raw).hexdigest()
    assert call["hint_session"] == "s-1"
    known = {"host", "accept", "user-agent", "connection", "content-length"}
    assert {name: value for name, value in sent["headers"].items() if name not in known} == {
        "x-api-key": REAL_KEY,
        "content-type": "application/json",
        "anthropic-version": "2023-06-01",
        "anthropic-beta": "claude-code-20250219,context-1m-2025-08-07",
        "accept-encoding": "identity",
    }


@pytest.mark.parametrize("other", ["Bearer", "Bearer sk-ant-of-the-clients-own", "Basic YTpi"])
def test_a_token_is_known_whatever_else_the_client_sends(rig: Rig, other: str) -> None:
    token = rig.token()
    assert post(rig, HELLO, token, authorization=other).status_code == 200
    assert post(rig, HELLO, "sk-ant-of-the-clients-own", authorization=f"Bearer {token}").status_code == 200
    assert post(rig, HELLO, "sk-ant-of-the-clients-own", authorization=other).status_code == 401


def test_tokens_are_counted_without_money(rig: Rig) -> None:
    assert rig.client().messages.count_tokens(model=MODEL, messages=[{"role": "user", "content": "hi"}]).input_tokens
    assert rig.calls() == []


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "/v1/messages"), ("GET", "/v1/models"), ("POST", "/v1/messages/batches"), ("POST", "/v1/complete"),
     ("HEAD", "/"), ("DELETE", "/v1/messages")],
)  # fmt: skip
def test_nothing_else_is_there(rig: Rig, method: str, path: str) -> None:
    answer = httpx2.request(method, rig.url + path, headers={"x-api-key": rig.token()})
    assert answer.status_code == 404


# ---- who may ----


def test_who_shows_no_token_of_ours_gets_nothing(rig: Rig) -> None:
    good = rig.token()
    head, tail = good.rsplit(".", 1)
    for bad in (
        "sk-ant-1",
        "tkgw.a.b",
        f"{head}.{tail[:-1]}",
        f"{head}.{tail}x",
        good.replace("tkgw", "tkgl"),
        "tkgw...",
    ):
        answer = post(rig, HELLO, bad)
        assert (answer.status_code, answer.json()["error"]["type"]) in {
            (401, "authentication_error"),
            (403, "permission_error"),
        }
    assert rig.calls() == []


def test_a_revoked_token_admits_nothing_though_it_was_just_used(rig: Rig) -> None:
    token = rig.token()
    client = rig.client(token)
    client.messages.create(**HELLO)
    [known] = rig.till.tokens.all()
    rig.till.tokens.revoke(known, actor="ops")
    with pytest.raises(anthropic.PermissionDeniedError):
        client.messages.create(**HELLO)
    assert len(rig.calls()) == 1
    records = rig.till.sessions.audit(TENANT, None)
    assert [record["detail"]["action"] for record in records] == ["gateway_token", "gateway_token_revoked"]
    assert token.rsplit(".", 1)[1] not in json.dumps(records)


def test_an_expired_token_admits_nothing(rig: Rig) -> None:
    client = rig.client(rig.token(valid=timedelta(seconds=1.5)))
    client.messages.create(**HELLO)
    time.sleep(1.6)
    with pytest.raises(anthropic.PermissionDeniedError, match="expired"):
        client.messages.create(**HELLO)


def test_the_kill_switch_holds_for_the_very_next_call(rig: Rig) -> None:
    client = rig.client()
    client.messages.create(**HELLO)
    rig.till.tenants.set(TENANT, actor="ops", paused=True)
    for call in (client.messages.create, client.messages.count_tokens):
        asked = {name: value for name, value in HELLO.items() if name != "max_tokens" or call == client.messages.create}
        with pytest.raises(anthropic.PermissionDeniedError, match="paused"):
            call(**asked)
    rig.till.tenants.set(TENANT, actor="ops", paused=False)
    assert client.messages.create(**HELLO).content


# ---- money ----


def test_where_the_money_is_spent_a_client_stops_at_once_and_is_told_why(model_url: str) -> None:
    with served(model_url, user_daily=USD // 100) as rig:
        client = rig.client(max_retries=5)
        with pytest.raises(anthropic.APIStatusError) as caught:
            for _ in range(50):
                client.messages.create(**asking("[[tokens 100]] [[say much]]"))
        rig.till.tenants.set(TENANT, actor="ops", caps={"user_daily": USD})
        assert client.messages.create(**HELLO).content
        books = rig.books()
    error = caught.value
    assert error.status_code == 402
    assert error.response.headers["x-should-retry"] == "false"
    assert error.body["error"]["type"] == "billing_error"  # type: ignore[index]
    told = str(error.body["error"]["message"])  # type: ignore[index]
    assert all(word in told for word in ("scope user_daily", "limit 0.010000", "spent 0.0", "turnkeeper tenant set"))
    books.check()
    books.check_at_rest()
    assert not books.over(rig.till.tenants.terms(TENANT).caps, books.calls)


def test_an_answer_is_made_shorter_where_that_is_all_that_is_left() -> None:
    seen, app = seen_by(lambda: JSONResponse(ANSWER))
    with serving(app) as url, served(url, tenant_monthly=USD // 10) as rig:
        thinking = {"type": "enabled", "budget_tokens": 20_000}
        answer = post(rig, asking("hello", max_tokens=32_000, thinking=thinking))
        [call] = rig.calls()
    assert answer.status_code == 200
    sent = json.loads(seen[-1]["body"])  # Before that, its tokens were counted.
    assert sent["max_tokens"] == call["max_tokens"] < 32_000
    assert sent["thinking"]["budget_tokens"] < sent["max_tokens"]
    assert call["body_sha256"] == hashlib.sha256(seen[-1]["body"]).hexdigest()


def test_money_in_flight_is_waited_for_and_then_told_as_such(model_url: str) -> None:
    """Room for one call at a time. Who waits long enough is let through; who does not is told to come again."""
    slow, quick = asking("[[sleep 2]] [[say slow]]", max_tokens=1_000), asking("[[say quick]]", max_tokens=1_000)
    with served(model_url, wait_seconds=0.2, tenant_monthly=2 * 10**7) as rig:
        rig.till.tenants.set(TENANT, actor="ops", shards=1)
        token = rig.token()

        async def both() -> tuple[Any, Any]:
            client = anthropic.AsyncAnthropic(auth_token=token, api_key=None, base_url=rig.url, max_retries=0)
            first = asyncio.create_task(client.messages.create(**slow))
            await asyncio.sleep(0.7)
            with pytest.raises(anthropic.RateLimitError) as caught:
                await client.messages.create(**quick)
            return await first, caught.value

        _, refused = asyncio.run(both())
        assert int(refused.response.headers["retry-after"]) > 0
        rig.gateway.till.wait_seconds = 10.0

        async def patient() -> list[Any]:
            client = anthropic.AsyncAnthropic(auth_token=token, api_key=None, base_url=rig.url, max_retries=0)
            return await asyncio.gather(
                client.messages.create(**slow), *(client.messages.create(**quick) for _ in "123")
            )

        assert len(asyncio.run(patient())) == 4
        waited = [call.get("waited_ms", 0) for call in rig.calls("settled")]
    assert sum(ms > 0 for ms in waited) >= 2


@pytest.mark.parametrize(
    ("text", "state", "status"),
    [
        ("[[fail 529]] [[say x]]", "voided", 529),
        ("[[fail 400]] [[say x]]", "voided", 400),
        ("[[cut]] [[say a long answer that breaks in its middle]]", "in_doubt", 200),
    ],
)
def test_what_a_failed_call_costs(rig: Rig, text: str, state: str, status: int) -> None:
    """docs/decisions/0003. The provider's own refusal goes back as it is."""
    broke = False
    try:
        answer = post(rig, asking(text, stream=True))
    except httpx2.RemoteProtocolError:
        broke = True
    else:
        assert answer.status_code == status
        assert answer.json()["type"] == "error" and "turnkeeper" not in answer.text
    assert broke == (state == "in_doubt")
    rig.wait_for(lambda: not rig.calls("pending"))
    [call] = rig.calls(state)
    assert call["spent_nanousd"] == (call["amount_nanousd"] if state == "in_doubt" else 0)
    rig.books().check_at_rest()


def test_each_attempt_of_a_client_is_a_reservation_of_its_own(rig: Rig) -> None:
    assert rig.client(max_retries=2).messages.create(**asking("[[fail 529 x2]] [[say at last]]")).content
    assert [call["state"] for call in rig.calls()] == ["voided", "voided", "settled"]


def test_nobody_at_the_other_end_costs_nothing(model_url: str) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        nowhere = f"http://127.0.0.1:{probe.getsockname()[1]}"
        with served(nowhere) as rig:
            assert post(rig, HELLO).status_code == 502
            [call] = rig.calls("voided")
    assert call["spent_nanousd"] == 0


@pytest.mark.parametrize("streams", [False, True])
def test_an_answer_is_read_on_to_its_usage_when_the_client_leaves(rig: Rig, streams: bool) -> None:
    body = json.dumps(asking("[[trickle 1.5]] [[say a long answer that takes its time]]", stream=streams)).encode()
    address = rig.url.removeprefix("http://").split(":")
    with socket.create_connection((address[0], int(address[1]))) as client:
        head = (
            f"POST /v1/messages HTTP/1.1\r\nhost: x\r\nx-api-key: {rig.token()}\r\ncontent-length: {len(body)}\r\n\r\n"
        )
        client.sendall(head.encode() + body)
        rig.wait_for(lambda: bool(rig.calls("pending")))
        time.sleep(0.3)
    rig.wait_for(lambda: bool(rig.calls("settled")))
    [call] = rig.calls()
    assert 0 < call["spent_nanousd"] < call["amount_nanousd"]


def test_who_leaves_while_it_waits_takes_no_money(model_url: str) -> None:
    with served(model_url, tenant_monthly=2 * 10**7, wait_seconds=60) as rig:
        token = rig.token()

        async def impatient() -> None:
            client = anthropic.AsyncAnthropic(auth_token=token, api_key=None, base_url=rig.url, max_retries=0)
            first = asyncio.create_task(client.messages.create(**asking("[[sleep 2]] [[say slow]]", max_tokens=1_000)))
            await asyncio.sleep(0.5)
            with pytest.raises(anthropic.APITimeoutError):
                await client.with_options(timeout=0.3).messages.create(**asking("[[say quick]]", max_tokens=1_000))
            await first
            await asyncio.sleep(0.5)

        asyncio.run(impatient())
        assert [call["state"] for call in rig.calls()] == ["settled"]


def test_what_the_sweep_doubted_stays_in_doubt(rig: Rig) -> None:
    """A process that was silent for too long, and then was not dead after all."""
    call = rig.till.spend(rig.till.mint().purse, want_of(rig))
    [item] = rig.calls("pending")
    assert rig.till.purses.left_behind(item)  # It never said that it lives.
    rig.till.purses.beat()
    assert not rig.till.purses.left_behind(item)
    assert rig.till.purses.doubt(item)
    assert not rig.till.resolve(call, 1)
    [doubted] = rig.calls("in_doubt")
    assert doubted["spent_nanousd"] == doubted["amount_nanousd"]
    assert "due_shard" not in doubted
    rig.books().check_at_rest()


def want_of(rig: Rig) -> Any:
    from turnkeeper.runtime.store.holders import Want

    return Want(rig.gateway.till.prices.rates(MODEL, {}), 100, 100)


# ---- Bedrock ----


def test_bedrock_answers_in_the_apis_words(aws_credentials: None) -> None:
    """Its streams have the same events; its refusals are errors as the API has them; its usage is settled."""
    usage = {"input_tokens": 25, "output_tokens": 42}
    script = (
        stream([b"".join(amazon_event(event) for event in EVENTS)]),
        stream([amazon_event(EVENTS[0])]),
        answer(200, ANSWER),
        answer(429, {"message": "Too many tokens"}),
    )
    with scripted(*script) as api, served(api.url, provider=lambda: BedrockProvider(api.url)) as rig:
        client = rig.client()
        with client.messages.stream(**HELLO) as told:
            assert "".join(told.text_stream) == "Hello"
            final = told.get_final_message().usage
            assert {name: getattr(final, name) for name in usage} == usage
        assert post(rig, {**HELLO, "stream": True}).text.startswith("event: message_start\ndata: {")
        assert client.messages.create(**HELLO).content[0].to_dict()["text"] == "ok"
        with pytest.raises(anthropic.RateLimitError, match="Too many tokens"):
            client.messages.create(**HELLO)
        with pytest.raises(anthropic.BadRequestError, match="Bedrock has no"):
            client.messages.create(**{**HELLO, "model": "claude-opus-4-1"})
        rig.wait_for(lambda: not rig.calls("pending"))
        assert [call["state"] for call in rig.calls()] == ["settled", "in_doubt", "settled", "voided", "voided"]
        assert api.seen[0].line.split()[1] == f"/model/global.anthropic.{MODEL}/invoke-with-response-stream"
        assert api.seen[2].line.split()[1] == f"/model/global.anthropic.{MODEL}/invoke"
        assert api.seen[0].headers["authorization"].startswith("AWS4-HMAC-SHA256")


EVENTS: list[dict[str, Any]] = [
    {"type": "message_start", "message": {**ANSWER, "content": [], "usage": {"input_tokens": 25, "output_tokens": 1}}},
    {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
    {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Hello"}},
    {"type": "content_block_stop", "index": 0},
    {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 42}},
    {"type": "message_stop"},
]  # fmt: skip


# ---- leases ----


def test_a_session_spends_its_own_money_while_its_runner_has_it(rig: Rig) -> None:
    head = rig.till.new_head("ses-1", "ann", agent="coder", task_usd="0.01")
    rig.till.open(head)
    token = rig.gateway.lease_token(head)
    message = rig.client(token).messages.create(**HELLO)
    spent = rig.gateway.spent(head)
    assert (spent.spent_nanousd, spent.calls) == (cost_of(message.usage), 1)
    assert spent.usage.output_tokens == message.usage.output_tokens
    [call] = rig.gateway.calls_since(head)
    assert (call["agent"], call["user"]) == ("coder", "ann")
    assert rig.gateway.calls_since(head, call["call"]) == []
    assert rig.gateway.refusal(token) is None
    with pytest.raises(anthropic.APIStatusError):
        for _ in range(20):
            rig.client(token).messages.create(**asking("[[tokens 100]] [[say much]]"))
    refused = rig.gateway.refusal(token)
    assert isinstance(refused, CostCapExceeded)
    assert (refused.scope, refused.data["limit_usd"]) == ("task", "0.010000")
    # A smaller call, as another of the session's agents may make it, still fits; that does not make it forgotten.
    with contextlib.suppress(anthropic.APIStatusError):
        rig.client(token).messages.create(**{**HELLO, "max_tokens": 1})
    assert rig.gateway.refusal(token) is refused
    assert rig.gateway.close_lease(token).spent_nanousd <= USD // 100
    with pytest.raises(anthropic.PermissionDeniedError):
        rig.client(token).messages.create(**HELLO)


@pytest.mark.parametrize("what", [{"fencing_token": 2}, {"lease_owner": "another"}, {"cancel_requested": True}])
def test_who_lost_the_lease_or_was_cancelled_makes_no_call(rig: Rig, what: dict[str, Any]) -> None:
    head = rig.till.new_head("ses-1")
    rig.till.open(head)
    token = rig.gateway.lease_token(head)
    rig.client(token).messages.create(**HELLO)
    rig.table.write([Update(Key(keys.session_pk(TENANT, "ses-1"), "HEAD"), set=what)])
    with pytest.raises(anthropic.PermissionDeniedError):
        rig.client(token).messages.create(**HELLO)
    assert isinstance(rig.gateway.refusal(token), LeaseLost)
    assert len(rig.calls()) == 1
    renewed = replace(head, lease=replace(head.lease, fencing_token=2))
    if what == {"fencing_token": 2}:
        again = rig.gateway.lease_token(renewed)
        assert rig.client(again).messages.create(**HELLO).content
        assert rig.gateway.close_lease(again).calls == 2


def test_the_end_of_a_lease_waits_for_its_calls(rig: Rig) -> None:
    head = rig.till.new_head("ses-1")
    rig.till.open(head)
    token = rig.gateway.lease_token(head)

    async def leaving() -> Any:
        client = anthropic.AsyncAnthropic(auth_token=token, api_key=None, base_url=rig.url, max_retries=0)
        call = asyncio.create_task(client.messages.create(**asking("[[sleep 1]] [[say late]]")))
        await asyncio.to_thread(rig.wait_for, lambda: bool(rig.calls("pending")))
        await asyncio.sleep(0.2)
        spent = await asyncio.to_thread(rig.gateway.close_lease, token)
        return spent, await call

    spent, message = asyncio.run(leaving())
    assert (spent.spent_nanousd, spent.reserved_nanousd) == (cost_of(message.usage), 0)
