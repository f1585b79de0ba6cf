"""A receiver of webhooks on this machine: takes, fails, hangs, sends on or is gone, as its path says."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

#: Where ``/redirect`` sends on to, which nothing of the kit may reach by itself.
METADATA = "http://169.254.169.254/latest/meta-data/"


@dataclass(frozen=True, slots=True)
class Received:
    path: str
    headers: Mapping[str, str]
    body: bytes


@dataclass
class HookReceiver:
    """``/flaky`` fails for as often as :attr:`failures` says; ``/hang`` answers when :attr:`over` is set, ``/stuck``
    does so the first time; ``/redirect`` sends on to where nobody may go, ``/onwards`` to a path beside it; ``/gone``
    is gone; ``/large`` answers much."""

    port: int = 0
    failures: int = 1
    received: list[Received] = field(default_factory=list)
    over: threading.Event = field(default_factory=threading.Event)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.port}/{path}"

    def at(self, path: str) -> list[Received]:
        with self.lock:
            return [one for one in self.received if one.path == f"/{path}"]

    def answer(self, path: str) -> tuple[int, dict[str, str], bytes]:
        match path:
            case "/flaky":
                with self.lock:
                    self.failures -= 1
                    return (500, {}, b"not now") if self.failures >= 0 else (200, {}, b"")
            case "/hang":
                self.over.wait(60)
                return 200, {}, b""
            case "/stuck":
                if len(self.at("stuck")) == 1:
                    self.over.wait(60)
                return 200, {}, b""
            case "/redirect":
                return 302, {"Location": METADATA}, b""
            case "/onwards":
                return 307, {"Location": "/fine"}, b""
            case "/gone":
                return 410, {}, b"moved away"
            case "/large":
                return 500, {}, b"x" * 5_000_000
        return 204, {}, b""


@contextlib.contextmanager
def hook_receiver() -> Iterator[HookReceiver]:
    receiver = HookReceiver()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            with receiver.lock:
                headers = {name.lower(): value for name, value in self.headers.items()}
                receiver.received.append(Received(self.path, headers, body))
            status, more, answer = receiver.answer(self.path)
            with contextlib.suppress(OSError):
                self.send_response(status)
                for name, value in {**more, "Content-Length": str(len(answer))}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(answer)

        def log_message(self, *_: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    receiver.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield receiver
    finally:
        receiver.over.set()
        server.shutdown()
        server.server_close()
        thread.join()
