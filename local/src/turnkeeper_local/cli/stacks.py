"""Calling the CDK for a stage of the project: the same way for every repository, and the one that its CI goes."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from turnkeeper_local.cli.errors import CliError, UsageError
from turnkeeper_local.cli.looking import further_folders
from turnkeeper_local.kit.environments import ensure_cdk
from turnkeeper_project import Project, kit_version
from turnkeeper_project.place import shown

_APP = "python -m turnkeeper_infra.app"


@dataclass(frozen=True, slots=True)
class Called:
    """One call of the CDK, done."""

    command: list[str]
    exit_code: int


def call_cdk(
    project: Project, command: str, stage: str, options: Sequence[str], *, words: Sequence[str], to_stderr: bool
) -> Called:
    """Run `cdk COMMAND` in the project. `words` come from us and go first; `options` are the user's, and win."""
    if importlib.util.find_spec("aws_cdk") is None:
        raise CliError(
            "the CDK is not installed here",
            code="no_cdk",
            hint=f'pip install "turnkeeper[infra]=={kit_version()}"',
        )
    if shutil.which("node") is None:
        raise CliError("Node.js 20 or newer is needed for the CDK, and is not on the PATH", code="no_node")
    file = project.stages / f"{stage}.toml"
    if not file.is_file():
        there = ", ".join(sorted(path.stem for path in project.stages.glob("*.toml"))) or "none"
        raise UsageError(f"there is no stage {stage}: {file} is missing; there are: {there}", code="no_stage")
    context = ["--context", f"stage_file=stages/{stage}.toml"]
    if more := further_agents(project):
        context += ["--context", f"agents={':'.join(shown(path, project.root) for path in more)}"]
    app = [] if (project.root / "cdk.json").is_file() else ["--app", _APP]
    arguments = [command, *app, *words, *context, *options]
    done = subprocess.run(
        ["node", str(ensure_cdk(project)), *arguments],
        check=False,
        cwd=project.root,
        env=_environment(project),
        stdout=sys.stderr if to_stderr else None,
    )
    return Called(["cdk", *arguments], done.returncode)


def further_agents(project: Project) -> list[Path]:
    """The folders that `TURNKEEPER_AGENTS` names, beside the project's own; relative ones are of the working directory.

    Raises:
        UsageError: there is no such folder.
    """
    folders = further_folders()
    for folder in folders:
        if not folder.is_dir():
            raise UsageError(f"TURNKEEPER_AGENTS: there is no folder {folder}", code="no_agents")
    return [folder for folder in folders if folder != project.agents]


def _environment(project: Project) -> dict[str, str]:
    """`python` in cdk.json is the one that this runs with, whether its environment is activated or not."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    quiet = {"CDK_DISABLE_CLI_TELEMETRY": "true", "NODE_NO_WARNINGS": "1"}
    return {**os.environ, **quiet, "PATH": path, "TURNKEEPER_PROJECT": str(project.root)}
