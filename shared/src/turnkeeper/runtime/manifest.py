"""What agents are, told by a file that is made of them with their bundle: all that begins a session with them, and
nothing that runs one. So the front door imports no agent, and nothing that agents import.

Only what is the same in every process can be told: an agent whose prompt's name, tools or options depend on the process
that imports it is another one here than where it runs. A new session's version is of the one that is told here.
Runners look for such agents (:func:`differing`).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, NoReturn

from turnkeeper.core.agent import Agent
from turnkeeper.core.limits import Limits
from turnkeeper.core.prompts import ToldPrompt, definition_of
from turnkeeper.core.tools import Tool
from turnkeeper.core.versions import spec_of, version_of
from turnkeeper.runtime.catalog import Catalog

#: Its name, in the folder that ``agents/`` is in.
MANIFEST = "agents.json"

_SAID = ("name", "model", "placement", "done", "model_options", "pin", "view", "webhook")
_LISTED = ("fallback_models", "formerly", "secrets", "settings")


class ToldAgent(Agent):
    """An agent as a manifest tells it. It was checked when the manifest was made."""

    told_program: dict[str, Any] | None

    def __post_init__(self) -> None:
        pass

    def program(self) -> dict[str, Any] | None:
        return self.told_program


def manifest_of(catalog: Catalog) -> dict[str, Any]:
    """Of agents that could all be loaded, as JSON."""
    return {
        "priced": sorted(catalog.priced),
        "agents": [
            {
                **{name: getattr(agent, name) for name in _SAID},
                **{name: list(getattr(agent, name)) for name in _LISTED},
                "system": agent.system if isinstance(agent.system, str) else None,
                "prompt": None if isinstance(agent.system, str) else definition_of(agent.system),
                "limits": asdict(agent.limits),
                "engine": agent.engine,
                "program": agent.program(),
                "tools": [
                    {
                        "name": tool.name,
                        "description": tool.description,
                        "effect": tool.effect,
                        "input_schema": None if callable(tool.input_schema) else dict(tool.input_schema),
                        "scopes": sorted(tool.scopes),
                        "secret_arguments": sorted(tool.secret_arguments),
                    }
                    for tool in agent.all_tools()
                ],
            }
            for agent in catalog.agents.values()
        ],
    }


def catalog_in(manifest: bytes) -> Catalog:
    """The catalog that a manifest tells of, without its folders."""
    told = json.loads(manifest)
    agents = {each["name"]: _agent(each) for each in told["agents"]}
    return Catalog(agents, priced=frozenset(told["priced"]))


def differing(catalog: Catalog, manifest: bytes) -> list[str]:
    """The names of loaded agents that would begin other sessions than they do as they are told of."""
    told = catalog_in(manifest).agents
    return sorted(
        name
        for name, agent in catalog.agents.items()
        if name not in told or version_of(spec_of(agent)) != version_of(spec_of(told[name]))
    )


def _agent(told: Mapping[str, Any]) -> ToldAgent:
    agent = ToldAgent(
        **{name: told[name] for name in (*_SAID, *_LISTED)},
        system=ToldPrompt(told["prompt"]) if told["system"] is None else told["system"],
        limits=Limits(**told["limits"]),
        tools=tuple(map(_tool, told["tools"])),
        context=None,
    )
    # Of a class, everywhere else: an agent's own class is not here.
    object.__setattr__(agent, "engine", told["engine"])
    object.__setattr__(agent, "told_program", told["program"])
    return agent


def _tool(told: Mapping[str, Any]) -> Tool:
    return Tool(
        name=told["name"],
        description=told["description"],
        effect=told["effect"],
        input_schema=_elsewhere if told["input_schema"] is None else told["input_schema"],
        body=_elsewhere,
        scopes=frozenset(told["scopes"]),
        # A turn that the front door cancels is audited there.
        secret_arguments=frozenset(told["secret_arguments"]),
    )


def _elsewhere(*_: Any) -> NoReturn:
    raise AssertionError("agents are only told of here: nobody runs their turns")
