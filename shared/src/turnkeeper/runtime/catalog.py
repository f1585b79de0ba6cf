"""The agents that are deployed: found by their folders, a broken one told by name without taking the others down."""

from __future__ import annotations

import importlib.util
import logging
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from turnkeeper.core.agent import Agent
from turnkeeper.core.errors import AgentNotFound

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Catalog:
    agents: Mapping[str, Agent]
    #: Folder name of an agent that could not be loaded, and why.
    broken: Mapping[str, str] = field(default_factory=dict)

    def get(self, name: str) -> Agent:
        """Raises AgentNotFound; for a broken one it says so, without the details."""
        if name in self.agents:
            return self.agents[name]
        if name in self.broken:
            raise AgentNotFound(f"agent {name!r} is deployed but broken; its operator sees why in the logs", agent=name)
        raise AgentNotFound(f"there is no agent {name!r}", agent=name)


def load_agents(folders: Iterable[Path]) -> Catalog:
    """Every ``NAME/agent.py`` in these folders, by the name of its agent; a later folder cannot replace an earlier
    one's agent."""
    agents: dict[str, Agent] = {}
    broken: dict[str, str] = {}
    for folder in folders:
        for file in sorted(folder.glob("*/agent.py")):
            name = file.parent.name
            try:
                agent = _load(file)
                if agent.name in agents:
                    raise ValueError(f"another folder already has an agent named {agent.name!r}")
                agents[agent.name] = agent
            except (Exception, SystemExit) as error:  # noqa: BLE001 - whatever an agent's module does, it is its own
                broken[name] = f"{type(error).__name__}: {error}"
                logger.error("agent %s could not be loaded: %s", name, broken[name])
    return Catalog(agents, broken)


def _load(file: Path) -> Agent:
    """Import one agent's module, with its folder as a package, so that it can have modules of its own."""
    package = f"turnkeeper_agents.{file.parent.name}_{abs(hash(str(file.parent))):x}"
    spec = importlib.util.spec_from_file_location(package, file, submodule_search_locations=[str(file.parent)])
    if spec is None or spec.loader is None:
        raise ImportError(f"cannot import {file}")
    module = importlib.util.module_from_spec(spec)
    sys.modules[package] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[package]
        raise
    agent = getattr(module, "agent", None)
    if not isinstance(agent, Agent):
        raise TypeError("agent.py has to define agent = Agent(...)")
    return agent
