"""Secrets and settings of tools: an agent sees what it declares, and nothing else."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass

from turnkeeper.core.agent import Agent
from turnkeeper.core.errors import UndeclaredValue
from turnkeeper.core.tools import ToolValues


@dataclass(frozen=True)
class DeclaredValues:
    """What the deployment has, as far as one agent declares it: a :class:`turnkeeper.core.tools.ToolValues`."""

    agent: Agent
    values: ToolValues

    def secret(self, name: str, key: str | None = None, /) -> str:
        self._must_declare("secret", name, self.agent.secrets)
        return self.values.secret(name, key)

    def setting(self, name: str, /) -> str:
        self._must_declare("setting", name, self.agent.settings)
        return self.values.setting(name)

    def _must_declare(self, kind: str, name: str, declared: Collection[str]) -> None:
        if name not in declared:
            raise UndeclaredValue(
                f"agent {self.agent.name!r} does not declare the {kind} {name!r}: "
                f"add it to Agent({kind}s={[*declared, name]!r})"
            )


def missing_values(
    agents: Iterable[Agent], secrets: Collection[str], settings: Collection[str]
) -> list[tuple[str, str]]:
    """What agents declare and nobody gives: ``secret`` or ``setting``, and the name."""
    return [
        (kind, name)
        for agent in agents
        for kind, declared, given in (("secret", agent.secrets, secrets), ("setting", agent.settings, settings))
        for name in declared
        if name not in given
    ]
