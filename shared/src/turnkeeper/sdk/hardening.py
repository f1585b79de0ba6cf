"""From what an author says to what the program is given: what decides over money, tools, state and the machine is the
kit's, the rest stays as it was written."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from turnkeeper.sdk.declaration import ANSWERING, SERVER, kit_name, tool_of

#: Of the worker's environment the program sees this much.
_KEPT = frozenset({"LANG", "LC_ALL", "PATH", "TZ"})
#: Names that an author cannot set: they decide where calls go, with what, and what is loaded.
_RESERVED = (
    "ANTHROPIC_", "AWS_", "CLAUDE", "DISABLE_", "HTTP", "LD_", "NODE_", "NO_PROXY", "PATH", "TURNKEEPER_",
    "ALL_PROXY", "HOME", "TMPDIR", "http", "no_proxy", "all_proxy",
)  # fmt: skip
#: Tools that the program has had so far. Those that are not granted are named to it as forbidden, beside the list of
#: those that it may have and the hook that asks about each call.
# fmt: off
_KNOWN = frozenset(
    {
        "Agent", "AskUserQuestion", "Bash", "BashOutput", "CronCreate", "CronDelete", "CronList", "Edit",
        "EnterPlanMode", "EnterWorktree", "ExitPlanMode", "ExitWorktree", "Glob", "Grep", "KillShell", "LS",
        "ListMcpResourcesTool", "Monitor", "MultiEdit", "NotebookEdit", "NotebookRead", "PushNotification",
        "Read", "ReadMcpResourceTool", "RemoteTrigger", "SendMessage", "Skill", "SlashCommand", ANSWERING,
        "TaskOutput", "TaskStop", "TodoRead", "TodoWrite", "ToolSearch", "WebFetch", "WebSearch", "Workflow", "Write",
    }
)
# fmt: on
#: Attempts of the program at a call that may be tried again; each is admitted by itself.
_RETRIES = "3"
_LINE_BYTES = 64 * 1024 * 1024
#: The program may not wait longer for a hook. One that takes longer is a refusal.
HOOK_SECONDS = 60.0


@dataclass(frozen=True, kw_only=True)
class Given:
    """What a runner gives to a turn's program."""

    gateway_url: str
    token: str
    #: Names in the kit of what the session may use now: tools of the program, and tools of the kit.
    program_tools: Collection[str]
    kit_tools: Collection[str]
    model: str
    max_tokens: int
    max_turns: int
    session_id: str
    #: The program has been told of the session before.
    resumes: bool
    work: Path
    home: Path
    launcher: Path
    leash: Path
    user: tuple[int, int] | None
    #: Of the SDK: the log, the hooks by their events, the server of the kit's own tools.
    store: Any
    hooks: Mapping[str, Any]
    server: Any
    stderr: Any


def hardened(options: Any, given: Given, sdk: Any) -> Any:
    """The options that the program is run with. ``sdk``: the package."""
    may = set(given.program_tools)
    asked = [*(options.tools or ()), *(options.allowed_tools or ())]
    builtin = sorted(
        {rule.partition("(")[0] for rule in asked if tool_of(rule) in may and not rule.startswith("mcp__")}
    )
    # A tool is allowed as the author's rules say; one that is only listed, as a whole.
    rules = [rule for rule in options.allowed_tools or () if tool_of(rule) in may and not _is_ours(rule)]
    rules += [name for name in builtin if kit_name(name) not in {tool_of(rule) for rule in rules}]
    rules += [ANSWERING] if ANSWERING in may and ANSWERING not in rules else []
    kits = [f"mcp__{SERVER}__{name}" for name in sorted(given.kit_tools)]
    forbidden = {*(options.disallowed_tools or ()), *(_KNOWN - may)}
    turns = min(given.max_turns, options.max_turns) if options.max_turns else given.max_turns
    ours: dict[str, Any] = {
        "tools": builtin,
        "allowed_tools": [*rules, *kits],
        "disallowed_tools": sorted(forbidden),
        "permission_mode": "dontAsk",
        "permission_prompt_tool_name": None,
        "can_use_tool": None,
        "mcp_servers": {**(options.mcp_servers or {}), SERVER: given.server},
        "strict_mcp_config": True,
        "setting_sources": [],
        "settings": None,
        "plugins": [],
        "skills": options.skills if options.skills is not None else [],
        "extra_args": {},
        "user": None,
        "model": given.model,
        "max_turns": turns,
        "max_budget_usd": None,
        "agents": _subagents(options.agents, may),
        "sandbox": {**options.sandbox, "failIfUnavailable": True} if options.sandbox else None,
        "hooks": _hooks(options.hooks, given, sdk),
        "env": environment(options, given, sdk),
        "cwd": str(given.work),
        "cli_path": str(given.launcher),
        "session_store": given.store,
        "session_store_flush": "eager",
        "session_id": None if given.resumes else given.session_id,
        "resume": given.session_id if given.resumes else None,
        "continue_conversation": False,
        "fork_session": False,
        "resume_session_at": None,
        "resume_drops_turn": None,
        "enable_file_checkpointing": False,
        "include_partial_messages": True,
        # Every answer of a subagent is told, so that it can be counted.
        "forward_subagent_text": True,
        # What a user says is no command, and names no file to be read.
        "verbatim_prompts": True,
        "stderr": given.stderr,
        # A line of the program holds whole results, images too: past the SDK's own bound, 1 MB, the turn would end.
        "max_buffer_size": options.max_buffer_size or _LINE_BYTES,
    }
    known = {each.name for each in fields(options)}
    return replace(options, **{name: value for name, value in ours.items() if name in known})


