"""The worker as a process: with the settings that the deployed turn Lambda has, and a supervisor in place of ECS."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Mapping
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


def start_worker(
    home: Home,
    ministack: Ministack,
    deployed: Deployed,
    settings: KitSettings,
    document: Mapping[str, Any],
    *,
    dependencies: Path,
    on_start: OnStart,
) -> None:
    """Start supervisor and worker, and wait for the worker's health. The supervisor writes `local.json`."""
    environment = _environment(ministack, deployed, settings, dependencies)
    path = home.path / "supervise.json"
    with picking():
        health_port = free_port(settings.first_port)
        # The same for every worker of this kit: clients keep the address.
        gateway_port = free_port(health_port + 1 if settings.first_port else 0)
        ports = {"TURNKEEPER_HEALTH_PORT": str(health_port), "TURNKEEPER_GATEWAY_PORT": str(gateway_port)}
        specification = {
            "command": [sys.executable, "-m", "fargate_worker"],
            "environment": {**environment, **ports},
            # First on the worker's module path, with `agents/` and `policy.toml` as in its image.
            "folder": str(settings.project),
            "log": str(home.log("worker")),
            "local_json": str(home.local_json),
            "document": {**document, "gateway_url": f"http://{HOST}:{gateway_port}"},
        }
        write_json(path, specification)
        process, popen = spawn(
            [sys.executable, "-m", "turnkeeper_local.kit.supervise", path],
            environment=clean_environment(),
            log=home.log("supervisor"),
            folder=home.path,
            on_start=on_start,
        )
        ready = wait_until(
            lambda: home.local_json.exists() and answers(f"http://{HOST}:{health_port}/healthz"),
            within_seconds=_READY_SECONDS,
            while_alive=lambda: popen.poll() is None,
        )
    if not ready:
        process.end(grace_seconds=0)
        raise with_log_tail("the worker did not become healthy", home.log("worker"))


def replace_worker(home: Home, supervisor: Started, *, first_port: int) -> None:
    """Start a worker with the code as it is now, and let the one before hand on what it runs."""
    path = home.path / "supervise.json"
    before = (read_json(home.local_json) or {}).get("worker_pid")
    with picking():
        health_port = free_port(first_port)
        specification = read_json(path)
        if specification is None:
            raise KitError("no local kit is up")
        specification["environment"]["TURNKEEPER_HEALTH_PORT"] = str(health_port)
        write_json(path, specification)
        os.kill(supervisor.pid, signal.SIGHUP)
        ready = wait_until(
            lambda: (
                (read_json(home.local_json) or {}).get("worker_pid") != before
                and answers(f"http://{HOST}:{health_port}/healthz")
            ),
            within_seconds=_READY_SECONDS,
            while_alive=supervisor.alive,
        )
    if not ready:
        raise with_log_tail("the worker did not become healthy", home.log("worker"))


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
            # Its tenants are all somebody who may read this machine's files.
            "TURNKEEPER_AGENT_SDK_SLOTS": "4",
            "PYTHONPATH": os.pathsep.join(map(str, (leaves, dependencies, package, *extra))),
            "PYTHONUNBUFFERED": "1",
            **({"TURNKEEPER_AGENTS": settings.agents} if settings.agents else {}),
        }
    )
