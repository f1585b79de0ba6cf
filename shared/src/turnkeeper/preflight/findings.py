"""What is found, in the shape in which it is told."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

Severity = Literal["error", "warning"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that is wrong. Its fields are those of ``turnkeeper check --json``."""

    #: What kind of thing, for programs: ``policy_key``, ``scope_of_nobody`` ...
    code: str
    #: An ``error`` is not deployed, a ``warning`` is told.
    severity: Severity
    #: Relative to the project where it is in it.
    file: str
    line: int | None
    text: str
    #: What to do about it.
    hint: str
    #: Whose it is, where it is one agent's.
    agent: str | None = None
    #: More to read, such as a traceback.
    detail: str | None = None


@dataclass(frozen=True)
class Findings:
    """Everything that was found, errors first."""

    findings: tuple[Finding, ...]
    #: Each agent that could be loaded, as ``turnkeeper agents`` shows it.
    agents: tuple[Mapping[str, Any], ...]

    def document(self) -> dict[str, Any]:
        return {"findings": [asdict(finding) for finding in self.findings], "agents": list(self.agents)}


def place(path: Path, root: Path) -> str:
    """A file's name as it is told: from the project on, or whole where it is elsewhere."""
    path, root = path.absolute(), root.absolute()
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else str(path)
