"""The front door as one ASGI application: for uvicorn on a laptop or in a container, for Lambda behind the Web Adapter,
for Vercel. Handlers are those of the Lambda; here they run in threads, and streams are sent as they come.

Nothing of this is imported by the Lambda behind API Gateway (docs/decisions/0131).
"""

from __future__ import annotations

import asyncio
import json
import logging
import re
import time
import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from urllib.parse import parse_qsl

import anyio
import anyio.to_thread
from anyio import from_thread
from starlette.applications import Starlette
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import ClientDisconnect
from starlette.requests import Request as HttpRequest
from starlette.responses import Response as HttpResponse
from starlette.responses import StreamingResponse
from starlette.routing import Route as HttpRoute
from starlette.types import Message, Receive, Scope, Send

from functions.api.app import FrontDoor
from functions.api.events import line
from functions.api.http import EVENT_STREAM, OWN_HEADERS, Request, Response
from functions.api.issuer import Issuer
from functions.api.open_streams import OpenStreams
from functions.api.problems import internal_error, problem, problem_of
from functions.api.routes import ROUTES
from functions.api.routing import Route
from functions.api.stages.identify import identify
from functions.api.stages.read import MAX_BODY_BYTES
from functions.api.streaming import stream, stream_turn
from turnkeeper.core.errors import Forbidden, Unavailable
from turnkeeper.core.policy import Policy
from turnkeeper.runtime.following import Hub
from turnkeeper.runtime.intake import Identity
from turnkeeper.settings import Settings
from turnkeeper.wiring.front_door import FrontDoorKit
from turnkeeper.wiring.needs import MissingSetting

logger = logging.getLogger(__name__)

#: Calls that are carried out at once, most of which wait for a turn; and how many more may wait for their start.
_THREADS = 64
_QUEUED = 256
#: Whoever asks how we are is not to wait behind those who wait for turns.
_PUBLIC_PATHS = frozenset(route.path for route in ROUTES if route.public)
#: For a call that is no stream: as API Gateway has it, so that clients meet one front door.
_CALL_SECONDS = 29.0
#: How long a body may come, and a client take nothing of a stream.
_BODY_SECONDS = 30.0
_SILENT_SECONDS = 30.0

#: What pages of other origins may send and read; API Gateway is told the same.
_PREFLIGHT_SECONDS = 3_600
_METHODS = ("GET", "POST", "DELETE")
HEADERS_TAKEN = ("accept", "authorization", "content-type", "idempotency-key", "last-event-id", "prefer")
HEADERS_SHOWN = ("preference-applied", "retry-after")


def application(kit: FrontDoorKit) -> Starlette:
    """The application of a kit. ``state.end_streams``, called on its event loop, ends streams, each with a word on
    where to go on.

    Raises:
        MissingSetting: identity comes by tokens, and their issuer or audience is not said.
    """
    door = _Door(kit)
    origins = kit.settings.cors_origins
    cors = Middleware(
        _Cors,
        allow_origins=origins,
        allow_methods=_METHODS,
        allow_headers=HEADERS_TAKEN,
        expose_headers=HEADERS_SHOWN,
        max_age=_PREFLIGHT_SECONDS,
    )
    made = Starlette(
        routes=[HttpRoute("/{path:path}", door)],
        middleware=[cors] if origins else [],
        exception_handlers={HTTPException: _refused},
        lifespan=door.lifespan,
    )
    made.state.end_streams = door.hub.stop
    return made


@dataclass(frozen=True)
class Streamed(Response):
    """An answer that comes in frames, as long as there are any."""

    frames: AsyncGenerator[str] = field(kw_only=True)


