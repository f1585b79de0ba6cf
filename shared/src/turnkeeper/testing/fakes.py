"""Tools that a test replaces, and a record of every call that was really made."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from turnkeeper.core.agent import Agent
from turnkeeper.core.tools import Effect, Tool, ToolContext, call_context
from turnkeeper.testing.tool_values import MemoryValues


def context(
    *,
    tenant: str = "acme",
    user: str = "u1",
    key: str | None = None,
    seconds: float = 30.0,
    secrets: Mapping[str, str] | None = None,
    settings: Mapping[str, str] | None = None,
) -> ToolContext:
    """A context for a tool that is called as a function.

    Args:
        secrets, settings: what ``ctx.secret`` and ``ctx.setting`` give.
        key: its ``idempotency_key``: two calls with one key are two attempts at one call.
        seconds: until its deadline.
    """
    made = call_context()
    deadline = datetime.now(UTC) + timedelta(seconds=seconds)
    return replace(
        made,
        tenant_id=tenant,
        user_id=user,
        idempotency_key=key or made.idempotency_key,
        deadline=deadline,
        values=MemoryValues(secrets, settings),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Execution:
    """One call of a tool's code, or of what replaced it."""

    tool: str
    effect: Effect
    #: As the model sent them.
    arguments: Mapping[str, Any]
    ctx: ToolContext


@dataclass
class Fake:
    """What a test put in a tool's place."""

    tool: str
    answer: Any
    #: Arguments of each call, by the tool's own signature.
    calls: list[Mapping[str, Any]] = field(default_factory=list)

    def __call__(self, ctx: ToolContext, arguments: Mapping[str, Any]) -> Any:
        self.calls.append(dict(arguments))
        answer = self.answer
        if isinstance(answer, BaseException):
            raise answer
        if isinstance(answer, Tool):
            return answer(ctx, **arguments)
        if callable(answer):
            return answer(ctx, **arguments) if _takes_context(answer) else answer(**arguments)
        return answer


@dataclass
class Workshop:
    """The tools of all agents as they run in a test: each call noted, some of them replaced."""

    executions: list[Execution] = field(default_factory=list)
    fakes: dict[str, Fake] = field(default_factory=dict)
    #: Assertions that failed in fakes: to the engine a tool that fails, to the test a failure.
    errors: list[AssertionError] = field(default_factory=list)

    def fitted(self, agent: Agent) -> Agent:
        """The agent with tools that are watched. One of another engine is as it was: no workbench drives it."""
        if agent.engine is not None:
            return agent
        return replace(agent, tools=[self._watched(tool) for tool in agent.all_tools()])

    def _watched(self, tool: Tool) -> Tool:
        def body(ctx: ToolContext, arguments: Mapping[str, Any], /) -> Any:
            fake = self.fakes.get(tool.name)
            # What does not fit the signature never reaches the tool's code, replaced or not.
            fitting = tool.parse(arguments) if tool.parse is not None else arguments
            self.executions.append(Execution(tool=tool.name, effect=tool.effect, arguments=dict(arguments), ctx=ctx))
            if fake is None:
                return tool.body(ctx, arguments)
            try:
                return fake(ctx, fitting)
            except AssertionError as error:
                self.errors.append(error)
                raise

        return replace(tool, body=body)


def _takes_context(function: Callable[..., Any]) -> bool:
    first = next(iter(inspect.signature(function).parameters.values()), None)
    return first is not None and first.name == "ctx"
