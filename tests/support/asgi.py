"""Calls of the front door as a server makes them, in this process and without a socket.

with served(application(kit)) as door:
    Caller(door).get("/v1/health").ok()
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, MutableMapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote, urlsplit

from anyio import sleep_forever
from anyio.from_thread import BlockingPortal, start_blocking_portal
from starlette.applications import Starlette
from starlette.types import ASGIApp


@dataclass(frozen=True)
class Served:
    """An application that runs in a thread of its own."""

    application: Starlette
    portal: BlockingPortal

    def call(
        self, method: str, target: str, headers: Mapping[str, str], body: bytes
    ) -> tuple[int, dict[str, str], str]:
        """Status, headers and body of an answer."""
        return self.portal.call(called, self.application, method, target, headers, body)


@contextmanager
def served(application: Starlette) -> Iterator[Served]:
    with (
        start_blocking_portal() as portal,
        portal.wrap_async_context_manager(application.router.lifespan_context(application)),
    ):
        yield Served(application, portal)


def scope_of(method: str, target: str, headers: Mapping[str, str]) -> dict[str, Any]:
    parts = urlsplit(target)
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": unquote(parts.path) or "/",
        "raw_path": (parts.path or "/").encode(),
        "query_string": parts.query.encode(),
        "root_path": "",
        "headers": [(name.lower().encode(), value.encode()) for name, value in headers.items()],
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 8000),
    }


async def called(
    application: ASGIApp, method: str, target: str, headers: Mapping[str, str], body: bytes
) -> tuple[int, dict[str, str], str]:
    """Status, headers and body of an answer, once it is whole."""
    sent: list[MutableMapping[str, Any]] = []
    pieces = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive() -> MutableMapping[str, Any]:
        return pieces.pop() if pieces else await _never()

    async def send(message: MutableMapping[str, Any]) -> None:
        sent.append(message)

    await application(scope_of(method, target, headers), receive, send)
    start, *rest = sent
    told = {name.decode(): value.decode() for name, value in start["headers"]}
    return start["status"], told, b"".join(message.get("body", b"") for message in rest).decode()


async def _never() -> MutableMapping[str, Any]:
    await sleep_forever()
    raise AssertionError("nobody wakes this")
