"""A process from its start to its end."""

from __future__ import annotations

import json
import logging
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fargate_worker.__main__ import Signals
from server.process import Parts, Process
from turnkeeper.adapters.logs import set_up
from turnkeeper.bootstrap import Kit
from turnkeeper.settings import Settings

logger = logging.getLogger(__name__)

PARTS: Mapping[str, Parts] = {
    "front-door": Parts(front_door=True),
    "chores": Parts(chores=True),
    "all": Parts(front_door=True, worker=True, chores=True),
}


def run(command: str, *, announce: Path | None, search: bool) -> int:
    """Until SIGTERM or SIGINT, and then until everything is at a safe point."""
    signals = Signals()
    settings = Settings.from_environment()
    set_up(settings.log_level)
    kit = Kit(settings)
    process = Process(kit, PARTS[command], search=search)
    process.start()
    announced = Announced(announce) if announce is not None else None
    if announced is not None:
        announced.say(process)
    logger.info("%s: ready", command)
    process.wait(signals)
    logger.info("told to stop: %.0f s to go", settings.stop_seconds)
    if announced is not None:
        announced.take_back()
    process.end()
    return 0


class Announced:
    """A file that says where a process answers. Whoever started it has put into it what else is to be said."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._more: dict[str, Any] = json.loads(os.environ.get("TURNKEEPER_ANNOUNCED") or "{}")

    def say(self, process: Process) -> None:
        assert process.front_door is not None
        url = f"http://127.0.0.1:{process.front_door.port}"
        told = {**self._more, "api_url": url, "stream_url": url, "worker_pid": os.getpid()}
        told["gateway_url"] = process.gateway_url
        descriptor, draft = tempfile.mkstemp(prefix=f".{self._path.name}-", dir=self._path.parent)
        with os.fdopen(descriptor, "w") as file:
            file.write(json.dumps(told, indent=2) + "\n")
        Path(draft).replace(self._path)

    def take_back(self) -> None:
        """Unless another process has said something there meanwhile."""
        try:
            told = json.loads(self._path.read_text())
        except (OSError, ValueError):
            return
        if told.get("worker_pid") == os.getpid():
            self._path.unlink(missing_ok=True)
