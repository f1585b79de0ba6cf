"""One exchange with an MCP server: connect, ask, disconnect, within time and size.

A connection per call: nothing to keep alive over a Lambda's freeze, no state of one session seen by another.
Redirects out of the server's origin are not followed, so the headers that prove who we are go nowhere else.

Imports mcp and httpx2: import this module inside a call only.
"""

from __future__ import annotations

import contextvars
import queue
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any, TypeVar

import anyio
import httpx2
from mcp.client.client import Client
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.exceptions import MCPError
from mcp_types import INVALID_PARAMS, METHOD_NOT_FOUND, CallToolResult
from mcp_types import Tool as ServerTool

from turnkeeper.core.tools import ForeignToolError, ToolError
from turnkeeper.tools._common import Deadline, cut, plain

T = TypeVar("T")

_MAX_PAGES = 20
_GRACE_SECONDS = 2.0


class Server:
    """An MCP server as seen from synchronous code. Safe for threads: it holds nothing but settings."""

    def __init__(self, url: str, headers: Callable[[], Mapping[str, str]], max_wire_bytes: int) -> None:
        self._url = url
        self._headers = headers
        self._max_wire_bytes = max_wire_bytes

    def call(self, name: str, arguments: Mapping[str, Any], deadline: Deadline) -> CallToolResult:
        """Call a tool once. Never repeated, since it may have had its effect.

        Raises:
            ToolError: the server cannot be reached, refuses, answers too much, or takes too long.
        """
        began = False

        async def ask(client: Client) -> CallToolResult:
            nonlocal began
            began = True
            return await client.call_tool(name, dict(arguments))

        try:
            return self._exchange(ask, deadline)
        except ToolError as error:
            error.may_have_run = began and not _not_taken(error.__cause__)
            raise

    def find(self, name: str, deadline: Deadline) -> ServerTool | None:
        """The server's own description of a tool, or None where it has none of that name. Raises as ``call`` does."""

        async def ask(client: Client) -> ServerTool | None:
            cursor: str | None = None
            for _ in range(_MAX_PAGES):
                page = await client.list_tools(cursor=cursor)
                for offered in page.tools:
                    if offered.name == name:
                        return offered
                cursor = page.next_cursor
                if not cursor:
                    break
            return None

        return self._exchange(ask, deadline)

    def _exchange(self, ask: Callable[[Client], Awaitable[T]], deadline: Deadline) -> T:
        """Run in a thread of its own: the caller may have an event loop, and must not wait longer than its deadline."""
        done: queue.SimpleQueue[tuple[T | None, BaseException | None]] = queue.SimpleQueue()
        headers = dict(self._headers())

        def work() -> None:
            try:
                done.put((anyio.run(self._ask, ask, headers, deadline), None))
            except BaseException as error:  # noqa: BLE001  (whatever it is, it belongs to the caller's thread)
                done.put((None, error))

        context = contextvars.copy_context()
        threading.Thread(target=context.run, args=(work,), name="mcp-call", daemon=True).start()
        try:
            result, error = done.get(timeout=max(0.0, deadline.left()) + _GRACE_SECONDS)
        except queue.Empty:
            raise _timed_out(deadline) from None
        if error is not None:
            raise _explained(error, deadline) from error
        return result  # type: ignore[return-value]  # None only where T allows it

    async def _ask(self, ask: Callable[[Client], Awaitable[T]], headers: Mapping[str, str], deadline: Deadline) -> T:
        with anyio.fail_after(max(0.0, deadline.left())):
            async with (
                httpx2.AsyncClient(
                    transport=_Bounded(self._max_wire_bytes),
                    headers=headers,
                    timeout=httpx2.Timeout(max(0.001, deadline.left())),
                    follow_redirects=False,
                    trust_env=False,
                ) as http,
                Client(
                    streamable_http_client(self._url, http_client=http, max_sse_event_size=self._max_wire_bytes),
                    # The server asks the client nothing: no sampling, no questions to the user, no roots.
                    input_required_max_rounds=1,
                    cache=None,
                ) as client,
            ):
                return await ask(client)


class _Bounded(httpx2.AsyncBaseTransport):
    """Ends an exchange that brings more bytes than any answer may have."""

    def __init__(self, max_bytes: int) -> None:
        self._left = max_bytes
        self._inner = httpx2.AsyncHTTPTransport(trust_env=False)

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        # What is counted on the wire is what is held in memory only without compression.
        request.headers["accept-encoding"] = "identity"
        response = await self._inner.handle_async_request(request)
        if response.headers.get("content-encoding", "identity").lower() != "identity":
            await response.aclose()
            raise TooMuchError
        stream = response.stream
        if not isinstance(stream, httpx2.AsyncByteStream):
            raise TypeError("an asynchronous transport gives an asynchronous stream")
        response.stream = _Counted(stream, self)
        return response

    def count(self, size: int) -> None:
        self._left -= size
        if self._left < 0:
            raise TooMuchError

    async def aclose(self) -> None:
        await self._inner.aclose()


class _Counted(httpx2.AsyncByteStream):
    def __init__(self, inner: httpx2.AsyncByteStream, bound: _Bounded) -> None:
        self._inner = inner
        self._bound = bound

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for chunk in self._inner:
            self._bound.count(len(chunk))
            yield chunk

    async def aclose(self) -> None:
        await self._inner.aclose()


class TooMuchError(httpx2.TransportError):
    """The server sent more than any answer may have, or something compressed that could become more."""

    def __init__(self) -> None:
        super().__init__("answer too large")


def _timed_out(deadline: Deadline) -> ToolError:
    return ToolError(f"The server took longer than {deadline.timeout_seconds:.3g} s and was given up.")


def _explained(error: BaseException, deadline: Deadline) -> ToolError:
    """The one error in the tree of task groups that says something, in words without addresses or headers."""
    leaves = list(_leaves(error))
    for leaf in leaves:
        if isinstance(leaf, ToolError):
            return leaf
    if any(isinstance(leaf, TooMuchError) for leaf in leaves):
        return ToolError("The server's answer is too large.")
    for leaf in leaves:
        if isinstance(leaf, MCPError):
            return ForeignToolError(f"The server refused: {cut(plain(str(leaf)), 500)[0]}")
    if deadline.passed() or any(isinstance(leaf, TimeoutError | httpx2.TimeoutException) for leaf in leaves):
        return _timed_out(deadline)
    return ToolError("The server cannot be reached, or does not speak MCP.")


def _not_taken(error: BaseException | None) -> bool:
    """Whether it is certain that the server did not take a call up."""
    leaves = [] if error is None else _leaves(error)
    return any(
        isinstance(leaf, httpx2.ConnectError | httpx2.ConnectTimeout)
        or (isinstance(leaf, MCPError) and leaf.code in (METHOD_NOT_FOUND, INVALID_PARAMS))
        for leaf in leaves
    )


def _leaves(error: BaseException) -> list[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        return [leaf for part in error.exceptions for leaf in _leaves(part)]
    return [error]
