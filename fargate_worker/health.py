"""Health, readiness, status and metrics over HTTP."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Protocol

logger = logging.getLogger(__name__)

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
#: The receive loop may be silent for so long: a long poll, and the retries of an SQS that is out of reach.
MAX_SILENCE_SECONDS = 180.0


class Watched(Protocol):
    """A process whose health is asked for: the worker, or another that goes on by itself."""

    @property
    def draining(self) -> bool: ...

    def quiet_seconds(self) -> float:
        """Since it last showed that it is alive; 0 where nothing is expected of it."""

    def status(self) -> Mapping[str, Any]: ...


class Counted(Protocol):
    def text(self) -> bytes:
        """What was counted, in the format that Prometheus reads."""


class HealthServer:
    """``/healthz``: the process works, or should be replaced. ``/readyz``: it takes jobs now. ``/status``: what runs.
    ``/metrics``: what it counted, for Prometheus.

    A queue or table that is out of reach makes it unready, not unhealthy: replacing it would only lose what runs.
    """

    def __init__(
        self, worker: Watched, reachable: Callable[[], object], page: Counted, *, host: str, port: int
    ) -> None:
        """``reachable`` reads from the table, and raises where that does not work."""
        routes: dict[str, Callable[[], tuple[int, Mapping[str, Any]]]] = {
            "/healthz": self._healthz,
            "/readyz": self._readyz,
            "/status": lambda: (200, worker.status()),
        }

        class Handler(BaseHTTPRequestHandler):
            timeout = 10

            def do_GET(self) -> None:
                path, content_type = self.path.partition("?")[0], "application/json"
                if path == "/metrics":
                    code, data, content_type = 200, page.text(), CONTENT_TYPE
                else:
                    code, body = routes[path]() if path in routes else (404, {"error": "not found"})
                    data = json.dumps(body).encode()
                self.send_response(code)
                self.send_header("Content-Type", content_type)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, format: str, *args: Any) -> None:
                logger.debug(format, *args)

        self._worker = worker
        self._reachable = reachable
        self._server = ThreadingHTTPServer((host, port), Handler)
        self._server.daemon_threads = True
        self.port: int = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, name="health", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def _healthz(self) -> tuple[int, dict[str, Any]]:
        silent = self._worker.quiet_seconds()
        if silent > MAX_SILENCE_SECONDS:
            return 503, {"status": "stuck", "silent_seconds": round(silent)}
        return 200, {"status": "draining" if self._worker.draining else "ok"}

    def _readyz(self) -> tuple[int, dict[str, Any]]:
        if self._worker.draining:
            return 503, {"status": "draining"}
        try:
            self._reachable()
        except Exception as error:  # noqa: BLE001 - whatever it is, no job can be done
            return 503, {"status": "unavailable", "error": type(error).__name__}
        return 200, {"status": "ready"}
