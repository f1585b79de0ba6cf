"""Versions of an agent: what the model is sent around the transcript, and the agent's limits, named by their hash.

A session runs on one version. Its next turn begins on the one that is deployed then, unless the agent pins its sessions
to what they were made with; a turn that has begun ends on the version that it began on.
"""

from __future__ import annotations

import hashlib
from typing import NamedTuple

from turnkeeper.core.agent import Agent, DoneSignal
from turnkeeper.core.canonical import sorted_json
from turnkeeper.core.limits import Limits
from turnkeeper.core.prompts import definition_of
from turnkeeper.core.remembered import remembered
from turnkeeper.core.session import Spec, ToolDefinition
from turnkeeper.core.tools import END_TASK, Tool


class Deployed(NamedTuple):
    """What a session takes over from its agent as it is deployed now: a name, a version, and how a turn ends in it."""

    agent: str
    version: str
    done: DoneSignal


@remembered
def spec_of(agent: Agent) -> Spec:
    """All that the agent's sessions may be given; what one of them has is narrowed by its grant."""
    from turnkeeper.core.kit_tools import end_task_definition

    definitions = tuple(map(_definition, agent.all_tools()))
    return Spec(
        model=agent.model,
        **system_of(agent),
        tools=(*definitions, end_task_definition) if agent.done == "end_task" else definitions,
        model_options=agent.model_options,
        fallback_models=tuple(agent.fallback_models),
        limits=agent.limits if agent.limits != Limits() else None,
        program=agent.program(),
    )


def system_of(agent: Agent) -> dict[str, str]:
    """The agent's system prompt in its version: the text, or the name of what makes one. What that makes of a tenant's
    sessions is no part of it, so that versions of tenants are equal where their agent is."""
    return {"system": agent.system} if isinstance(agent.system, str) else {"prompt": definition_of(agent.system)}


def limits_in(spec: Spec) -> Limits:
    """The agent's own limits in a version, which new sessions begin with."""
    return spec.limits or Limits()


def done_in(spec: Spec) -> DoneSignal:
    """How a turn ends in a version: by the tool that says so, where it shows the model that."""
    return "end_task" if any(tool.name == END_TASK for tool in spec.tools) else "end_turn"


def can_play(spec: Spec, deployed: Spec) -> bool:
    """Whether a process that has another version deployed can give its sessions this one. Of a system prompt that a
    function makes, a version holds no more than the name: that function has to be there. Of what another engine is
    given, no more than what is JSON."""
    return (spec.prompt is None or spec.prompt == deployed.prompt) and spec.program == deployed.program


def moved_text(agent: Agent, engine: str | None) -> str:
    """Why a session of one engine does not go on with an agent of another."""
    was, now = (each or "the kit's own engine" for each in (engine, agent.engine))
    return (
        f"The session began on {was}, and agent {agent.name!r} runs on {now} now: sessions are not moved between them. "
        "Begin a new one, or deploy the agent as it was under its name and the new one under another."
    )


def runs_tools_elsewhere(spec: Spec) -> bool:
    """Whether the provider itself calls tools of others on behalf of a version, which nobody here could hold back."""
    return spec.program is not None or bool(spec.model_options.get("mcp_servers"))


@remembered
def version_of(spec: Spec) -> str:
    """The name of a version: equal where all that the model would be sent is equal, but for what is made of a session's
    context."""
    # Where there is none, as in every version before there could be one, the name is what it was then.
    left_out = {name for name in ("prompt", "limits", "program") if getattr(spec, name) is None}
    return hashlib.sha256(sorted_json(spec.model_dump(mode="json", exclude=left_out))).hexdigest()[:32]


def _definition(tool: Tool) -> ToolDefinition:
    """A tool as the model is shown it; one that lives elsewhere is asked for its schema later."""
    schema = None if callable(tool.input_schema) else dict(tool.input_schema)
    return ToolDefinition(name=tool.name, description=tool.description, input_schema=schema, effect=tool.effect)
