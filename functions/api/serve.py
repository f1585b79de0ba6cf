"""The front door as a process: uvicorn, with the settings of the environment.

    python -m functions.api.serve

On SIGTERM no further connection is taken; streams end with a frame that says where to go on, and calls in flight are
answered, as long as there is time.
"""

from __future__ import annotations

import logging
import socket
import sys

import uvicorn

from functions.api.asgi import application
from functions.starting import IN_LAMBDA
from turnkeeper.adapters import logs
from turnkeeper.settings import Settings
from turnkeeper.wiring.front_door import FrontDoorKit

logger = logging.getLogger(__name__)

_BACKLOG = 2_048
#: Longer than whoever calls keeps idle connections, so that it is never us who closes one just as it is used.
_KEEP_ALIVE_SECONDS = 75
#: Between SIGTERM and the end: what a call may take.
_GRACE_SECONDS = 30
#: A client that takes nothing for so long is gone, whatever its machine says.
_USER_TIMEOUT_MILLIS = 60_000


class FrontDoorServer(uvicorn.Server):
    """Listens from the start on, at :attr:`port`; serves until it is told to stop."""

    def __init__(self, kit: FrontDoorKit) -> None:
        settings = kit.settings
        self.application = application(kit)
        self._listener = _listener(settings.api_host, settings.api_port, settings.api_fd)
        self.port: int = self._listener.getsockname()[1]
        super().__init__(
            uvicorn.Config(
                self.application,
                lifespan="on",
                ws="none",
                access_log=False,
                log_config=None,
                server_header=False,
                # Whose word counts about where a request comes from.
                proxy_headers=bool(settings.forwarded_allow_ips),
                forwarded_allow_ips=list(settings.forwarded_allow_ips),
                timeout_keep_alive=_KEEP_ALIVE_SECONDS,
                timeout_graceful_shutdown=_GRACE_SECONDS,
            )
        )

    async def serve(self, sockets: list[socket.socket] | None = None) -> None:
        await super().serve(sockets or [self._listener])

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """First the streams: uvicorn would wait for their ends before it tells the application anything."""
        self.application.state.end_streams()
        await super().shutdown(sockets)


def _listener(host: str, port: int, fd: int | None) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # The protocol is named because asyncio turns Nagle's algorithm off only where it is, and with it on a frame waits.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP, fileno=fd)
    if hasattr(socket, "TCP_USER_TIMEOUT"):  # inherited by each connection
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _USER_TIMEOUT_MILLIS)
    if fd is None:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(_BACKLOG)
    return listener


def main() -> int:
    settings = Settings.from_environment()
    logs.set_up(settings.log_level)
    kit = FrontDoorKit(settings, bundled=IN_LAMBDA)
    kit.warm()
    server = FrontDoorServer(kit)
    logger.info("the front door listens", extra={"port": server.port})
    server.run()
    return 0


if __name__ == "__main__":
    sys.exit(main())
