"""A stream is opened as the SDK's own client opens it: the same request, the same errors."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import anthropic
import httpx2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from turnkeeper.adapters.anthropic_requests import MessageStreams

Answering = Callable[[httpx2.Request], httpx2.Response]
EVENT = b'event: message_stop\ndata: {"type": "message_stop"}\n\n'


def client_of(answer: Answering, url: str = "https://api.anthropic.com") -> anthropic.Anthropic:
    http = httpx2.Client(transport=httpx2.MockTransport(answer))
    return anthropic.Anthropic(api_key="sk-test", base_url=url, http_client=http, max_retries=0)


def by_the_sdk(client: anthropic.Anthropic, path: str, content: bytes, options: Any) -> anthropic.Stream[object]:
    return client.post(
        path,
        cast_to=object,
        content=content,
        options=options,
        stream=True,
        stream_cls=anthropic.Stream[object],
    )


_SECONDS = st.floats(0.1, 100) | st.just(5.0)


@given(
    url=st.sampled_from(["https://api.anthropic.com", "http://127.0.0.1:8080/under/", "http://a_b.test"]),
    path=st.sampled_from(["/v1/messages", "/v1/messages?beta=true"]),
    betas=st.none() | st.text("abc-1,", min_size=1),
    seconds=st.lists(st.tuples(_SECONDS, _SECONDS, st.binary()), min_size=1, max_size=3),
)
def test_the_same_is_sent_as_by_the_sdk(
    url: str, path: str, betas: str | None, seconds: list[tuple[float, float, bytes]]
) -> None:
    sent: list[httpx2.Request] = []

    def answer(request: httpx2.Request) -> httpx2.Response:
        sent.append(request)
        return httpx2.Response(200, content=EVENT)

    client = client_of(answer, url)
    streams = MessageStreams(client)
    for connect, read, content in seconds:
        timeout = httpx2.Timeout(connect=connect, read=read, write=read, pool=connect)
        options = {"timeout": timeout, "headers": {"anthropic-beta": betas} if betas else {}}
        for opened in (streams.open(path, content, options), by_the_sdk(client, path, content, options)):
            assert list(opened) == [{"type": "message_stop"}]
        ours, theirs = sent[-2:]
        assert (ours.method, ours.url, ours.read()) == (theirs.method, theirs.url, theirs.read())
        assert ours.extensions == theirs.extensions
        assert sorted(ours.headers.raw) == sorted(theirs.headers.raw)


def _raises(error: Exception) -> Answering:
    def answer(request: httpx2.Request) -> httpx2.Response:
        raise error

    return answer


def _refuses(status: int, body: bytes = b"{}") -> Answering:
    return lambda _: httpx2.Response(status, content=body, headers={"request-id": "req_1"})


@pytest.mark.parametrize(
    "answer",
    [
        *map(_refuses, (302, 400, 401, 403, 404, 409, 413, 422, 429, 500, 503, 529)),
        _refuses(400, json.dumps({"type": "error", "error": {"type": "invalid", "message": "why"}}).encode()),
        _refuses(502, b"<html>"),
        *map(_raises, (httpx2.ConnectError("no"), httpx2.ConnectTimeout("no"), httpx2.ReadTimeout("no"))),
        *map(_raises, (httpx2.PoolTimeout("no"), httpx2.ProxyError("no"), httpx2.UnsupportedProtocol("no"))),
        *map(_raises, (httpx2.RemoteProtocolError("no"), OSError("no"))),
    ],
)
def test_it_fails_as_the_sdk_does(answer: Answering) -> None:
    client = client_of(answer)
    options = {"timeout": httpx2.Timeout(5.0), "headers": {}}
    errors = []
    for way in (MessageStreams(client).open, lambda *given: by_the_sdk(client, *given)):
        with pytest.raises(anthropic.APIError) as failed:
            way("/v1/messages", b"{}", options)
        error = failed.value
        status = (error.status_code, error.request_id) if isinstance(error, anthropic.APIStatusError) else None
        errors.append((type(error), error.message, error.body, status, type(error.__cause__)))
    assert errors[0] == errors[1]


def test_a_cookie_is_nobodys_for_good() -> None:
    """One that the provider has set goes out with no request: it would stay what it was at the first."""
    sent: list[httpx2.Request] = []

    def answer(request: httpx2.Request) -> httpx2.Response:
        sent.append(request)
        return httpx2.Response(200, content=EVENT, headers={"Set-Cookie": f"at={len(sent)}"})

    streams = MessageStreams(client_of(answer))
    for read in (1.0, 2.0, 2.0):
        list(streams.open("/v1/messages", b"{}", {"timeout": httpx2.Timeout(read), "headers": {}}))
    assert ["Cookie" in request.headers for request in sent] == [False, False, False]
