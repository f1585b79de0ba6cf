"""An agent that belongs on the worker."""

from __future__ import annotations

from turnkeeper import Agent, Limits, update_plan

from .._shared.toolbox import TOOLS

agent = Agent(
    name="batch",
    model="claude-sonnet-5-5",
    system="You are a test.",
    tools=[*TOOLS, update_plan],
    placement="background",
    limits=Limits(max_iterations=100, task_usd="50.00"),
)
