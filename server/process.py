"""One process without AWS, of the parts that it is told to have: begun in order, drained together, ended in time."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fargate_worker.health import HealthServer
from fargate_worker.metrics import Page
from fargate_worker.process import gateway_of, name_of_this, spare_the_collector, worker_of
from fargate_worker.worker import Worker
from functions import process
from functions.api.serve import FrontDoorServer
from server.chores import Chores
from server.feeds import followers_of
from server.turns import InProcessTurns
from turnkeeper.bootstrap import Kit
from turnkeeper.table import Key

if TYPE_CHECKING:
    from turnkeeper.gateway.server import GatewayServer

logger = logging.getLogger(__name__)

#: Ports that are tried one after the other, where any will do.
_PORTS = 500


@dataclass(frozen=True, slots=True)
class Parts:
    front_door: bool = False
    worker: bool = False
    chores: bool = False


class FrontDoor:
    """Answers from a thread of its own, so that the main one hears signals for all parts."""

    def __init__(self, kit: Kit, *, search: bool) -> None:
        """``search``: where the port is taken, one of those that follow it will do."""
        self._server = _listening(kit, search=search)
        self.port = self._server.port
        self._thread = threading.Thread(target=self._run, name="front door", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self, within_seconds: float) -> None:
        """Take no further connection; streams end with a frame that says where to go on."""
        self._server.config.timeout_graceful_shutdown = max(1, int(within_seconds))
        self._server.should_exit = True

    def drain(self, seconds: float) -> None:
        self._thread.join(max(0.0, seconds))

    def _run(self) -> None:
        with contextlib.suppress(SystemExit):
            asyncio.run(self._server.serve())


def _listening(kit: Kit, *, search: bool) -> FrontDoorServer:
    first = kit.settings.api_port
    for port in range(first, first + (_PORTS if search and first else 1)):
        kit.settings = kit.settings.model_copy(update={"api_port": port})
        try:
            return FrontDoorServer(kit)
        except OSError as error:
            if error.errno != errno.EADDRINUSE or not search:
                raise
    raise OSError(errno.EADDRINUSE, f"no free port from {first} on")


class Process:
    """``start`` it, and ``end`` it once it is told to stop."""

    def __init__(self, kit: Kit, parts: Parts, *, search: bool = False) -> None:
        self.kit = kit
        self._parts = parts
        process.share(kit)
        self._page = Page()
        kit.written = self._page.see
        name = name_of_this()
        self._turns: InProcessTurns | None = None
        if parts.front_door and kit.settings.front_door_turns:
            self._turns = InProcessTurns(kit, slots=kit.settings.front_door_turns, name=name)
            kit.turns = self._turns
        kit.warm()
        self.front_door = FrontDoor(kit, search=search) if parts.front_door else None
        self._chores = Chores(kit, followers_of(kit), name=name) if parts.chores else None
        self._worker: Worker | None = None
        self._gateway: GatewayServer | None = None

    def start(self) -> None:
        """Answer, then make what is dear, the model's SDK above all: whoever needs it waits for it, and nobody else."""
        if self.front_door is not None:
            self.front_door.start()
        if self._chores is not None:
            self._chores.start()
        if self._parts.worker or self._turns is not None:
            threading.Thread(target=self._start_runners, name="start", daemon=True).start()
        # Beside a front door only where somebody has said where.
        asked = not self._parts.front_door or "health_port" in self.kit.settings.model_fields_set
        if self._chores is not None and asked:
            self._serve_health(self._chores)

    @property
    def gateway_url(self) -> str | None:
        return None if self._gateway is None else self._gateway.url

    def _start_runners(self) -> None:
        kit = self.kit
        try:
            _ = kit.engine
            if self._parts.worker:
                self._gateway = gateway_of(kit)
                self._worker = worker_of(kit)
                self._page.watch(self._worker)
                self._worker.start()
            spare_the_collector()
            logger.info("runners are ready")
        except Exception:
            logger.exception("no runner can be started: nothing but the API answers")

    def _serve_health(self, chores: Chores) -> None:
        settings = self.kit.settings
        HealthServer(
            chores,
            lambda: self.kit.table.get(Key("readyz", "readyz")),
            self._page,
            host=settings.health_host,
            port=settings.health_port,
        ).start()

    def end(self) -> None:
        """Bring everything to a safe point, within ``stop_seconds``."""
        clock = self.kit.clock
        until = clock.monotonic() + self.kit.settings.stop_seconds
        if self._chores is not None:
            self._chores.stop()
        for runner in (self._turns, self._worker):
            if runner is not None:
                runner.stop()
        if self.front_door is not None:
            self.front_door.stop(until - clock.monotonic())
        clean = [runner.drain() for runner in (self._turns, self._worker) if runner is not None]
        # After the sessions, whose calls may go through it.
        if self._gateway is not None:
            self._gateway.close(within_seconds=until - clock.monotonic())
        for part in (self.front_door, self._chores):
            if part is not None:
                part.drain(until - clock.monotonic())
        logger.info("stopped" if all(clean) else "stopped with work given back")
