"""A provider and a table that do odd things: what a call costs then, and that each is resolved."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import json
import socket
import time
from collections.abc import AsyncIterator, Callable
from datetime import datetime, timedelta
from typing import Any

import botocore.auth
import httpx2
import pytest
from botocore.exceptions import MetadataRetrievalError
from starlette.responses import JSONResponse, Response

from tests.support.gateway import Key, Rig, served
from tests.support.scripted_api import scripted
from tests.unit.gateway.test_gateway import ANSWER, HELLO, asking, post, seen_by
from turnkeeper.core.errors import Unavailable
from turnkeeper.gateway.provider import AnthropicProvider, BedrockProvider, Provider
from turnkeeper.testing.memory_table import MemoryTable
from turnkeeper_local.standin.serving import serving

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
