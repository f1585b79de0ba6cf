"""Finding the repository that a command is about."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from turnkeeper_project.kit import clone

MARKER = "policy.toml"
"""A folder that holds it is a team's repository."""


class NoProject(Exception):
    """There is no repository of agents here."""


def shown(path: Path, root: Path) -> str:
    """A file's name as it is told: from the project on, or whole where it is elsewhere."""
    return str(path.relative_to(root)) if path.is_relative_to(root) else str(path)


@dataclass(frozen=True, slots=True)
class Project:
    """A repository: agents, policy, stages, and what they are locked to."""

    root: Path

    @property
    def agents(self) -> Path:
        return self.root / "agents"

    @property
    def policy(self) -> Path:
        return self.root / MARKER

    @property
    def stages(self) -> Path:
        return self.root / "stages"

    @property
    def lock(self) -> Path:
        """What its agents import, by version and hash; without it the kit's own lock holds."""
        return self.root / "requirements.lock"

    @property
    def cache(self) -> Path:
        """What can be made again: environments, bundles, assemblies. `TURNKEEPER_CACHE` shares it between projects."""
        chosen = os.environ.get("TURNKEEPER_CACHE")
        return Path(chosen).resolve() if chosen else self.root / ".turnkeeper"

    @property
    def agent_sdk(self) -> Path | None:
        """Where `make sdk` has put the Claude Agent SDK, if it has."""
        folder = self.cache / "agent-sdk"
        return folder if folder.is_dir() else None


def find_project(start: Path | None = None, environment: Mapping[str, str] = os.environ) -> Project:
    """The repository that `TURNKEEPER_PROJECT` names; else the one around `start` (the working directory); else the
    kit's own, where this runs from a clone of it.

    Raises:
        NoProject: there is none; the text says how to make one.
    """
    if named := environment.get("TURNKEEPER_PROJECT"):
        root = Path(named).resolve()
        if not (root / MARKER).is_file():
            raise NoProject(f"TURNKEEPER_PROJECT: there is no {MARKER} in {root}")
        return Project(root)
    here = (start or Path.cwd()).resolve()
    for folder in (here, *here.parents):
        if (folder / MARKER).is_file():
            return Project(folder)
    if own := clone():
        return Project(own)
    raise NoProject(f"there is no {MARKER} in {here} or above it; `turnkeeper init NAME` makes a repository of agents")
