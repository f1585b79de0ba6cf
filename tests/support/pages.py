"""A web server on 127.0.0.1 that says what a test wrote down."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

Server = TypeVar("Server", bound=http.server.HTTPServer)
Handler = Callable[["PageRequest"], None]


class PageRequest(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: PageServer

    def handle_any(self) -> None:
        self.server.seen.append((self.command, self.path, dict(self.headers.items())))
        length = int(self.headers.get("content-length") or 0)
        self.server.bodies.append(self.rfile.read(length) if length else b"")
        self.close_connection = True
        page = self.server.pages.get(self.path.split("?")[0])
        if page is None:
            self.answer(b"not here", status=404)
        else:
            page(self)

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = do_PATCH = do_OPTIONS = handle_any

    def answer(self, data: bytes, status: int = 200, content_type: str | None = "text/plain", **headers: str) -> None:
        self.send_response(status)
        if content_type:
            self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(data)))
        for key, value in headers.items():
            self.send_header(key.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def log_message(self, *args: Any) -> None:
        pass


class PageServer(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, pages: dict[str, Handler]) -> None:
        super().__init__(("127.0.0.1", 0), PageRequest)
        self.pages = pages
        self.seen: list[tuple[str, str, dict[str, str]]] = []
        self.bodies: list[bytes] = []

    def handle_error(self, request: Any, client_address: Any) -> None:
        pass

    @property
    def port(self) -> int:
        return self.server_address[1]


def page(data: bytes, **keywords: Any) -> Handler:
    return lambda request: request.answer(data, **keywords)


def redirect(to: str, status: int = 302) -> Handler:
    return lambda request: request.answer(b"", status=status, Location=to)


@contextmanager
def serving(server: Server) -> Iterator[Server]:
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()


@contextmanager
def answering(handler: type[http.server.BaseHTTPRequestHandler]) -> Iterator[str]:
    """A server whose requests this class takes, each in a thread; its address."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    with serving(server):
        yield f"http://127.0.0.1:{server.server_port}"
