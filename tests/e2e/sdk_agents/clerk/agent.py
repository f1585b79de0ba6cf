"""For tests from outside: writes notes into files, by a tool of the kit and by Bash."""

import os
import time

from claude_agent_sdk import ClaudeAgentOptions

from turnkeeper import Limits, ToolContext, tool
from turnkeeper.sdk import SdkAgent


@tool(effect="once", timeout_seconds=120)
def note(ctx: ToolContext, path: str, text: str, seconds: float = 0.0) -> str:
    """Write a line into a file, after a while."""
    with open(path, "a") as file:  # noqa: PTH123
        file.write(f"{ctx.tool_use_id} {text} {os.getpid()}\n")
    time.sleep(seconds)
    return "noted"


@tool(effect="read")
def look(what: str) -> str:
    """Look something up."""
    return f"saw {what}"


agent = SdkAgent(
    name="clerk",
    options=ClaudeAgentOptions(
        model="claude-sonnet-5-5",
        system_prompt="You are a clerk.",
        tools=["Bash", "Read", "Agent"],
        allowed_tools=["Bash", "Read", "Agent"],
    ),
    tools=[note, look],
    limits=Limits(max_iterations=30),
)
