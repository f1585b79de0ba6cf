"""The kit as somebody else has it: a wheel, built from this tree and installed into an environment of its own.

The other packages are those of the environment that the tests run in, so nothing asks a network.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.repository import REPOSITORY
from turnkeeper_project.target import find_uv

_TREE = ("shared", "infra", "local", "functions", "fargate_worker", "server", "deploy", "requirements")
_FILES = ("pyproject.toml", "package.json", "package-lock.json", "CHANGELOG.md", "README.md", "LICENSE")


@dataclass(frozen=True)
class Installed:
    """An environment that holds the wheel."""

    folder: Path
    wheel: Path

    @property
    def python(self) -> Path:
        return self.folder / "bin" / "python"

    @property
    def scripts(self) -> Path:
        return self.folder / "bin"

    def run(self, *arguments: str, cwd: Path, code: int = 0, **environment: str) -> subprocess.CompletedProcess[str]:
        """Call `turnkeeper` of this environment, as from a shell in which nothing is set, and hold its exit code."""
        kept = {name: os.environ[name] for name in ("HOME", "UV_CACHE_DIR") if name in os.environ}
        node = Path(shutil.which("node") or "/usr/bin/node").parent
        done = subprocess.run(
            [self.scripts / "turnkeeper", *arguments],
            cwd=cwd,
            env={**kept, "PATH": f"{node}:/usr/bin:/bin", "COLUMNS": "200", "UV_OFFLINE": "1", **environment},
            check=False,
            capture_output=True,
            text=True,
        )
        assert done.returncode == code, f"{arguments}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done


def copy_tree(folder: Path) -> Path:
    """What a wheel is built from, to be changed before it is."""
    for name in _TREE:
        shutil.copytree(REPOSITORY / name, folder / name, ignore=shutil.ignore_patterns("*.egg-info"))
    for name in _FILES:
        shutil.copy(REPOSITORY / name, folder)
    return folder


def install_wheel(tree: Path, folder: Path) -> Installed:
    """Build and install; skips where hatchling was never fetched on this machine."""
    uv = find_uv()
    built = folder / "dist"
    done = subprocess.run(
        [uv, "build", "--quiet", "--offline", "--wheel", "-o", str(built), str(tree)],
        check=False, capture_output=True, text=True,
    )  # fmt: skip
    if done.returncode and "network was disabled" in done.stderr:
        pytest.skip("hatchling, which builds the wheel, is not in uv's cache on this machine")
    assert done.returncode == 0, done.stderr
    [wheel] = built.glob("*.whl")
    environment = folder / "venv"
    subprocess.run([uv, "venv", "--quiet", "--python", sys.executable, str(environment)], check=True)
    python = environment / "bin" / "python"
    subprocess.run(
        [uv, "pip", "install", "--quiet", "--offline", "--no-deps", "--python", str(python), str(wheel)], check=True
    )
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    borrowed = [path for path in sys.path if Path(path).name == "site-packages"] or [sysconfig.get_path("purelib")]
    (environment / "lib" / version / "site-packages" / "borrowed.pth").write_text("\n".join(borrowed) + "\n")
    (environment / "bin" / "uv").symlink_to(Path(uv).resolve())
    return Installed(environment, wheel)
