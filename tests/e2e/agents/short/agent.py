"""An agent with small answers and few attempts."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from turnkeeper import Agent, Limits, update_plan

_spec = importlib.util.spec_from_file_location("e2e_toolbox", Path(__file__).parents[1] / "toolbox.py")
assert _spec is not None
assert _spec.loader is not None
toolbox = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(toolbox)

agent = Agent(
    name="short",
    model="claude-sonnet-5-5",
    system="You are a test.",
    tools=[*toolbox.TOOLS, update_plan],
    limits=Limits(task_usd="50.00", max_tokens=200, max_attempts=3),
)
