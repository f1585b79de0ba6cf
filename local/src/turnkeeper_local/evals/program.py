"""Cases of agents on the Claude Agent SDK: the real program, behind a gateway of this process, on the case's script."""

from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from turnkeeper.core.agent import Agent
from turnkeeper.core.tools import ToolSet
from turnkeeper.sdk.declaration import SERVER
from turnkeeper_local.evals.script import Answer
from turnkeeper_local.standin.directives import DirectiveError, parse
from turnkeeper_local.standin.model import StandIn
from turnkeeper_local.standin.scenario import Rule, Scenario
from turnkeeper_local.standin.server import make_app
from turnkeeper_project import Project

_PACKAGE = "claude_agent_sdk"


class NoKey:
    """The stand-in asks for none."""

    def __call__(self) -> str:
        return "none"

    refresh = __call__


def find_sdk(root: Path) -> bool:
    """Whether the Claude Agent SDK can be imported; where `make sdk` has put it for this project, from there. Before
    agents are loaded: what they take from it has to be the real thing."""
    folder = Project(root).agent_sdk
    if importlib.util.find_spec(_PACKAGE) is None and folder is not None:
        sys.path.append(str(folder))
    return importlib.util.find_spec(_PACKAGE) is not None


def scenario(agent: Agent, answers: Sequence[Answer]) -> Scenario:
    """What a case says of the model, as the stand-in is told it.

    Raises:
        ValueError: it cannot be told so.
    """
    own = {tool.name for one in agent.tools for tool in (one if isinstance(one, ToolSet) else (one,))}
    parts: list[str] = []
    for number, answer in enumerate(answers, 1):
        if answer.fail is not None:
            parts.append(f"[[fail {answer.fail}]]")
            continue
        if answer.stop is not None:
            parts.append(f"[[stop {answer.stop}]]")
        blocks = [_called_as_there(block, own) for block in answer.blocks(number)]
        parts.append(f"[[raw {' & '.join(json.dumps(block) for block in blocks)}]]")
    try:
        script = parse(" ".join(parts))
    except DirectiveError as error:
        raise ValueError(f"the stand-in cannot say this: {error}") from error
    return Scenario(rules=(Rule("the case's script", script),)) if script is not None else Scenario()


def _called_as_there(block: dict[str, Any], own: set[str]) -> dict[str, Any]:
    """The program knows tools of the kit by another name."""
    if block.get("type") != "tool_use" or block["name"] not in own:
        return block
    return {**block, "name": f"mcp__{SERVER}__{block['name']}"}


def standing_in(scenario: Scenario) -> AbstractContextManager[str]:
    """A stand-in over HTTP, as the program needs one; its address."""
    from turnkeeper_local.standin.serving import serving

    return serving(make_app(StandIn(scenario)))
