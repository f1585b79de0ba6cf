"""Environments made once and kept: the emulator's own, which pins another botocore than ours."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

from turnkeeper_local.kit.errors import KitError
from turnkeeper_local.kit.home import file_lock
from turnkeeper_local.kit.processes import tool_environment
from turnkeeper_project import Project, kit_source
from turnkeeper_project.target import find_uv


def _cdk_places(project: Project) -> list[Path]:
    folders = [project.root, kit_source().root, project.cache / "node"]
    return [folder / "node_modules" / "aws-cdk" / "bin" / "cdk" for folder in folders]


def find_cdk(project: Project) -> Path | None:
    """The CDK command line that :func:`ensure_cdk` would take, where it is there already."""
    return next((program for program in _cdk_places(project) if program.exists()), None)


def ensure_cdk(project: Project) -> Path:
    """The CDK command line: the project's own where it has one, else as the kit locks it, installed by npm into the
    cache."""
    if there := find_cdk(project):
        return there
    kept = project.cache / "node" / "node_modules"
    kept.parent.mkdir(parents=True, exist_ok=True)
    with file_lock(project.cache / "node.lock"):
        for name in ("package.json", "package-lock.json"):
            shutil.copy(kit_source().root / name, kept.parent)
        if shutil.which("npm") is None:
            raise KitError("Node.js 20 or newer is needed for the CDK, and npm, which comes with it")
        _run(["npm", "ci", "--silent", "--no-audit", "--no-fund", "--prefix", str(kept.parent)])
    return _cdk_places(project)[-1]


def ensure_ministack(project: Project) -> Path:
    """The folder of the emulator's environment, installed as locked. Quick where that is done already."""
    requirements = kit_source().emulator_requirements
    cache = project.cache
    folder = cache / "ministack"
    stamp = folder / ".installed"
    wanted = hashlib.sha256(f"{sys.version}\0".encode() + requirements.read_bytes()).hexdigest()
    cache.mkdir(parents=True, exist_ok=True)
    with file_lock(cache / "ministack.lock"):
        if stamp.exists() and stamp.read_text() == wanted:
            return folder
        uv = find_uv()
        shutil.rmtree(folder, ignore_errors=True)
        _run([uv, "venv", "--quiet", "--python", sys.executable, str(folder)])
        python = str(folder / "bin" / "python")
        _run([uv, "pip", "sync", "--quiet", "--compile-bytecode", "--python", python, str(requirements)])
        stamp.write_text(wanted)
    return folder


def ensure_lambda_dependencies(project: Project, emulator: Path) -> Path:
    """What the Lambdas import, installed for the emulator's Python, which is what runs them."""
    if os.pathsep in str(project.cache):
        raise KitError(
            f"{project.cache}: Python imports nothing from a folder with {os.pathsep!r} in its name. "
            "Move the project, or name another folder in TURNKEEPER_CACHE"
        )
    done = _run([sys.executable, "-m", "turnkeeper_infra.bundle", "host", str(emulator / "bin" / "python")], project)
    return Path(done.stdout.strip())


def builder_environment(project: Path) -> dict[str, str]:
    """For programs of the kit that work on a project."""
    cache = {"TURNKEEPER_CACHE": os.environ["TURNKEEPER_CACHE"]} if "TURNKEEPER_CACHE" in os.environ else {}
    return tool_environment({"TURNKEEPER_PROJECT": str(project), **cache})


def _run(command: list[str], project: Project | None = None) -> subprocess.CompletedProcess[str]:
    environment = builder_environment(project.root) if project else tool_environment()
    done = subprocess.run(command, check=False, capture_output=True, text=True, env=environment)
    if done.returncode:
        raise KitError(f"`{' '.join(command)}` failed:\n{done.stderr.strip()}")
    return done
