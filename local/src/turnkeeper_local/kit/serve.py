"""The whole kit in one process on this machine, without the emulator: what `turnkeeper serve` starts.

This process becomes it: whoever started `turnkeeper serve` has its id, and stops or kills the kit itself. Beside it
runs the stand-in model, where there is no key for Claude, for as long as it lives.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import shutil
import signal
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from turnkeeper_local.databases import VARIABLE, sqlite_url
from turnkeeper_local.kit.errors import KitError
from turnkeeper_local.kit.home import Home
from turnkeeper_local.kit.ports import HOST, free_port
from turnkeeper_local.kit.processes import Started, clean_environment, spawn
from turnkeeper_local.kit.record import Record
from turnkeeper_local.kit.settings import ANTHROPIC_URL, VARIABLES, KitSettings
from turnkeeper_local.kit.values import LocalValues
from turnkeeper_project import Project, kit_source

#: Where nobody says so. One machine, one process: a runner that is gone is soon noticed.
_LEASE_SECONDS, _SWEEP_SECONDS = 15, 5
_STOP_SECONDS = 20
_FILE = "serve.db"
#: Settings that `turnkeeper up` does not have, as they are: docs/databases.md, docs/shapes.md.
HANDED_ON = tuple(
    f"TURNKEEPER_{name}"
    for name in ("DATABASE_CONNECTIONS", "DATABASE_BLOB_BYTES", "BLOB_FOLDER", "ALERT_URL", "HEALTH_PORT")
)
#: It is one process in any case.
_NOT_HERE = {"TURNKEEPER_WORKER_PROCESSES"}
#: Where webhooks may lead besides public addresses, as on the local kit.
_OWN_NETWORKS = "127.0.0.0/8,::1/128"


def taken() -> set[str]:
    """Variables that say something here."""
    return {VARIABLE, *VARIABLES, *HANDED_ON} - _NOT_HERE


@dataclass(frozen=True)
class Serving:
    """What is about to be started."""

    home: Home
    settings: KitSettings
    database_url: str

    @classmethod
    def of(cls, database_url: str | None, environment: Mapping[str, str] = os.environ) -> Serving:
        """By the settings of the environment, and where the state is.

        Raises:
            KitError: a setting makes no sense, or the local kit is up here.
        """
        home = Home.from_environment(environment)
        home.make()
        if Record.read(home).processes:
            raise KitError("the local kit is up here, which answers to the same commands: `turnkeeper down` ends it")
        url = database_url or environment.get(VARIABLE) or sqlite_url(home.path / _FILE)
        return cls(home, KitSettings.from_environment(environment), url)

    @property
    def log(self) -> Path:
        return self.home.log("serve")

    def become(self, *, tell: int, as_json: bool) -> None:
        """Turn this process into the kit. It tells its address on the file descriptor `tell` once it answers."""
        model_url = self.settings.model_url or ANTHROPIC_URL
        if self.settings.uses_standin:
            model_url = self._start_standin()
        environment = self._environment(model_url)
        environment["TURNKEEPER_ANNOUNCED"] = json.dumps(self._document(model_url))
        command = [sys.executable, "-m", "server", "all", "--search", "--announce", str(self.home.local_json)]
        command += ["--tell", str(tell), *(["--json"] if as_json else [])]
        complain = tell if as_json else os.dup(2)
        command += ["--complain", str(complain)]
        for descriptor in (tell, complain):
            os.set_inheritable(descriptor, True)
        log = os.open(self.log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        for descriptor in (1, 2):
            os.dup2(log, descriptor)
        os.chdir(self.settings.project)
        with self.home.lock():
            there = [*serving(self.home), Started.of(os.getpid())]
            Record.read(self.home).note(serving={str(each.pid): each.to_json() for each in there})
        os.execve(sys.executable, command, environment)  # noqa: S606 - our own module

    def _start_standin(self) -> str:
        port = free_port(0)
        command: list[str | Path] = [sys.executable, "-m", "turnkeeper_local.standin", "--port", str(port)]
        if self.settings.scenario:
            command += ["--scenario", self.settings.scenario]
        command.append("--with-parent")
        # In a session of its own: Ctrl-C ends the kit first, whose turns still need it.
        spawn(
            command,
            environment=clean_environment(),
            log=self.home.log("standin"),
            folder=self.home.path,
            on_start=lambda _: None,
        )
        return f"http://{HOST}:{port}"

    def _signing_key(self) -> Path:
        """A key of this folder's own, which outlives the process: tokens that were given out stay good."""
        file = self.home.path / "signing-key"
        with suppress(FileExistsError):
            descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "w") as new:
                new.write(secrets.token_hex(32) + "\n")
        return file

    def _secrets_folder(self, values: Mapping[str, str]) -> Path:
        """The secrets of tools, as the process reads them: none is in an environment."""
        folder = self.home.path / "tool-secrets"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(mode=0o700)
        for name, value in values.items():
            (folder / name).write_text(value)
        return folder

    def _document(self, model_url: str) -> dict[str, str | None]:
        """What local.json says besides where the kit answers. What is AWS's is not there."""
        nothing = dict.fromkeys(("queue_url", "dlq_url", "table_name", "region", "aws_endpoint_url", "console_url"))
        return {**nothing, "model_url": model_url}

    def _environment(self, model_url: str) -> dict[str, str]:
        settings, project = self.settings, Project(self.settings.project)
        extra = [folder] if (folder := project.agent_sdk) is not None else []
        paths = [*kit_source(settings.source_root).module_paths, *extra]
        lease_seconds = settings.lease_seconds if "TURNKEEPER_LEASE_SECONDS" in os.environ else _LEASE_SECONDS
        values = LocalValues.read(settings.project)
        told = {
            "TURNKEEPER_ROOT": str(settings.project),
            "TURNKEEPER_AGENTS": settings.agents,
            VARIABLE: self.database_url,
            "TURNKEEPER_DATABASE_MIGRATE": "true",
            "TURNKEEPER_SIGNING_KEY_FILE": str(self._signing_key()),
            "TURNKEEPER_IDENTITY": "local",
            "TURNKEEPER_API_PORT": str(settings.first_port),
            "TURNKEEPER_GATEWAY_PORT": "0",
            "TURNKEEPER_MODEL_URL": model_url,
            "ANTHROPIC_API_KEY": settings.anthropic_api_key or "stand-in",
            "TURNKEEPER_TURN_SECONDS": f"{settings.turn_seconds:g}",
            "TURNKEEPER_LEASE_SECONDS": str(lease_seconds),
            "TURNKEEPER_SWEEP_SECONDS": str(_SWEEP_SECONDS),
            "TURNKEEPER_STOP_SECONDS": str(_STOP_SECONDS),
            "TURNKEEPER_WORKER_CONCURRENCY": str(settings.worker_concurrency),
            "TURNKEEPER_AUTO_PLACEMENT": settings.auto_placement,
            "TURNKEEPER_CORS_ORIGINS": settings.cors_origins,
            "TURNKEEPER_STREAM_SECONDS": f"{settings.stream_seconds:g}",
            "TURNKEEPER_GATEWAY_WAIT_SECONDS": f"{settings.gateway_wait_seconds:g}",
            "TURNKEEPER_WEBHOOK_NETWORKS": _OWN_NETWORKS,
            "TURNKEEPER_FETCH_CONTENTS": str(settings.fetch_contents).lower(),
            "TURNKEEPER_OTLP_ENDPOINT": settings.otlp_endpoint,
            "TURNKEEPER_TRACE_CONTENTS": settings.trace_contents,
            "TURNKEEPER_LOG_LEVEL": settings.log_level,
            "TURNKEEPER_TOOL_SETTINGS": json.dumps(dict(values.settings)),
            "TURNKEEPER_TOOL_SECRETS": json.dumps({name: name for name in values.secrets}),
            "TURNKEEPER_SECRETS_FOLDER": str(self._secrets_folder(values.secrets)),
            "POWERTOOLS_SERVICE_NAME": "serve",
            "PYTHONPATH": os.pathsep.join(map(str, paths)),
            "PYTHONUNBUFFERED": "1",
        }
        # Also where libpq looks for what a database's address leaves out.
        kept = {
            name: value for name, value in os.environ.items() if name in HANDED_ON or re.fullmatch("PG[A-Z]+", name)
        }
        return clean_environment({**kept, **{name: value for name, value in told.items() if value}})


def end_serving(home: Home) -> bool:
    """End the processes that serve here, once they have brought their sessions to a safe point; whether there were
    any."""
    processes = serving(home)
    for process in processes:
        with suppress(ProcessLookupError):
            os.kill(process.pid, signal.SIGTERM)
    until = time.monotonic() + _STOP_SECONDS + 5
    while any(process.alive() for process in processes) and time.monotonic() < until:
        time.sleep(0.05)
    return bool(processes)


def forget_served(home: Home) -> None:
    """Drop what was kept in this folder. Another database is its owner's business."""
    for file in home.path.glob(f"{_FILE}*"):
        file.unlink()


def serving(home: Home) -> list[Started]:
    """The processes that serve here: several may, on one database or each on its own."""
    noted = map(Started.from_json, Record.read(home).serving.values())
    return [process for process in noted if process.alive()]
