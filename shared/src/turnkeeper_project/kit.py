"""Where the kit's own parts are: beside this package where it was installed, in the clone where it is worked on."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

_HERE = Path(__file__).resolve().parent
_INSTALLED = _HERE / "kit"
"""What a wheel carries besides its packages: the leaves that are copied into assets, and the lock files."""
_CLONE = _HERE.parents[2]


@dataclass(frozen=True, slots=True)
class KitSource:
    """The parts of the kit that travel into what is deployed, and the files that say how."""

    root: Path
    """Holds `functions/`, `fargate_worker/`, `server/`, `deploy/`, `requirements/`, `package.json` and its lock."""
    package: Path
    """The folder of the package `turnkeeper`."""

    @property
    def functions(self) -> Path:
        return self.root / "functions"

    @property
    def worker(self) -> Path:
        return self.root / "fargate_worker"

    @property
    def server(self) -> Path:
        return self.root / "server"

    @property
    def deploy(self) -> Path:
        """Manifests of the shapes without AWS."""
        return self.root / "deploy"

    @property
    def requirements(self) -> Path:
        """What the kit itself runs with, locked by hash."""
        return self.root / "requirements" / "runtime.txt"

    @property
    def needs(self) -> Path:
        """What the kit itself asks for, which `requirements` locks."""
        return self.root / "requirements" / "runtime.in"

    @property
    def agent_sdk_requirements(self) -> Path:
        """What agents on the Claude Agent SDK need in the worker beside the lock."""
        return self.root / "requirements" / "agent-sdk.txt"

    @property
    def changelog(self) -> Path:
        return self.root / "CHANGELOG.md"

    @property
    def emulator_requirements(self) -> Path:
        return self.root / "requirements" / "ministack.txt"

    @property
    def module_paths(self) -> list[Path]:
        """Where a process that runs from here imports from, first the leaves."""
        return [self.root, self.package.parent]


def kit_source(tree: Path | None = None) -> KitSource:
    """The installed kit, or the one in a tree that is laid out like the kit's repository."""
    if tree is None:
        if _INSTALLED.is_dir():
            return KitSource(_INSTALLED, _HERE.parent / "turnkeeper")
        tree = _CLONE
    return KitSource(tree, tree / "shared" / "src" / "turnkeeper")


def clone() -> Path | None:
    """The kit's own repository, where this runs from one."""
    return None if _INSTALLED.is_dir() else _CLONE


def kit_version() -> str:
    """The version of the kit that this is: in a clone as it stands there, whatever was installed from it."""
    own = clone()
    if own is None:
        return version("turnkeeper")
    return str(tomllib.loads((own / "pyproject.toml").read_text())["project"]["version"])
