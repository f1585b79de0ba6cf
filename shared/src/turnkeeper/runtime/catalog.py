"""The agents that are deployed: found by their folders, a broken one told by name without taking the others down."""

from __future__ import annotations

import importlib
import importlib.util
import itertools
import logging
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType

from turnkeeper.core.agent import Agent
from turnkeeper.core.errors import AgentNotFound

logger = logging.getLogger(__name__)

#: The package that all folders of agents are in; their loggers are below it.
_ROOT = "turnkeeper_agents"
_numbers = itertools.count(1)


@dataclass(frozen=True)
class Catalog:
    agents: Mapping[str, Agent]
    #: Folder name of an agent that could not be loaded, and why.
    broken: Mapping[str, str] = field(default_factory=dict)

    def get(self, name: str) -> Agent:
        """The agent of this name or, where there is none now, the one that had it before.

        Raises:
            AgentNotFound: for a broken one it says so, without the details.
        """
        if name in self.agents:
            return self.agents[name]
        for agent in self.agents.values():
            if name in agent.formerly:
                return agent
        if name in self.broken:
            raise AgentNotFound(f"agent {name!r} is deployed but broken; its operator sees why in the logs", agent=name)
        raise AgentNotFound(f"there is no agent {name!r}", agent=name)


def load_agents(folders: Iterable[Path]) -> Catalog:
    """Every ``NAME/agent.py`` in these folders, by the name of its agent; a later folder cannot replace an earlier
    one's agent. Names that begin with ``_`` or ``.`` are no agents.

    Each folder is a package of its own, with its agents as packages in it: what is beside them, such as ``_shared``, is
    theirs by a relative import, and nobody else's. Loading a folder again loads it as it is then.
    """
    agents: dict[str, Agent] = {}
    broken: dict[str, str] = {}
    importlib.invalidate_caches()
    for folder in folders:
        package = _package_of(folder)
        for file in sorted(folder.glob("[!_.]*/agent.py")):
            name = file.parent.name
            try:
                agent = _load(package, name)
                if agent.name in agents:
                    raise ValueError(f"another folder already has an agent named {agent.name!r}")
                if taken := {name for other in agents.values() for name in other.formerly}.intersection(agent.formerly):
                    raise ValueError(f"another agent was named {', '.join(sorted(taken))} formerly as well")
                agents[agent.name] = agent
            except (Exception, SystemExit) as error:
                broken[name] = f"{type(error).__name__}: {error}"
                logger.exception("agent %s could not be loaded: %s", name, broken[name])
    return Catalog(agents, broken)


def _package_of(folder: Path) -> str:
    """The name of a new package whose modules are what is in this folder."""
    sys.modules.setdefault(_ROOT, _package(_ROOT, []))
    name = f"{_ROOT}.folder_{next(_numbers)}"
    sys.modules[name] = _package(name, [str(folder.absolute())])
    return name


def _package(name: str, locations: list[str]) -> ModuleType:
    spec = ModuleSpec(name, None, is_package=True)
    spec.submodule_search_locations = locations
    return importlib.util.module_from_spec(spec)


def _load(package: str, name: str) -> Agent:
    agent = getattr(importlib.import_module(f"{package}.{name}.agent"), "agent", None)
    if not isinstance(agent, Agent):
        raise TypeError("agent.py has to define agent = Agent(...)")
    return agent