def environment(options: Any, given: Given, sdk: Any) -> dict[str, str]:
    """All variables of the program. The SDK lays them over the worker's own, so those are blanked one by one; the
    launcher takes blank ones away."""
    said = {name: value for name, value in (options.env or {}).items() if not name.startswith(_RESERVED)}
    program = Path(sdk.__file__).parent / "_bundled" / "claude" if options.cli_path is None else Path(options.cli_path)
    return {
        **{name: "" for name in os.environ if name not in _KEPT},
        **said,
        "HOME": str(given.home),
        "TMPDIR": str(given.home / "tmp"),
        "CLAUDE_CONFIG_DIR": str(given.home / ".claude"),
        "ANTHROPIC_BASE_URL": given.gateway_url,
        "ANTHROPIC_API_KEY": "",
        "ANTHROPIC_AUTH_TOKEN": given.token,
        "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
        "CLAUDE_CODE_DISABLE_BACKGROUND_TASKS": "1",
        "CLAUDE_CODE_MAX_OUTPUT_TOKENS": str(given.max_tokens),
        "CLAUDE_CODE_MAX_RETRIES": _RETRIES,
        "CLAUDE_CODE_GATEWAY_HINT_HEADERS": "1",
        "DISABLE_AUTOUPDATER": "1",
        "TURNKEEPER_LEASH": str(given.leash),
        "TURNKEEPER_PROGRAM": str(program),
        "TURNKEEPER_USER": "{}:{}".format(*given.user) if given.user else "",
        "TURNKEEPER_FOLDERS": f"{given.work}:{given.home}",
    }


def _is_ours(rule: str) -> bool:
    return rule.startswith(f"mcp__{SERVER}__")


def _subagents(agents: Any, may: set[str]) -> Any:
    """Subagents with no more tools than the session, in the same hands, and none that goes on by itself."""
    if not agents:
        return agents
    return {name: _subagent(agent, may) for name, agent in agents.items()}


def _subagent(agent: Any, may: set[str]) -> Any:
    tools = None if agent.tools is None else [name for name in agent.tools if _is_ours(name) or tool_of(name) in may]
    ours = {"tools": tools, "permissionMode": None, "mcpServers": None, "background": False, "memory": None}
    known = {each.name for each in fields(agent)}
    return replace(agent, **{name: value for name, value in ours.items() if name in known})


def _without_rewriting(hook: Any) -> Any:
    """A hook may refuse a call, and not make another one of it: what is written down would not be what is run."""

    async def asked(*given: Any) -> Any:
        said = await hook(*given)
        specific = _object(_object(said).get("hookSpecificOutput"))
        if specific.get("updatedInput") is None and _object(specific.get("decision")).get("updatedInput") is None:
            return said
        reason = "Refused: a hook of the agent rewrites the call, and only what was written down is run."
        if specific.get("hookEventName") != "PreToolUse":
            raise ValueError(reason)  # which refuses too
        return deny(reason)

    return asked


def _object(said: Any) -> Mapping[str, Any]:
    return said if isinstance(said, Mapping) else {}


def deny(reason: str) -> dict[str, Any]:
    """What a hook says to a call that may not be made."""
    return {
        "hookSpecificOutput": {
            "hookEventName": "PreToolUse",
            "permissionDecision": "deny",
            "permissionDecisionReason": reason,
        }
    }


def _hooks(theirs: Any, given: Given, sdk: Any) -> dict[str, Any]:
    """The kit's, and the author's beside them. Where one fails, what it was asked about does not happen: by itself, the
    program takes an exception in a hook for a yes."""

    def closed(matcher: Any) -> Any:
        return replace(matcher, on_failure="block", hooks=[_without_rewriting(hook) for hook in matcher.hooks])

    made = {event: [closed(matcher) for matcher in matchers] for event, matchers in (theirs or {}).items()}
    for event, hook in given.hooks.items():
        ours = sdk.HookMatcher(hooks=[hook], timeout=HOOK_SECONDS, on_failure="block")
        made[event] = [ours, *made.get(event, [])]
    return made