class _Door:
    """One endpoint for everything: routes are the front door's own business."""

    def __init__(self, kit: FrontDoorKit) -> None:
        self._kit = kit
        self._door = FrontDoor(kit, _identify(kit))
        self.hub = Hub(kit.sessions, kit.streams)
        self._opened = OpenStreams(kit.settings.stream_readers)
        self._calls = anyio.CapacityLimiter(_THREADS)
        self._public = anyio.CapacityLimiter(2)
        #: Calls that are carried out or wait for it.
        self._inside = 0

    @asynccontextmanager
    async def lifespan(self, _: Starlette) -> AsyncIterator[None]:
        yield
        self.hub.stop()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        http = HttpRequest(scope, receive)
        whole = True
        try:
            async with asyncio.timeout(_BODY_SECONDS):
                body, whole = await _body(http)
            response = await self._answer(_request(http, body, self._kit.settings))
        except ClientDisconnect:
            return
        except TimeoutError:
            response = problem(408, "request_timeout", f"The body did not come within {_BODY_SECONDS:g} s.")
            whole = False
        except Exception:  # In here, so that a page of another origin can read that, too.
            logger.exception("a call failed")
            response, whole = internal_error(), False
        # What is still to come of a body that is not read would be taken for the next request.
        await _told(response if whole else response.with_headers({"connection": "close"}))(scope, receive, send)

    async def _answer(self, request: Request) -> Response:
        answer = partial(self._door.answer, request, self._call)
        if request.path in _PUBLIC_PATHS:
            return await anyio.to_thread.run_sync(answer, limiter=self._public)
        if self._inside >= _THREADS + _QUEUED:
            return problem_of(Unavailable("Too many calls wait to be carried out.", retry_after_seconds=1))
        self._inside += 1
        try:
            return await anyio.to_thread.run_sync(answer, limiter=self._calls)
        finally:
            self._inside -= 1

    def _call(self, route: Route, kit: FrontDoorKit, request: Request) -> Response:
        """In a thread: carry a call out, in one piece or as a stream."""
        if not (route.streams or (request.wants_stream and EVENT_STREAM in route.also)):
            return route.call(kit, request)
        self._opened.admit(request.who)
        request = replace(request, ends_at=time.monotonic() + kit.settings.stream_seconds)
        if not route.turn:
            return self._streamed(request, from_thread.run(stream, kit, self.hub, request))
        # The stream does the waiting.
        headers = {**request.headers, "prefer": "wait=0"}
        begun = route.call(kit, replace(request, streams=True, headers=headers))
        if begun.status >= 400:
            return begun
        turn = json.loads(begun.body)
        head = kit.intake.owned(request.who, turn["session_id"])
        if head.turn.number != turn["turn"]:
            return begun  # An idempotency key of a turn that is long over.
        frames = from_thread.run(partial(stream_turn, kit, self.hub, request, head.session_id, after=head.turn.seq - 1))
        first = {name: turn[name] for name in ("session_id", "agent", "turn", "status", "continuation_token")}
        return self._streamed(request, frames, first=f"event: turn\ndata: {line(first)}\n\n")

    def _streamed(self, request: Request, frames: AsyncIterator[str], *, first: str = "") -> Streamed:
        assert isinstance(frames, AsyncGenerator)
        return Streamed(200, content_type=EVENT_STREAM, frames=self._held(request.who, frames, first))

    async def _held(self, who: Identity, frames: AsyncGenerator[str], first: str) -> AsyncGenerator[str]:
        """Frames behind a first one, where there is one, and counted while they come."""
        with self._opened.one_of(who):
            async with aclosing(frames):
                if first:
                    yield first
                async for frame in frames:
                    yield frame


def _identify(kit: FrontDoorKit) -> Callable[[Request, Settings, Policy], Identity]:
    """Who is asking. Nobody in front of a server has looked at a token, so that is done here."""
    settings = kit.settings
    if settings.identity == "local":
        return _by_word
    if settings.identity == "iam":
        return identify
    if settings.jwt_issuer is None or not settings.jwt_audience:
        raise MissingSetting(
            "TURNKEEPER_JWT_ISSUER and TURNKEEPER_JWT_AUDIENCE are needed where tokens are checked here"
        )
    issuer = Issuer(settings.jwt_issuer, settings.jwt_audience, kit.clock)

    def by_token(request: Request, settings: Settings, policy: Policy) -> Identity:
        claims = issuer.claims(request.headers.get("authorization"))
        return identify(replace(request, claims=claims), settings, policy)

    return by_token


