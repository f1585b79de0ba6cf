"""An agent with small answers and few attempts."""

from __future__ import annotations

from turnkeeper import Agent, Limits, update_plan

from .._shared.toolbox import TOOLS

agent = Agent(
    name="short",
    model="claude-sonnet-5-5",
    system="You are a test.",
    tools=[*TOOLS, update_plan],
    limits=Limits(task_usd="50.00", max_tokens=200, max_attempts=3),
)
