"""Run Claude agents on AWS: durable state, hard cost caps, circuit breakers, least privilege, an audit trail.

What an agent's author needs is here; see ``agents/`` for agents to copy from.
"""

from turnkeeper.adapters.prompt_files import prompts
from turnkeeper.core.agent import Agent, Context, Limits
from turnkeeper.core.kit_tools import update_plan
from turnkeeper.core.prompts import SessionContext, by_tenant
from turnkeeper.core.scoring import Judge, Score, Scoring
from turnkeeper.core.tools import ForeignToolError, Tool, ToolContext, ToolDenied, ToolError, ToolSet, tool
from turnkeeper.core.trajectory import Trajectory

__all__ = [
    "Agent",
    "Context",
    "ForeignToolError",
    "Judge",
    "Limits",
    "Score",
    "Scoring",
    "SessionContext",
    "Tool",
    "ToolContext",
    "ToolDenied",
    "ToolError",
    "ToolSet",
    "Trajectory",
    "by_tenant",
    "prompts",
    "tool",
    "update_plan",
]
