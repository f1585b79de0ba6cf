"""Worker and front door as processes: with the settings that the deployed turn Lambda has, and a supervisor each in
place of ECS."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from turnkeeper_local.kit.deploy import Deployed
from turnkeeper_local.kit.errors import KitError, with_log_tail
from turnkeeper_local.kit.home import Home, read_json, write_json
from turnkeeper_local.kit.http import answers, wait_until
from turnkeeper_local.kit.ministack import Ministack
from turnkeeper_local.kit.ports import HOST, free_port, picking
from turnkeeper_local.kit.processes import OnStart, Started, clean_environment, spawn
from turnkeeper_local.kit.settings import KitSettings
from turnkeeper_project import Project, kit_source

if TYPE_CHECKING:
    from mypy_boto3_lambda import LambdaClient

_READY_SECONDS = 30

PROCESSES = ("worker", "front_door")
"""What is kept running, by the names in the kit's record."""


def start_processes(
    home: Home,
    ministack: Ministack,
    deployed: Deployed,
    settings: KitSettings,
    document: Mapping[str, Any],
    *,
    dependencies: Path,
    noting: Callable[[str], OnStart],
) -> None:
    """Start worker and front door, each with its supervisor, and wait until they answer. The worker's supervisor writes
    `local.json`."""
    environment = _environment(ministack, deployed, settings, dependencies)
    with picking():
        health_port = free_port(settings.first_port)
        # The same for all that follow it in this kit: clients keep the address.
        gateway_port = free_port(health_port + 1 if settings.first_port else 0)
        api_port = free_port(gateway_port + 1 if settings.first_port else 0)
        ports = {"TURNKEEPER_HEALTH_PORT": str(health_port), "TURNKEEPER_GATEWAY_PORT": str(gateway_port)}
        urls = {"gateway_url": f"http://{HOST}:{gateway_port}", "stream_url": f"http://{HOST}:{api_port}"}
        front_door = {
            **_process(home, settings, "front_door", "functions.api.serve"),
            "environment": {
                **environment,
                "POWERTOOLS_SERVICE_NAME": "stream",
                "TURNKEEPER_TURN_FUNCTION": deployed.turn_function,
                "TURNKEEPER_CORS_ORIGINS": settings.cors_origins,
                "TURNKEEPER_STREAM_SECONDS": f"{settings.stream_seconds:g}",
            },
            "listen": [HOST, api_port],
        }
        worker = {
            **_process(home, settings, "worker", "fargate_worker"),
            "environment": {**environment, **ports},
            "local_json": str(home.local_json),
            "document": {**document, **urls},
        }
        # Both at once: each takes a while to import what it needs.
        started = {
            "front_door": _supervised(home, "front_door", front_door, noting),
            "worker": _supervised(home, "worker", worker, noting),
        }
        health = {"front_door": f"http://{HOST}:{api_port}/v1/health", "worker": _worker_health(health_port)}
        for name, (_, popen) in started.items():
            if not wait_until(
                partial(_is_up, home, health[name]),
                within_seconds=_READY_SECONDS,
                while_alive=partial(_runs, popen),
            ):
                for process, _ in started.values():
                    process.end(grace_seconds=0)
                raise with_log_tail(f"the {name} does not answer", home.log(name))


def replace_processes(home: Home, supervisors: Mapping[str, Started], *, first_port: int) -> None:
    """Start a worker and a front door with the code as it is now, and let those before bring their work to its end."""
    before = (read_json(home.local_json) or {}).get("worker_pid")
    with picking():
        health_port = free_port(first_port)
        path = _specification(home, "worker")
        specification = read_json(path)
        if specification is None:
            raise KitError("no local kit is up")
        specification["environment"]["TURNKEEPER_HEALTH_PORT"] = str(health_port)
        write_json(path, specification)
        for supervisor in supervisors.values():
            os.kill(supervisor.pid, signal.SIGHUP)
        ready = wait_until(
            lambda: (
                (read_json(home.local_json) or {}).get("worker_pid") != before and answers(_worker_health(health_port))
            ),
            within_seconds=_READY_SECONDS,
            while_alive=supervisors["worker"].alive,
        )
    if not ready:
        raise with_log_tail("the worker did not become healthy", home.log("worker"))


def _process(home: Home, settings: KitSettings, name: str, module: str) -> dict[str, Any]:
    return {
        "command": [sys.executable, "-m", module],
        # First on the module path, with `agents/` and `policy.toml` as in an image.
        "folder": str(settings.project),
        "log": str(home.log(name)),
    }


def _supervised(
    home: Home, name: str, specification: Mapping[str, Any], noting: Callable[[str], OnStart]
) -> tuple[Started, subprocess.Popen[bytes]]:
    path = _specification(home, name)
    write_json(path, specification)
    return spawn(
        [sys.executable, "-m", "turnkeeper_local.kit.supervise", path],
        environment=clean_environment(),
        log=home.log("supervisor"),
        folder=home.path,
        on_start=noting(name),
    )


def _is_up(home: Home, url: str) -> bool:
    return home.local_json.exists() and answers(url)


def _runs(popen: subprocess.Popen[bytes]) -> bool:
    return popen.poll() is None


def _specification(home: Home, name: str) -> Path:
    return home.path / f"supervise_{name}.json"


def _worker_health(port: int) -> str:
    return f"http://{HOST}:{port}/healthz"


def _environment(ministack: Ministack, deployed: Deployed, settings: KitSettings, dependencies: Path) -> dict[str, str]:
    """The turn Lambda's own settings, read back from the deployment, and what only the worker has. It imports what is
    locked for the project, as Lambda does, whatever the environment holds that it is started from."""
    leaves, package = kit_source(settings.source_root).module_paths
    # Only the worker may need it, and it is large.
    extra = [folder] if (folder := Project(settings.project).agent_sdk) is not None else []
    client: LambdaClient = ministack.client("lambda")
    function = client.get_function_configuration(FunctionName=deployed.turn_function)
    lambda_settings = dict(function["Environment"]["Variables"])
    lambda_settings.pop("PYTHONPATH", None)
    return clean_environment(
        {
            **lambda_settings,
            **ministack.environment(),
            "POWERTOOLS_SERVICE_NAME": "worker",
            "TURNKEEPER_WORKER_CONCURRENCY": str(settings.worker_concurrency),
            "TURNKEEPER_WORKER_PROCESSES": str(settings.worker_processes),
            "TURNKEEPER_GATEWAY_WAIT_SECONDS": f"{settings.gateway_wait_seconds:g}",
            # Its tenants are all somebody who may read this machine's files.
            "TURNKEEPER_AGENT_SDK_SLOTS": "4",
            "PYTHONPATH": os.pathsep.join(map(str, (leaves, dependencies, package, *extra))),
            "PYTHONUNBUFFERED": "1",
            **({"TURNKEEPER_AGENTS": settings.agents} if settings.agents else {}),
        }
    )
