"""What the checks look at: a project's agents as they load here, its policy, and where each of them says what."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from turnkeeper.core.agent import Agent
from turnkeeper.core.policy import Policy
from turnkeeper.preflight.findings import Finding, Severity, place
from turnkeeper.preflight.policies import PolicyFile
from turnkeeper.preflight.sources import Source
from turnkeeper.runtime.catalog import Catalog


@dataclass
class Seen:
    root: Path
    provider: str
    #: Those of agents: the project's own, then further ones.
    folders: Sequence[Path]
    catalog: Catalog
    file: PolicyFile

    @property
    def policy(self) -> Policy | None:
        """``None`` where it cannot be used: what compares agents with it has nothing to say then."""
        return self.file.policy

    @cached_property
    def agents(self) -> list[Agent]:
        return sorted(self.catalog.agents.values(), key=lambda agent: agent.name)

    @cached_property
    def sources(self) -> dict[str, Source]:
        return {name: Source(folder) for name, folder in self.catalog.folders.items()}

    def of_agent(
        self, code: str, agent: Agent, at: tuple[Path, int | None], text: str, hint: str, severity: Severity = "error"
    ) -> Finding:
        """Something that is wrong with an agent, at a place in its code."""
        file, line = at
        return Finding(
            code=code,
            severity=severity,
            file=place(file, self.root),
            line=line,
            text=text,
            hint=hint,
            agent=agent.name,
        )