def _by_word(request: Request, settings: Settings, policy: Policy) -> Identity:
    """Whoever reaches this may do all, so that it has to be somebody of this machine, and not a page from elsewhere in
    their browser: neither one that posts here, nor one whose name was made to lead here.

    Raises:
        Forbidden: it may be such a page.
    """
    host, origin = request.headers.get("host", ""), request.headers.get("origin")
    origins = settings.cors_origins
    if origin is not None and not {origin, "*"} & {*origins} and origin.partition("://")[2] != host:
        raise Forbidden("A page of another origin may not call this; TURNKEEPER_CORS_ORIGINS names those that may.")
    # An address, or a name that no name server on the internet gives.
    name = host.rpartition(":")[0] if re.search(r":\d*\Z", host) else host
    if not (
        re.fullmatch(r"[\d.]+|\[.*\]|[^.]*|.*\.(localhost|local|internal)", name)
        or host in {one.partition("://")[2] for one in origins}
    ):
        raise Forbidden("Without tokens this answers to addresses and local names: set TURNKEEPER_IDENTITY=jwt.")
    return identify(request, settings, policy)


# ---- requests ----


async def _body(http: HttpRequest) -> tuple[bytes, bool]:
    """The body, and whether that is all of it: of one that is too large, as much as shows that."""
    body = bytearray()
    async for piece in http.stream():
        body += piece
        if len(body) > MAX_BODY_BYTES:
            return bytes(body[: MAX_BODY_BYTES + 1]), False
    return bytes(body), True


def _request(http: HttpRequest, body: bytes, settings: Settings) -> Request:
    """A request as the front door sees it. What came twice, in the query or as a header, is joined as API Gateway does:
    none of the two is taken for the other."""
    headers: dict[str, str] = {}
    for name, value in http.headers.items():
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    query: dict[str, str] = {}
    for name, value in parse_qsl(str(http.scope["query_string"], "latin-1"), keep_blank_values=True):
        query[name] = f"{query[name]},{value}" if name in query else value
    told = headers.pop("x-amzn-request-context", "{}")
    context = json.loads(told) if settings.web_adapter else {}
    authorizer = context.get("authorizer") or {}
    return Request(
        method=http.method,
        path=str(http.scope["path"]),
        headers=headers,
        query=query,
        body=body,
        claims={},
        principal=(authorizer.get("iam") or {}).get("userArn"),
        request_id=str(context.get("requestId") or uuid.uuid4()),
        ends_at=time.monotonic() + _CALL_SECONDS,
    )


# ---- answers ----


def _told(response: Response) -> HttpResponse:
    headers = {**OWN_HEADERS, **response.headers}
    if isinstance(response, Streamed):
        # A proxy that collected the frames would show none in time.
        headers |= {"content-type": response.content_type, "x-accel-buffering": "no"}
        return _Frames(response.frames, response.status, headers)
    if response.body:
        headers["content-type"] = response.content_type
    return HttpResponse(response.body, response.status, headers)


class _Frames(StreamingResponse):
    """Ends its frames however it ends: sent whole, or to a client that is gone, or that takes nothing for too long."""

    body_iterator: AsyncGenerator[str]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        except TimeoutError:
            logger.info("a client took nothing of a stream for too long")

    async def stream_response(self, send: Send) -> None:
        async with aclosing(self.body_iterator):
            await super().stream_response(partial(_sent_in_time, send))


async def _sent_in_time(send: Send, message: Message) -> None:
    async with asyncio.timeout(_SILENT_SECONDS):
        await send(message)


# ---- what Starlette refuses by itself ----


class _Cors(CORSMiddleware):
    def preflight_response(self, request_headers: Headers) -> HttpResponse:
        response = super().preflight_response(request_headers)
        if response.status_code == 200:
            return response
        told = {name: value for name, value in response.headers.items() if not name.startswith("content-")}
        return _told(problem(403, "forbidden", bytes(response.body).decode()).with_headers(told))


async def _refused(_request: HttpRequest, error: Exception) -> HttpResponse:
    assert isinstance(error, HTTPException)
    code = {404: "not_found", 405: "method_not_allowed"}.get(error.status_code, "invalid_request")
    return _told(problem(error.status_code, code, error.detail).with_headers(error.headers or {}))
