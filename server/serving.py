"""A process from its start to its end."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from fargate_worker.signals import Signals
from server.process import Parts, Process
from turnkeeper.adapters.logs import set_up
from turnkeeper.adapters.sql.opening import without_password
from turnkeeper.bootstrap import Kit
from turnkeeper.settings import Settings

logger = logging.getLogger(__name__)

#: What is said of a process besides where it answers: a JSON object.
ANNOUNCED = "TURNKEEPER_ANNOUNCED"
_LOOK_SECONDS = 0.1

PARTS: Mapping[str, Parts] = {
    "front-door": Parts(front_door=True),
    "chores": Parts(chores=True),
    "all": Parts(front_door=True, worker=True, chores=True),
}


def run(command: str, announced: Announced | None, *, search: bool) -> int:
    """Until SIGTERM or SIGINT, and then until everything is at a safe point."""
    signals = Signals()
    settings = Settings.from_environment()
    set_up(settings.log_level)
    kit = Kit(settings)
    kit.need_keys()
    process = Process(kit, PARTS[command], search=search)
    process.start()
    if announced is not None:
        announced.say(process)
    logger.info("%s: ready", command)
    while not signals.stop:
        kit.clock.sleep(_LOOK_SECONDS)
        if announced is not None:
            announced.keep(process)
    logger.info("told to stop: %.0f s to go", settings.stop_seconds)
    if announced is not None:
        announced.take_back()
    process.end()
    return 0


class Announced:
    """A file that says where a process answers, for as long as it does. Whoever started the process has put into its
    environment what else is to be said there."""

    def __init__(self, path: Path, *, tell: int | None = None, as_json: bool = False) -> None:
        self._path = path
        self._tell = tell
        self._as_json = as_json
        self._more: dict[str, Any] = json.loads(os.environ.get(ANNOUNCED) or "{}")
        self._said: dict[str, Any] = {}

    def say(self, process: Process) -> None:
        database = process.kit.settings.database_url
        self._more["database_url"] = None if database is None else without_password(database.get_secret_value())
        self._said = self._document(process)
        self._write(self._said)
        if self._tell is not None:
            text = json.dumps(self._said, indent=2) if self._as_json else str(self._said["api_url"])
            with suppress(OSError):  # whoever listened is gone
                os.write(self._tell, f"{text}\n".encode())

    def keep(self, process: Process) -> None:
        """Say it again where something has changed, or where another that was said there has ended."""
        now = self._document(process)
        if now != self._said or not self._path.exists():
            # Where there is no room just now it is said at a later look: what answers goes on meanwhile.
            with suppress(OSError):
                self._write(now)
                self._said = now

    def take_back(self) -> None:
        """Unless another process has said something there meanwhile."""
        with suppress(OSError, ValueError):
            if json.loads(self._path.read_text()).get("worker_pid") == os.getpid():
                self._path.unlink()

    def _document(self, process: Process) -> dict[str, Any]:
        assert process.front_door is not None
        url = f"http://127.0.0.1:{process.front_door.port}"
        answers = {"api_url": url, "stream_url": url, "gateway_url": process.gateway_url, "worker_pid": os.getpid()}
        return {**self._more, **answers}

    def _write(self, document: Mapping[str, Any]) -> None:
        """At once: a reader sees the old content or the new, never half of it. Raises OSError."""
        draft = self._path.with_name(f".{self._path.name}-{os.getpid()}")
        try:
            draft.touch(mode=0o600)
            draft.write_text(json.dumps(document, indent=2) + "\n")
            draft.replace(self._path)
        finally:
            draft.unlink(missing_ok=True)
