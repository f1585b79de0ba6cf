"""An agent that may not say much."""

from __future__ import annotations

from turnkeeper import Agent, Limits, update_plan

from .._shared.toolbox import TOOLS

agent = Agent(
    name="brief",
    model="claude-sonnet-5-5",
    system="You are a test.",
    tools=[*TOOLS, update_plan],
    limits=Limits(max_iterations=3, task_usd="50.00"),
)
