"""The agents that are deployed: found by their folders, a broken one told by name without taking the others down."""

from __future__ import annotations

import importlib
import importlib.util
import itertools
import logging
import re
import sys
import traceback
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

from pydantic import PydanticUserError, ValidationError

from turnkeeper.core.agent import Agent
from turnkeeper.core.errors import AgentNotFound
from turnkeeper.runtime.absent import remembered

logger = logging.getLogger(__name__)

#: The package that all folders of agents are in; their loggers are below it.
_ROOT = "turnkeeper_agents"
_FOLDER = re.compile(rf"{_ROOT}\.folder_\d+")
_numbers = itertools.count(1)


class Broken(NamedTuple):
    """Why an agent could not be loaded, for its operator: a caller is told none of it."""

    #: Its own folder.
    folder: Path
    #: The exception's name and its words.
    why: str
    #: The last place in the agent's code, or in what is beside it, that was come through: where to look first.
    file: Path
    line: int | None
    #: As Python tells it, from the agent's module on.
    traceback: str

    def __str__(self) -> str:
        return self.why


@dataclass(frozen=True)
class Catalog:
    agents: Mapping[str, Agent]
    #: By the name of its folder, an agent that could not be loaded.
    broken: Mapping[str, Broken] = field(default_factory=dict)
    #: By its name, the folder of an agent.
    folders: Mapping[str, Path] = field(default_factory=dict)
    #: What was found to have a price when these were bundled (:func:`turnkeeper.runtime.pricing.priced_by`).
    priced: frozenset[str] = frozenset()

    def get(self, name: str) -> Agent:
        """The agent of this name or, where there is none now, the one that had it before.

        Raises:
            AgentNotFound: for a broken one it says so, without the details.
        """
        if (agent := self.find(name)) is not None:
            return agent
        if name in self.broken:
            raise AgentNotFound(
                f"agent {name!r} is deployed but broken; its operator sees why in `turnkeeper check` and the logs",
                agent=name,
            )
        raise AgentNotFound(f"there is no agent {name!r}", agent=name)

    def find(self, name: str) -> Agent | None:
        """As :meth:`get`, for those who can do without."""
        if name in self.agents:
            return self.agents[name]
        return next((agent for agent in self.agents.values() if name in agent.formerly), None)


def load_agents(folders: Iterable[Path]) -> Catalog:
    """Every ``NAME/agent.py`` in these folders, by the name of its agent; a later folder cannot replace an earlier
    one's agent. Names that begin with ``_`` or ``.`` are no agents.

    Each folder is a package of its own, with its agents as packages in it: what is beside them, such as ``_shared``, is
    theirs by a relative import, and nobody else's. Loading a folder again loads it as it is then.
    """
    agents: dict[str, Agent] = {}
    broken: dict[str, Broken] = {}
    places: dict[str, Path] = {}
    importlib.invalidate_caches()
    for folder in folders:
        package = _package_of(folder)
        for file in sorted(folder.glob("[!_.]*/agent.py")):
            name = file.parent.name
            try:
                agent = _load(package, name)
                if agent.name in agents:
                    first = places[agent.name].name
                    raise ValueError(f"another folder already has an agent named {agent.name!r}: {first}")
                if taken := {name for other in agents.values() for name in other.formerly}.intersection(agent.formerly):
                    raise ValueError(f"another agent was named {', '.join(sorted(taken))} formerly as well")
                agents[agent.name] = agent
                places[agent.name] = file.parent
            except KeyboardInterrupt:
                raise
            except BaseException as error:  # also SystemExit, or asyncio's CancelledError: the others load
                broken[name] = _broken(file, error)
                logger.error("agent %s could not be loaded: %s", name, broken[name], exc_info=error)
    return Catalog(agents, broken, places)


def load_agent(folder: Path) -> Agent:
    """The one agent in a folder. Raises whatever its module does."""
    return _load(_package_of(folder.parent), folder.name)


def _broken(file: Path, error: BaseException) -> Broken:
    """What there is to say of an agent's error. Python's own names of its modules mean nothing to its author."""
    parent = file.parent.parent.absolute()
    trace = traceback.TracebackException.from_exception(error)
    frames = [frame for frame in trace.stack if Path(frame.filename).is_relative_to(parent)]
    trace.stack = traceback.StackSummary.from_list(frames)
    where, line = (Path(frames[-1].filename), frames[-1].lineno) if frames else (file, None)
    if isinstance(error, SyntaxError) and error.filename and Path(error.filename).is_relative_to(parent):
        where, line = Path(error.filename), error.lineno

    def named(text: str) -> str:
        """Characters that are none could be shown nowhere."""
        return _FOLDER.sub(parent.name, text).encode(errors="replace").decode()

    why = f"{type(error).__name__}: {_words_of(error)}"
    return Broken(file.parent, named(why), where, line, named("".join(trace.format())))


def _words_of(error: BaseException) -> str:
    """In one line, without where to read about pydantic."""
    try:
        if isinstance(error, ValidationError):
            wrong = [(".".join(map(str, each["loc"])), each["msg"]) for each in error.errors(include_url=False)]
            return f"{error.title}: {'; '.join(f'{where}: {what}' for where, what in wrong)}"
        return " ".join((error.message if isinstance(error, PydanticUserError) else str(error)).split())
    except Exception:  # noqa: BLE001 - an error of an agent's own, which is broken in this as well
        return "an error that cannot be told"


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
    with remembered():
        agent = getattr(importlib.import_module(f"{package}.{name}.agent"), "agent", None)
    if not isinstance(agent, Agent):
        raise TypeError("agent.py has to define agent = Agent(...), or SdkAgent(...)")
    return agent
