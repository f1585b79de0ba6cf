"""Calls of which nobody knows whether they took effect: they are not told as if nothing had happened."""

from __future__ import annotations

import http.server
import json
import time
from collections.abc import Callable, Iterator
from typing import Any, ClassVar

import pytest

from tests.support.pages import Handler, PageRequest, PageServer, answering, page, redirect
from tests.unit.tools.conftest import Call, fetcher
from turnkeeper import Agent, tool
from turnkeeper.core.tools import ToolDenied, ToolError
from turnkeeper.runtime.catalog import Catalog
from turnkeeper.testing import Workbench, call
from turnkeeper.tools import mcp_tools, shell

MODEL = "claude-sonnet-5-5"


def _silent(request: PageRequest) -> None:
    time.sleep(1)


def _short(request: PageRequest) -> None:
    request.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\nContent-Type: text/plain\r\n\r\nshort")


@pytest.mark.parametrize(
    "answered",
    [
        _silent,
        _short,
        lambda request: request.wfile.write(b"nonsense\r\n\r\n"),
        page(b"\x89PNG", content_type="image/png"),
        page(b"x", Content_Encoding="br"),
        redirect("http://elsewhere.example.com/"),
        redirect("/", status=307),
    ],
    ids=["silent", "broken off", "no HTTP", "another content type", "encoding", "sent elsewhere", "endless"],
)
def test_what_was_posted_may_have_been_taken_whatever_is_answered(
    answered: Handler, server: PageServer, call: Call
) -> None:
    server.pages["/"] = answered
    with pytest.raises(ToolError) as caught:
        posts = fetcher(server, methods=["POST"], timeout_seconds=0.5)
        call(posts, url=f"http://127.0.0.1:{server.port}/", method="POST")
    assert caught.value.may_have_run
    assert server.seen


def test_what_was_only_read_or_never_sent_has_changed_nothing(server: PageServer, call: Call) -> None:
    server.pages["/"] = page(b"\x89PNG", content_type="image/png")
    url = f"http://127.0.0.1:{server.port}/"
    with pytest.raises(ToolDenied):
        call(fetcher(server, methods=["GET", "POST"]), url=url, method="GET")
    with pytest.raises(ToolDenied):
        call(fetcher(server, methods=["POST"]), url="http://elsewhere.example.com/", method="POST")
    with pytest.raises(ToolError) as caught:
        call(fetcher(server, methods=["POST"], ports=[1]), url="http://127.0.0.1:1/", method="POST")
    assert not caught.value.may_have_run


# ---- MCP ----


class _Server(http.server.BaseHTTPRequestHandler):
    """Answers all that comes before a call as MCP does; the call itself as the test says."""

    called: ClassVar[Callable[[Any, Any], None]]

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers.get("content-length") or 0)))
        if asked["method"] == "tools/call":
            type(self).called(self, asked["id"])
        elif "id" not in asked:
            self.say(b"", status=202)
        else:
            version = asked["params"].get("protocolVersion", "2025-06-18")
            server = {"name": "x", "version": "1"}
            told = {"capabilities": {"tools": {}}, "serverInfo": server, "protocolVersion": version}
            self.say(json.dumps({"jsonrpc": "2.0", "id": asked["id"], "result": told}).encode())

    def do_GET(self) -> None:
        self.say(b"", status=405)

    do_DELETE = do_GET

    def say(self, body: bytes, status: int = 200, content_type: str = "application/json") -> None:
        self.send_response(status)
        self.send_header("content-type", content_type)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: Any) -> None:
        pass


@pytest.fixture
def mcp() -> Iterator[tuple[str, type[_Server]]]:
    handler = type("Handler", (_Server,), {})
    with answering(handler) as url:
        yield f"{url}/mcp", handler


def _error(code: int) -> Callable[[Any, Any], None]:
    def say(handler: Any, number: Any) -> None:
        told = {"jsonrpc": "2.0", "id": number, "error": {"code": code, "message": "no"}}
        handler.say(json.dumps(told).encode())

    return say


@pytest.mark.parametrize(
    ("called", "unknown"),
    [
        (lambda handler, number: time.sleep(5), True),
        (lambda handler, number: handler.connection.close(), True),
        (lambda handler, number: handler.say(b"<html>", status=502, content_type="text/html"), True),
        (lambda handler, number: handler.say(b'{"jsonrpc":'), True),
        (lambda handler, number: handler.say(b"x" * 3_000_000), True),
        (_error(-32603), True),
        (_error(-32602), False),
        (_error(-32601), False),
    ],
    ids=["silent", "gone", "a page", "half", "too large", "broke", "arguments", "no such tool"],
)
def test_a_call_that_reached_a_server_may_have_been_made_unless_it_says_otherwise(
    called: Callable[[Any, Any], None], unknown: bool, mcp: tuple[str, type[_Server]], turnkeeper: Workbench
) -> None:
    url, handler = mcp
    handler.called = called
    tools = mcp_tools(url=url, allow=["pay"], timeout_seconds=3, schemas={"pay": {"type": "object", "properties": {}}})
    run = _bench(turnkeeper, tools).run("mine", "Pay", model=[call("pay"), "Well."])
    run.assert_outcomes("unknown" if unknown else "error")
    assert ("unknown" in run.calls()[0].result) is unknown


def test_an_error_says_what_is_told_beside_it(mcp: tuple[str, type[_Server]], turnkeeper: Workbench) -> None:
    url, handler = mcp
    told = {"content": [], "structuredContent": {"reason": "sold out"}, "isError": True}
    handler.called = lambda self, number: self.say(
        json.dumps({"jsonrpc": "2.0", "id": number, "result": told}).encode()
    )
    tools = mcp_tools(url=url, allow=["pay"], schemas={"pay": {"type": "object", "properties": {}}})
    run = _bench(turnkeeper, tools).run("mine", "Pay", model=[call("pay"), "Well."])
    run.assert_outcomes("error")
    assert "sold out" in run.calls()[0].result


# ---- in a session ----


def _bench(turnkeeper: Workbench, *tools: Any) -> Workbench:
    mine = Agent(name="mine", model=MODEL, system="You work.", tools=list(tools))
    return Workbench(Catalog({"mine": mine}), turnkeeper._policy)


@pytest.mark.parametrize(("effect", "outcome"), [("once", "unknown"), ("idempotent", "unknown"), ("read", "error")])
def test_only_what_changes_something_has_an_unknown_outcome(effect: Any, outcome: str, turnkeeper: Workbench) -> None:
    @tool(effect=effect)
    def pay() -> str:
        """Pay."""
        raise ToolError("The bank said nothing.", may_have_run=True)

    run = _bench(turnkeeper, pay).run("mine", "Pay", model=[call("pay"), "Well."])
    run.assert_outcomes(outcome)
    assert "The bank said nothing." in run.calls()[0].result


def test_a_command_that_was_stopped_may_have_done_its_work(turnkeeper: Workbench) -> None:
    sleeps = shell(commands={"sleep": [r"\d+"]}, cwd="work", timeout_seconds=0.5)
    run = _bench(turnkeeper, sleeps).run("mine", "Go", model=[call("shell", command="sleep", args=["5"]), "Well."])
    run.assert_outcomes("unknown")
