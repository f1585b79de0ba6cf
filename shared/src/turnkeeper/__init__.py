"""Run Claude agents on AWS: durable state, hard cost caps, circuit breakers, least privilege, an audit trail.

What an agent's author needs is here; see ``agents/`` for agents to copy from. Each name is imported when it is first
asked for: a process that runs no agent imports this package too, and waits for none of it.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
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

_AT = {
    "adapters.prompt_files": ("prompts",),
    "core.agent": ("Agent", "Context", "Limits"),
    "core.kit_tools": ("update_plan",),
    "core.prompts": ("SessionContext", "by_tenant"),
    "core.scoring": ("Judge", "Score", "Scoring"),
    "core.tools": ("ForeignToolError", "Tool", "ToolContext", "ToolDenied", "ToolError", "ToolSet", "tool"),
    "core.trajectory": ("Trajectory",),
}
_MODULES = {name: f"{__name__}.{module}" for module, names in _AT.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = globals()[name] = getattr(import_module(_MODULES[name]), name)
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
