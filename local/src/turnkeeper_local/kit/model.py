"""Who answers as the model: the stand-in of this repository, unless there is a key for the real one."""

from __future__ import annotations

import sys
from pathlib import Path

from turnkeeper_local.kit.errors import with_log_tail
from turnkeeper_local.kit.home import Home
from turnkeeper_local.kit.http import answers, wait_until
from turnkeeper_local.kit.ports import HOST, free_port, picking
from turnkeeper_local.kit.processes import OnStart, clean_environment, spawn
from turnkeeper_local.kit.settings import KitSettings

_START_SECONDS = 20


def start_standin(home: Home, settings: KitSettings, *, on_start: OnStart) -> str:
    """Start the stand-in model and wait until it answers; return its address."""
    log = home.log("standin")
    with picking():
        port = free_port(settings.first_port)
        command: list[str | Path] = [sys.executable, "-m", "turnkeeper_local.standin", "--port", str(port)]
        if settings.scenario:
            command += ["--scenario", settings.scenario]
        process, popen = spawn(command, environment=clean_environment(), log=log, folder=home.path, on_start=on_start)
        url = f"http://{HOST}:{port}"
        if not wait_until(
            lambda: answers(f"{url}/healthz"),
            within_seconds=_START_SECONDS,
            while_alive=lambda: popen.poll() is None,
        ):
            process.end(grace_seconds=0)
            raise with_log_tail("the stand-in model did not start", log)
    return url
