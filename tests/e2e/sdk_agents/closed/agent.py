"""For tests from outside: what is not listed, and what the author's own hook makes of a call."""

from typing import Any

from claude_agent_sdk import ClaudeAgentOptions, HookMatcher

from turnkeeper.sdk import SdkAgent


async def breaks(data: Any, tool_use_id: str | None, context: Any) -> dict[str, Any]:
    raise RuntimeError("a hook of the author's that is broken")


agent = SdkAgent(
    name="closed",
    options=ClaudeAgentOptions(
        model="claude-sonnet-5-5",
        system_prompt="You may read, and run nothing.",
        tools=["Read", "Glob"],
        allowed_tools=["Read", "Glob"],
        permission_mode="bypassPermissions",
        hooks={"PreToolUse": [HookMatcher(matcher="Glob", hooks=[breaks])]},
    ),
)
