"""HTTP: routes, headers, waiting, streams, and streams that break.

    POST /v1/messages                 GET /v1/models, /v1/models/{id}
    POST /v1/messages/count_tokens    GET /healthz

Conversations that look exactly alike share their count of failures and cuts. A client that runs many at a time sets
``metadata.user_id``, or the header ``x-turnkeeper-session``, to something of the session's own.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from turnkeeper_local.standin.errors import ApiError, new_request_id
from turnkeeper_local.standin.model import Delivery, StandIn
from turnkeeper_local.standin.scenario import CONTEXT_WINDOW_TOKENS
from turnkeeper_local.standin.sse import Frame, broken, frames, ping
from turnkeeper_local.standin.validate import parse_body

MAX_BODY_BYTES = 32 * 1024 * 1024
#: An oversized body is read to its end before it is refused, or the client would see a broken pipe, not the answer.
_MAX_DRAINED_BYTES = 8 * MAX_BODY_BYTES
_PING_SECONDS = 5.0
_VERSION = re.compile(r"20\d\d-\d\d-\d\d")
_SESSION_HEADER = "x-turnkeeper-session"

_MODELS = (
    ("claude-sonnet-5-5", "Claude Sonnet 5.5"),
    ("claude-opus-5-5", "Claude Opus 5.5"),
    ("claude-haiku-5-5", "Claude Haiku 5.5"),
    ("claude-sonnet-4-6", "Claude Sonnet 4.6"),
    ("claude-haiku-4-5", "Claude Haiku 4.5"),
)


def make_app(standin: StandIn) -> Starlette:
    """The ASGI application around one stand-in."""

    async def messages(request: Request) -> Response:
        body, beta = parse_body(await _body(request)), _is_beta(request)
        identity = request.headers.get(_SESSION_HEADER, "")
        delivery = standin.answer(body, beta=beta, identity=identity)
        return _Sending(delivery, streaming=body.get("stream", False), request_id=_request_id(request))

    async def count_tokens(request: Request) -> Response:
        body, beta = parse_body(await _body(request)), _is_beta(request)
        return _json(request, {"input_tokens": standin.count_tokens(body, beta=beta)})

    async def models(request: Request) -> Response:
        data = [_model(*model) for model in _MODELS]
        edges = {"first_id": data[0]["id"], "last_id": data[-1]["id"]}
        return _json(request, {"data": data, "has_more": False, **edges})

    async def model(request: Request) -> Response:
        wanted = request.path_params["model_id"]
        for model_id, name in _MODELS:
            if model_id == wanted:
                return _json(request, _model(model_id, name))
        raise ApiError(404, f"model: {wanted}")

    async def healthz(_: Request) -> Response:
        return JSONResponse({"status": "ok"})

    return Starlette(
        routes=[
            Route("/v1/messages", _guarded(messages), methods=["POST"]),
            Route("/v1/messages/count_tokens", _guarded(count_tokens), methods=["POST"]),
            Route("/v1/models", _guarded(models), methods=["GET"]),
            Route("/v1/models/{model_id}", _guarded(model), methods=["GET"]),
            Route("/healthz", healthz, methods=["GET"]),
        ],
        exception_handlers={
            ApiError: _on_api_error,
            HTTPException: _on_http_error,
            ClientDisconnect: _on_client_gone,
            Exception: _on_bug,
        },
    )


class _ClientGone(Exception):
    """Nobody is there to answer any more."""


class _Sending(Response):
    """Sends one delivery: waits, streams or not, breaks off where it shall, and stops when the client is gone."""

    def __init__(self, delivery: Delivery, *, streaming: bool, request_id: str) -> None:
        super().__init__(headers={"request-id": request_id})
        self._delivery = delivery
        self._streaming = streaming
        self._request_id = request_id

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002
        gone = asyncio.ensure_future(_disconnected(receive))
        try:
            await _wait(self._delivery.sleep_seconds, gone)
            await (self._stream(send, gone) if self._streaming else self._whole(send, gone))
        except _ClientGone:
            pass
        finally:
            gone.cancel()

    async def _whole(self, send: Send, gone: asyncio.Future[None]) -> None:
        await _wait(self._delivery.trickle_seconds, gone)
        body = json.dumps(self._delivery.reply.message()).encode()
        await send(self._start("application/json", (b"content-length", str(len(body)).encode())))
        if self._delivery.cut:
            # Half of the announced length, and then nothing: the server drops a connection whose answer is
            # incomplete, which is what the client is to see.
            await send({"type": "http.response.body", "body": body[: len(body) // 2], "more_body": True})
            return
        await send({"type": "http.response.body", "body": body})

    async def _stream(self, send: Send, gone: asyncio.Future[None]) -> None:
        stream = frames(self._delivery.reply, self._delivery.trickle_seconds)
        pause = self._delivery.trickle_seconds / sum(frame.paced for frame in stream)
        await send(self._start("text/event-stream; charset=utf-8", (b"cache-control", b"no-cache")))
        if self._delivery.cut:
            stream = broken(stream)
        if not pause:
            # Nothing to wait for: one write, which many streams at a time are the quicker for.
            stream = [Frame("all", b"".join(frame.data for frame in stream))]
        for frame in stream:
            if frame.paced:
                await self._pause(pause, send, gone)
            await send({"type": "http.response.body", "body": frame.data, "more_body": True})
        if not self._delivery.cut:
            await send({"type": "http.response.body", "body": b""})

    async def _pause(self, seconds: float, send: Send, gone: asyncio.Future[None]) -> None:
        """Wait, with a ping now and then, as the API does while a model is busy."""
        while seconds > _PING_SECONDS:
            await _wait(_PING_SECONDS, gone)
            await send({"type": "http.response.body", "body": ping(), "more_body": True})
            seconds -= _PING_SECONDS
        await _wait(seconds, gone)

    def _start(self, content_type: str, *more: tuple[bytes, bytes]) -> dict[str, Any]:
        headers = [(b"content-type", content_type.encode()), (b"request-id", self._request_id.encode()), *more]
        return {"type": "http.response.start", "status": 200, "headers": headers}


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _wait(seconds: float, gone: asyncio.Future[None]) -> None:
    if gone.done():
        raise _ClientGone
    if seconds > 0:
        finished, _ = await asyncio.wait({gone}, timeout=seconds)
        if finished:
            raise _ClientGone


Handler = Callable[[Request], Awaitable[Response]]


def _guarded(handler: Handler) -> Handler:
    """``handler`` behind what the API asks of every request's headers."""

    async def guarded(request: Request) -> Response:
        _check_headers(request)
        return await handler(request)

    return guarded


