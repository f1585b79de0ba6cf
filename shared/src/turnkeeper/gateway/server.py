"""Serves the gateway from a thread of its own."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import threading

import uvicorn

from turnkeeper.gateway.app import App
from turnkeeper.gateway.core import Gateway

logger = logging.getLogger(__name__)

_BACKLOG = 2_048


class _Quiet(logging.Filter):
    """Drops the complaint about an answer that is left unfinished because the provider's was."""

    def filter(self, record: logging.LogRecord) -> bool:
        return "returned without completing response" not in record.getMessage()


class GatewayServer:
    """Listens from the start on; :meth:`start` begins to answer. Two processes may listen on one port at a time: the
    next worker answers while the one before brings its calls to their end."""

    def __init__(self, gateway: Gateway, *, host: str, port: int) -> None:
        self._gateway = gateway
        self._drain_seconds = 0.0
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        # The protocol is named because asyncio turns Nagle's algorithm off only where it is, and with
        # it on every answer takes 40 ms.
        self._socket = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if port:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        self._socket.bind((host, port))
        self._socket.listen(_BACKLOG)
        self.port: int = self._socket.getsockname()[1]
        shown = f"[{host}]" if ":" in host else host
        self.url = f"http://{shown}:{self.port}"
        logging.getLogger("uvicorn.error").addFilter(_Quiet())
        self._config = uvicorn.Config(
            App(gateway),
            lifespan="off",
            access_log=False,
            log_config=None,
            server_header=False,
            date_header=False,
            backlog=_BACKLOG,
            # Longer than who calls keeps idle ones, so that it is never us who closes one just as it is used.
            timeout_keep_alive=1_300,
        )
        self._server = uvicorn.Server(self._config)
        self._thread = threading.Thread(target=self._run, name="gateway", daemon=True)

    def start(self) -> None:
        self._thread.start()
        self._gateway.url = self.url

    def close(self, *, within_seconds: float = 5.0) -> None:
        """No further connection is taken. Waits until calls in flight are settled; what is not done by then is left to
        the sweep, which doubts it."""
        self._drain_seconds = max(0.0, within_seconds)
        self._config.timeout_graceful_shutdown = int(self._drain_seconds) + 1
        self._server.should_exit = True
        if self._thread.is_alive():
            self._thread.join(self._drain_seconds + 2)
        self._gateway.till.close()

    def _run(self) -> None:
        with contextlib.suppress(SystemExit):
            asyncio.run(self._serve())

    async def _serve(self) -> None:
        await self._server.serve(sockets=[self._socket])
        # Clients may be gone; the answers are read to their end all the same.
        await self._gateway.drain(self._drain_seconds)
