"""The gateway over HTTP: two paths of the Messages API, and nothing else."""

from __future__ import annotations

import asyncio
import logging
import secrets
from contextlib import suppress

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from turnkeeper.core.errors import CostCapExceeded, InputTooLarge, TurnkeeperError
from turnkeeper.gateway import asking
from turnkeeper.gateway.callers import Caller
from turnkeeper.gateway.core import COUNT_TOKENS, MESSAGES, Gateway
from turnkeeper.gateway.money import ClientGone
from turnkeeper.gateway.provider import Answer
from turnkeeper.gateway.refusing import NOT_FOUND, Refusal, refusal_of

logger = logging.getLogger(__name__)


class App:
    """An ASGI application."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        request = Request(scope, receive)
        caller: Caller | None = None
        try:
            # As they were sent: the request's URL is put together with a header of the client's.
            path, query = str(scope["path"]), scope["query_string"].decode("latin-1")
            if request.method != "POST" or path not in (MESSAGES, COUNT_TOKENS):
                await _refused(NOT_FOUND)(scope, receive, send)
                return
            headers = {name: ",".join(request.headers.getlist(name)) for name in request.headers}
            counts = path == COUNT_TOKENS
            known = await self._gateway.caller(headers)
            # Of a lease it is remembered why its latest call was not made; a count is none.
            caller = None if counts else known
            asked = asking.read(await _body(request), headers, query, counts=counts)
            # Again: its body may have come for hours.
            known = await self._gateway.caller(headers, anew=counts)
            if counts:
                status, told, body = await self._gateway.count(known, asked)
                await Response(body, status, dict(told))(scope, receive, send)
                return
            _note(known, None)
            call = await self._gateway.admit(known, asked, request.is_disconnected)
            answer = await self._gateway.ask(call)
            if not 200 <= answer.status < 300:
                body = await self._gateway.refused(call, answer)
                await Response(body, answer.status, dict(answer.headers))(scope, receive, send)
                return
            pieces: asyncio.Queue[bytes | Broken | None] = asyncio.Queue()
            reading = self._gateway.read_on(call, answer, pieces.put_nowait)
            reading.add_done_callback(lambda _: pieces.put_nowait(Broken()))
            await _pass_on(answer, pieces, send)
        except (ClientGone, ClientDisconnect):
            return
        except TurnkeeperError as error:
            _note(caller, error)
            if not isinstance(error, CostCapExceeded):
                logger.info("refused: %.300s", error)
            await _refused(refusal_of(error))(scope, receive, send)
        except Exception:
            logger.exception("a request to the gateway failed")
            await _refused(Refusal(500, "api_error", "something went wrong"))(scope, receive, send)


class Broken:
    """The answer broke off: the client is to see that it did."""


async def _pass_on(answer: Answer, pieces: asyncio.Queue[bytes | Broken | None], send: Send) -> None:
    """Where the client is gone, sending does nothing, and the answer is read on without it."""
    headers = [(name.encode(), value.encode()) for name, value in answer.headers.items()]
    with suppress(OSError):
        await send({"type": "http.response.start", "status": answer.status, "headers": headers})
        while isinstance(piece := await pieces.get(), bytes):
            await send({"type": "http.response.body", "body": piece, "more_body": True})
        if piece is None:
            await send({"type": "http.response.body", "body": b"", "more_body": False})
        # Else the response is left unfinished, so that the server closes the connection in the middle of it.


async def _body(request: Request) -> bytes:
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > asking.MAX_BODY_BYTES:
            raise InputTooLarge("the body is larger than 32 MB", limit_bytes=asking.MAX_BODY_BYTES)
    return bytes(body)


def _refused(refusal: Refusal) -> Response:
    status, headers, body = refusal.answer(f"req_tkgw_{secrets.token_hex(10)}")
    return Response(body, status, headers)


def _note(caller: Caller | None, error: TurnkeeperError | None) -> None:
    if caller is not None and caller.lease is not None:
        caller.lease.note(error)
