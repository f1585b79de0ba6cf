"""Environments made once and kept: the emulator's own, which pins another botocore than ours."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

from turnkeeper_local.kit.errors import KitError
from turnkeeper_local.kit.home import file_lock
from turnkeeper_local.kit.processes import clean_environment
from turnkeeper_project import find_project, kit_source


def ensure_ministack() -> Path:
    """The folder of the emulator's environment, installed as locked. Quick where that is done already."""
    requirements = kit_source().emulator_requirements
    cache = find_project().cache
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


def find_uv() -> str:
    """The uv of our own environment, or one on the PATH."""
    beside = Path(sysconfig.get_path("scripts")) / "uv"
    found = str(beside) if beside.exists() else shutil.which("uv")
    if found is None:
        raise KitError("uv is not installed; `make setup` installs it")
    return found


def ensure_lambda_dependencies(emulator: Path) -> Path:
    """What the Lambdas import, installed for the emulator's Python, which is what runs them."""
    done = _run([sys.executable, "-m", "turnkeeper_infra.bundle", "host", str(emulator / "bin" / "python")])
    return Path(done.stdout.strip())


def builder_environment(project: Path | None = None) -> dict[str, str]:
    """For programs of the kit that work on a project, the working directory's by default."""
    cache = {"TURNKEEPER_CACHE": os.environ["TURNKEEPER_CACHE"]} if "TURNKEEPER_CACHE" in os.environ else {}
    return clean_environment({"TURNKEEPER_PROJECT": str(project or find_project().root), **cache})


def _run(command: list[str]) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(command, check=False, capture_output=True, text=True, env=builder_environment())
    if done.returncode:
        raise KitError(f"`{' '.join(command)}` failed:\n{done.stderr.strip()}")
    return done
