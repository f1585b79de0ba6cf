"""An agent that stays on Lambda."""

from __future__ import annotations

from turnkeeper import Agent, Limits, update_plan

from .._shared.toolbox import TOOLS

agent = Agent(
    name="desk",
    model="claude-sonnet-5-5",
    system="You are a test.",
    tools=[*TOOLS, update_plan],
    placement="interactive",
    limits=Limits(task_usd="50.00"),
)
