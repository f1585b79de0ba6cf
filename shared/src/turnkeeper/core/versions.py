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
        system=agent.system,
        tools=(*definitions, end_task_definition) if agent.done == "end_task" else definitions,
        model_options=agent.model_options,
        fallback_models=tuple(agent.fallback_models),
    )


def version_of(spec: Spec) -> str:
    """The name of a version: equal where all that the model would be sent is equal."""
    return hashlib.sha256(sorted_json(spec.model_dump(mode="json"))).hexdigest()[:32]


def _definition(tool: Tool) -> ToolDefinition:
    """A tool as the model is shown it; one that lives elsewhere is asked for its schema later."""
    schema = None if callable(tool.input_schema) else dict(tool.input_schema)
    return ToolDefinition(name=tool.name, description=tool.description, input_schema=schema, effect=tool.effect)