def _check_headers(request: Request) -> None:
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    bearer = token.strip() if scheme.lower() == "bearer" else ""
    if not request.headers.get("x-api-key", "").strip() and not bearer:
        raise ApiError(401, "x-api-key header is required")
    version = request.headers.get("anthropic-version", "")
    if not version:
        raise ApiError(400, "anthropic-version: header is required")
    if not _VERSION.fullmatch(version):
        raise ApiError(400, f'anthropic-version: "{version}" is not a valid version')


def _is_beta(request: Request) -> bool:
    return "anthropic-beta" in request.headers or request.query_params.get("beta") == "true"


async def _body(request: Request) -> bytes:
    chunks: list[bytes] = []
    length = 0
    async for chunk in request.stream():
        length += len(chunk)
        if length <= MAX_BODY_BYTES:
            chunks.append(chunk)
        else:
            chunks.clear()
        if length > _MAX_DRAINED_BYTES:
            break
    if length > MAX_BODY_BYTES:
        raise ApiError(413, f"Request exceeds the maximum size of {MAX_BODY_BYTES} bytes")
    return b"".join(chunks)


def _request_id(request: Request) -> str:
    if not hasattr(request.state, "request_id"):
        request.state.request_id = new_request_id()
    return str(request.state.request_id)


def _json(request: Request, value: Any) -> Response:
    return JSONResponse(value, headers={"request-id": _request_id(request)})


def _error(request: Request, error: ApiError, extra: dict[str, str] | None = None) -> Response:
    request_id = _request_id(request)
    headers = {**error.headers(request_id), **(extra or {})}
    return JSONResponse(error.body(request_id), status_code=error.status, headers=headers)


async def _on_api_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, ApiError)
    return _error(request, error)


async def _on_http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    message = "Not found" if error.status_code == 404 else HTTPStatus(error.status_code).phrase
    return _error(request, ApiError(error.status_code, message), dict(error.headers or {}))


async def _on_client_gone(_: Request, __: Exception) -> Response:
    return Response(status_code=400)  # while it was still sending its body; nobody will read this


async def _on_bug(request: Request, _: Exception) -> Response:
    return _error(request, ApiError(500, "Internal server error"))


def _model(model_id: str, name: str) -> dict[str, Any]:
    return {
        "type": "model",
        "id": model_id,
        "display_name": name,
        "created_at": "2026-01-01T00:00:00Z",
        "lifecycle": "active",
        "max_input_tokens": CONTEXT_WINDOW_TOKENS,
        "max_tokens": 128_000,
    }
