"""An agent that may not take long."""

from __future__ import annotations

from turnkeeper import Agent, Limits, update_plan

from .._shared.toolbox import TOOLS

agent = Agent(
    name="hurried",
    model="claude-sonnet-5-5",
    system="You are a test.",
    tools=[*TOOLS, update_plan],
    limits=Limits(max_seconds=4, task_usd="50.00"),
)
