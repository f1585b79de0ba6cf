"""Refuses to synthesize what would fail in every turn: agents and policy are looked at before they are deployed.

The CDK app imports nothing of the code that it deploys, so it asks `turnkeeper.preflight` in a process of its own.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

from turnkeeper_infra.config import Config, ConfigError


def check_models(config: Config) -> list[str]:
    """What is to be said about the agents of a deployment; nothing for the emulator, where `turnkeeper doctor` does.

    Raises:
        ConfigError: with `model_provider=bedrock`, a model of an agent has no name there; or policy.toml caps an agent
            that does not exist. Each is told by name.
    """
    if config.local:
        return []
    found = _findings(config.project, config.kit.package.parent, config.model_provider, *config.agent_folders[1:])
    if found["problems"]:
        raise ConfigError("\n".join(found["problems"]))
    return [f"agent {name} is not checked, it could not be loaded here: {why}" for name, why in found["broken"].items()]


@cache
def _findings(root: Path, package: Path, provider: str, *folders: Path) -> Any:
    command = [sys.executable, "-m", "turnkeeper.preflight", str(root), provider, *map(str, folders)]
    paths = [str(package), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)  # noqa: S603
    if done.returncode:
        raise ConfigError(f"the agents below {root} could not be looked at:\n{done.stderr.strip()}")
    # An agent's module may print what it likes while it is imported.
    return json.loads(done.stdout.splitlines()[-1])
