"""The kit in memory: what ``turnkeeper.bootstrap`` wires, on adapters that need nothing.

    kit = MemoryKit()
    head = kit.intake.create(WHO, NewSession(agent="plain", input="[[say hello]]", metadata={}))
    kit.run(head)

It is ``turnkeeper.testing.memory_kit`` with agents and a policy of these tests. The model is the stand-in of the local
kit, called in process, so its directives work.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from tests.support.repository import REPOSITORY
from turnkeeper.adapters.system import SystemClock
from turnkeeper.core.agent import Agent, Limits
from turnkeeper.core.kit_tools import update_plan
from turnkeeper.core.policy import policy_of
from turnkeeper.core.tools import Tool, ToolContext, ToolError, tool
from turnkeeper.ports import Clock, Model
from turnkeeper.runtime.catalog import Broken, Catalog
from turnkeeper.runtime.intake import Identity
from turnkeeper.testing.memory_kit import MemoryKit as InMemory
from turnkeeper.testing.memory_table import MemoryTable
from turnkeeper_local.evals.standin import StandInModel

WHO = Identity(tenant_id="acme", user_id="ann", role="user")
MODEL = "claude-sonnet-5-5"

POLICY: Mapping[str, Any] = {
    "default_plan": "standard",
    "default_role": "user",
    "plans": {
        "standard": {
            "task_usd": "2.00",
            "user_daily_usd": "20.00",
            "user_monthly_usd": "200.00",
            "tenant_monthly_usd": "1000.00",
        },
        "short": {
            "task_usd": "2.00",
            "user_daily_usd": "20.00",
            "user_monthly_usd": "unlimited",
            "tenant_monthly_usd": "unlimited",
            "limits": {"max_iterations": 3},
        },
    },
    "roles": {
        "user": {"scopes": ["notes:read"]},
        "writer": {"scopes": ["notes:read", "notes:write"]},
        "admin": {"scopes": ["notes:read", "notes:write"], "admin": True},
    },
}


class MemoryKit(InMemory):
    """The kit in memory with the agents below and those given, and the stand-in where no model is. ``notes`` holds what
    their ``write_note`` tool has written."""

    def __init__(
        self,
        agents: Iterable[Agent] = (),
        *,
        policy: Mapping[str, Any] | None = None,
        clock: Clock | None = None,
        model: Model | None = None,
        **options: Any,
    ) -> None:
        self.notes: list[str] = []
        named = {agent.name: agent for agent in (*agents_with(self.notes), *agents)}
        clock = clock or SystemClock()
        why = "ImportError: no module named left_pad"
        super().__init__(
            Catalog(named, {"broken": Broken(Path("broken"), why, Path("broken/agent.py"), 1, why)}),
            policy_of(policy or POLICY),
            model or StandInModel(clock),
            clock=clock,
            **{"root": REPOSITORY, **options},
        )

    @cached_property
    def table(self) -> MemoryTable:
        return MemoryTable()


# ---- agents ----


def agents_with(notes: list[str]) -> tuple[Agent, ...]:
    """``plain`` only talks; ``helper`` has tools of every effect; ``tasker`` has to call end_task; ``slow`` belongs on
    the worker; ``unpriced`` has a model that nobody can price. There is one that is ``broken`` as well."""
    tools = (add, read_note, fail, update_plan, _write_note(notes))
    return (
        Agent(name="plain", model=MODEL, system="You talk."),
        Agent(name="helper", model=MODEL, system="You help.", tools=tools),
        Agent(name="tasker", model=MODEL, system="You work.", tools=tools, done="end_task"),
        Agent(name="slow", model=MODEL, system="You take your time.", tools=tools, placement="background"),
        Agent(name="quick", model=MODEL, system="You hurry.", tools=tools, placement="interactive"),
        Agent(name="brief", model=MODEL, system="You stop early.", tools=tools, limits=Limits(max_iterations=2)),
        Agent(name="unpriced", model="nobody-knows-this-model-1", system="You are free."),
    )


@tool(effect="read")
def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


@tool(effect="read", scopes={"notes:read"})
def read_note(title: str) -> str:
    """Read a note."""
    return f"The note {title}."


@tool(effect="read")
def fail(why: str) -> str:
    """Fail."""
    raise ToolError(why)


def _write_note(notes: list[str]) -> Tool:
    @tool(effect="once", scopes={"notes:write"}, secret_arguments={"password"})
    def write_note(ctx: ToolContext, text: str, password: str = "") -> str:
        """Write a note."""
        notes.append(f"{ctx.session_id}: {text}")
        return "written"

    return write_note
