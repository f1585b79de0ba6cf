"""A small server that answers like the API: enough of it to test a client against, and to make it misbehave."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any
from urllib.parse import parse_qs, urlsplit

Document = dict[str, Any]
#: Answers instead of the server, where it returns something: status and body.
Override = Callable[["Request"], tuple[int, Document] | None]

AT = "2026-11-22T10:00:00.000Z"


class Request:
    def __init__(self, handler: BaseHTTPRequestHandler) -> None:
        split = urlsplit(handler.path)
        self.method = handler.command
        self.path = split.path
        self.query = {name: values[0] for name, values in parse_qs(split.query).items()}
        self.headers = {name.lower(): value for name, value in handler.headers.items()}
        length = int(handler.headers.get("content-length") or 0)
        self.body: Any = json.loads(handler.rfile.read(length) or "null")


class FakeApi:
    def __init__(self) -> None:
        self.requests: list[Request] = []
        self.sessions: dict[str, Document] = {}
        self.events: dict[str, list[Document]] = {}
        self.agents = [
            {"name": name, "model": "claude-sonnet-5-5", "placement": "auto", "formerly": formerly}
            for name, formerly in (("analyst", ["counter"]), ("support", []))
        ]
        self.override: Override = lambda _: None
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._thread = threading.Thread(target=lambda: self._server.serve_forever(poll_interval=0.01), daemon=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}/base"

    def __enter__(self) -> FakeApi:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()

    # ---- what it holds ----

    def session(self, session_id: str, *events: Document, **fields: Any) -> Document:
        """A session with these events; fields that are not given are those of an idle one."""
        answers = [event for event in events if event["type"] == "assistant"]
        numbered = [{"seq": seq, "at": AT, **event} for seq, event in enumerate(events, start=1)]
        self.events[session_id] = numbered
        self.sessions[session_id] = {
            "session_id": session_id,
            "agent": "support",
            "tenant_id": "local",
            "user_id": "dev",
            "status": "idle",
            "stop": {"reason": "end_turn", "detail": {}},
            "output_text": "Hello.",
            "output": [{"type": "text", "text": "Hello."}],
            "steps": len(answers),
            "iterations": len(answers),
            "usage": {},
            "cost_usd": "0.001234",
            "last_seq": len(events),
            "continuation_token": None,
            "placement": "auto",
            "runner": "lambda",
            "granted_tools": ["get_invoice"],
            "limits": {"max_iterations": 25, "task_usd": "1.00"},
            "created_at": AT,
            "updated_at": AT,
            "metadata": {},
            "scores": [],
            **fields,
        }
        return self.sessions[session_id]

    def asked(self, method: str, path: str) -> list[Request]:
        return [request for request in self.requests if (request.method, request.path) == (method, f"/base/v1/{path}")]

    # ---- what it answers ----

    def answer(self, request: Request) -> tuple[int, Document]:
        self.requests.append(request)
        if (overridden := self.override(request)) is not None:
            return overridden
        path = request.path.removeprefix("/base/v1/")
        if path == "health":
            return 200, {"status": "ok"}
        if path == "agents":
            return 200, {"agents": self.agents}
        if path == "spend":
            scope = {"scope": "user_daily", "spent_usd": "1.500000", "reserved_usd": "0.000000", "cap_usd": "20.000000"}
            who = {"tenant_id": request.headers["x-tenant-id"], "user_id": request.headers["x-user-id"]}
            scopes = [
                {**scope, "resets_at": AT},
                {**scope, "scope": "task", "cap_usd": "unlimited", "resets_at": None},
                {**scope, "scope": "agent_daily", "agent": "support", "resets_at": AT},
            ]
            return 200, {**who, "session_id": request.query.get("session_id"), "scopes": scopes}
        if (request.method, path) == ("POST", "sessions"):
            made = self.session("ses_new", user(str(request.body["input"])), assistant("Hello."), status("idle"))
            return 200, made
        if (request.method, path) == ("GET", "sessions"):
            wanted = request.query.get("status")
            found = [one for one in self.sessions.values() if wanted in (None, one["status"])]
            return 200, {"sessions": found, "next_cursor": None}
        if path == "continue":
            session_id = request.body["continuation_token"].removeprefix("token-")
            self.sessions[session_id].update(status="idle", continuation_token=None)
            return 200, self.sessions[session_id]
        return self._about_session(request, path)

    def _about_session(self, request: Request, path: str) -> tuple[int, Document]:
        found = re.fullmatch(r"sessions/([^/]+)(?:/(\w+))?", path)
        if found is None or found[1] not in self.sessions:
            return problem(404, "session_not_found", "there is no such session")
        session, events = self.sessions[found[1]], self.events[found[1]]
        match request.method, found[2]:
            case "GET", None:
                return 200, session
            case "DELETE", None:
                session["status"] = "erased"
                return 204, {}
            case "GET", "events":
                after = int(request.query.get("after", 0))
                page = [event for event in events if event["seq"] > after]
                return 200, {"events": page, "last_seq": len(events), "status": session["status"]}
            case "POST", "cancel":
                session["status"] = "cancelled"
                return 200, session
            case "POST", "turns":
                for event in (user(request.body["input"]), assistant("Again."), status("idle")):
                    events.append({"seq": len(events) + 1, "at": AT, **event})
                session.update(last_seq=len(events), output_text="Again.")
                return 200, session
        return problem(404, "session_not_found", "there is no such call")

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        fake = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def handle_any(self) -> None:
                status_code, document = fake.answer(Request(self))
                body = b"" if status_code == 204 else json.dumps(document).encode()
                self.send_response(status_code)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            do_GET = do_POST = do_DELETE = handle_any

            def log_message(self, format: str, *args: Any) -> None:
                return

        return Handler


def problem(status_code: int, code: str, detail: str, **more: Any) -> tuple[int, Document]:
    return status_code, {
        "type": "about:blank",
        "title": code,
        "status": status_code,
        "code": code,
        "detail": detail,
        **more,
    }


def user(text: str) -> Document:
    return {"type": "user", "content": [{"type": "text", "text": text}]}


def assistant(text: str = "", *calls: tuple[str, str, Document], cost: str = "0.001234") -> Document:
    content: list[Document] = [{"type": "text", "text": text}] if text else []
    content += [{"type": "tool_use", "id": id, "name": name, "input": given} for id, name, given in calls]
    usage = {"input_tokens": 100, "output_tokens": 20, "cache_read_input_tokens": 900}
    return {
        "type": "assistant",
        "content": content,
        "usage": usage,
        "cost_usd": cost,
        "model": "claude-sonnet-5-5",
        "stop_reason": "tool_use" if calls else "end_turn",
        "duration_ms": 1500,
    }


def results(*found: tuple[str, str, str, str]) -> Document:
    """Each as id, tool, outcome, text."""
    return {
        "type": "tool_results",
        "results": [
            {
                "tool_use_id": id,
                "tool": tool,
                "is_error": outcome != "ok",
                "outcome": outcome,
                "duration_ms": 12,
                "content": [{"type": "text", "text": text}],
            }
            for id, tool, outcome, text in found
        ],
    }


def status(to: str, reason: str | None = None, **detail: Any) -> Document:
    stop = {"reason": reason, "detail": detail} if reason else None
    return {"type": "status", "status": to, "stop": stop, "runner": "lambda"}
