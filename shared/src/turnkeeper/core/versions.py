"""Versions of an agent: what the model is sent around the transcript, named by its hash.

A session runs on one version. Its next turn begins on the one that is deployed then, unless the agent pins its sessions
to what they were made with; a turn that has begun ends on the version that it began on.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from turnkeeper.core.agent import Agent, DoneSignal
from turnkeeper.core.canonical import sorted_json
from turnkeeper.core.kit_tools import end_task_definition
from turnkeeper.core.prompts import definition_of
from turnkeeper.core.session import Spec, ToolDefinition
from turnkeeper.core.tools import Tool


@dataclass(frozen=True, slots=True)
class Deployed:
    """What a session takes over from its agent as it is deployed now: a name, a version, and how a turn ends in it."""

    agent: str
    version: str
    done: DoneSignal


def spec_of(agent: Agent) -> Spec:
    """All that the agent's sessions may be given; what one of them has is narrowed by its grant."""
    definitions = tuple(map(_definition, agent.all_tools()))
    return Spec(
        model=agent.model,
        **system_of(agent),
        tools=(*definitions, end_task_definition) if agent.done == "end_task" else definitions,
        model_options=agent.model_options,
        fallback_models=tuple(agent.fallback_models),
    )


def system_of(agent: Agent) -> dict[str, str]:
    """The agent's system prompt in its version: the text, or the name of what makes one. What that makes of a tenant's
    sessions is no part of it, so that versions of tenants are equal where their agent is."""
    return {"system": agent.system} if isinstance(agent.system, str) else {"prompt": definition_of(agent.system)}


def version_of(spec: Spec) -> str:
    """The name of a version: equal where all that the model would be sent is equal, but for what is made of a session's
    context."""
    # Where nothing is made, as in every version before there was such a thing, the name is what it was then.
    left_out = {"prompt"} if spec.prompt is None else None
    return hashlib.sha256(sorted_json(spec.model_dump(mode="json", exclude=left_out))).hexdigest()[:32]


def _definition(tool: Tool) -> ToolDefinition:
    """A tool as the model is shown it; one that lives elsewhere is asked for its schema later."""
    schema = None if callable(tool.input_schema) else dict(tool.input_schema)
    return ToolDefinition(name=tool.name, description=tool.description, input_schema=schema, effect=tool.effect)
