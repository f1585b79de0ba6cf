"""What an author writes, where the package is there and where it is not; and what the program is given of it."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.support.fake_sdk import AgentDefinition, ClaudeAgentOptions, HookMatcher, Program, installed
from tests.support.kit import MODEL, POLICY
from turnkeeper.core.policy import compose_grant, denial_of, policy_of
from turnkeeper.core.tools import tool
from turnkeeper.core.versions import can_play, spec_of, version_of
from turnkeeper.runtime.catalog import load_agents
from turnkeeper.sdk import SdkAgent
from turnkeeper.sdk.hardening import Given, hardened

SOURCE = """
from claude_agent_sdk import AgentDefinition, ClaudeAgentOptions, HookMatcher, create_sdk_mcp_server, tool
from claude_agent_sdk.types import HookContext
from turnkeeper.sdk import SdkAgent

@tool("get", "Get it", {"id": str})
async def get(arguments):
    return {"content": []}

agent = SdkAgent(name="coder", options=ClaudeAgentOptions(
    model="claude-sonnet-5-5", system_prompt="Code.", tools=["Read", "Bash"],
    allowed_tools=["Read", "Bash(git diff:*)", "mcp__b__get"], max_turns=9,
    agents={"tester": AgentDefinition("tests", "Test.", tools=["Bash"])},
    mcp_servers={"b": create_sdk_mcp_server("b", tools=[get])},
    hooks={"PreToolUse": [HookMatcher(hooks=[])]},
), scopes={"Bash": {"shell:run"}})
"""


def loaded(folder: Path) -> Any:
    (folder / "coder").mkdir(exist_ok=True)
    (folder / "coder" / "agent.py").write_text(SOURCE)
    catalog = load_agents([folder])
    assert not catalog.broken, catalog.broken
    return catalog.agents["coder"]


def test_an_agent_loads_where_the_package_is_not_and_is_the_same_version(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sys.modules.pop("claude_agent_sdk", None)
    with monkeypatch.context() as without:
        without.setattr("turnkeeper.runtime.absent.importlib.util.find_spec", lambda _: None)
        absent = loaded(tmp_path)
    assert "claude_agent_sdk" not in sys.modules, "what stands in for it is gone afterwards"
    assert (absent.model, absent.system, absent.placement) == (MODEL, "Code.", "background")
    assert [tool.name for tool in absent.all_tools()] == ["Read", "Bash", "mcp__b__get"]
    assert [tool.effect for tool in absent.all_tools()] == ["read", "once", "once"]
    spec = spec_of(absent)
    assert spec.program is not None
    assert spec.program["engine"] == "claude-agent-sdk"
    assert spec.program["agents"]["tester"]["prompt"] == "Test."
    pytest.importorskip("claude_agent_sdk")
    present = loaded(tmp_path)
    assert version_of(spec_of(present)) == version_of(spec)


def test_a_prompt_that_is_a_typed_dictionary_is_the_same_with_and_without_the_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prompt = 'SystemPromptPreset(type="preset", preset="claude_code", append="Be kind.")'
    given = SOURCE.replace('system_prompt="Code."', f"system_prompt={prompt}")
    monkeypatch.setitem(globals(), "SOURCE", given.replace("HookContext", "HookContext, SystemPromptPreset"))
    sys.modules.pop("claude_agent_sdk", None)
    with monkeypatch.context() as without:
        without.setattr("turnkeeper.runtime.absent.importlib.util.find_spec", lambda _: None)
        absent = loaded(tmp_path)
    assert absent.system == "(the program's own prompt: claude_code)\nBe kind."
    pytest.importorskip("claude_agent_sdk")
    assert version_of(spec_of(loaded(tmp_path))) == version_of(spec_of(absent))


def test_versions_of_other_agents_are_called_as_before_and_engines_are_told_apart() -> None:
    from turnkeeper.core.agent import Agent

    own = spec_of(Agent(name="a", model=MODEL, system="Code."))
    theirs = spec_of(_agent({}))
    assert own.program is None
    assert "program" not in own.model_dump(exclude_none=True)
    assert not can_play(own, theirs)
    assert can_play(theirs, theirs)


def _agent(options: Mapping[str, Any], **more: Any) -> SdkAgent:
    return SdkAgent(
        name="coder", options=ClaudeAgentOptions(**{"model": MODEL, "system_prompt": "Code."} | dict(options)), **more
    )


@pytest.mark.parametrize(
    ("options", "more", "says"),
    [
        ({}, {"placement": "interactive"}, "placement is background"),
        ({}, {"placement": "auto"}, "placement is background"),
        ({}, {"done": "end_task"}, "done is end_turn"),
        ({}, {"model": "other"}, "model is said in its options"),
        ({}, {"fallback_models": ["x"]}, "are for agents of the kit's own engine"),
        ({"model": None}, {}, "needs a model"),
        ({"tools": {"type": "preset", "preset": "claude_code"}}, {}, "list of names"),
        ({"tools": "Bash"}, {}, "tools of its options is a list"),
        ({"allowed_tools": ["mcp__b"]}, {}, "'mcp__b', which is about more than one tool"),
        ({"allowed_tools": ["mcp__b__*"]}, {}, "list each by its name"),
        ({"tools": ["Bash Read"]}, {}, "list each by its name"),
        ({"max_budget_usd": 1.0}, {}, "task_usd"),
        ({"can_use_tool": print}, {}, "the grant decides"),
        ({"resume": "x"}, {}, "knows which session"),
        ({"settings": "x.json"}, {}, "no settings file"),
        ({"mcp_servers": "x.json"}, {}, "an object, no file"),
        ({"mcp_servers": {"turnkeeper": {}}}, {}, "is the kit's"),
        ({"system_prompt": {"type": "file", "path": "x"}}, {}, "no part of the agent's version"),
        ({}, {"scopes": {"Bash": {"x"}}}, "which its options do not list"),
        ({}, {"name": "No Name"}, "agent name"),
    ],
)
def test_what_cannot_be_is_refused_when_the_agent_is_made(
    options: Mapping[str, Any], more: Mapping[str, Any], says: str
) -> None:
    with pytest.raises(ValueError, match=says):
        SdkAgent(**{"name": "coder", "options": ClaudeAgentOptions(**{"model": MODEL} | dict(options))} | dict(more))


def test_policy_takes_tools_of_the_program_away_by_scope_and_by_name() -> None:
    agent = _agent({"tools": ["Bash", "Read", "Write"]}, scopes={"Bash": {"shell:run"}})
    plan = {**POLICY["plans"]["standard"], "denied_tools": ["Write"]}
    roles = {"reader": {"scopes": []}, "runner": {"scopes": ["shell:run"], "denied_tools": ["Read"]}}
    policy = policy_of({**POLICY, "plans": {"standard": plan}, "roles": roles})
    standard = policy.plans["standard"]
    assert compose_grant(agent.all_tools(), standard, policy.role("reader")) == ("Read",)
    assert compose_grant(agent.all_tools(), standard, policy.role("runner")) == ("Bash",)
    by_name = {each.name: each for each in agent.all_tools()}

    def why(name: str, role: str) -> str:
        denial = denial_of(name, by_name, agent="coder", plan=standard, policy=policy, role=role, turn_role=None)
        return denial.why

    assert (why("Write", "reader"), why("Bash", "reader"), why("Read", "runner")) == ("plan", "role", "role")


# ---- what the program is given ----


@tool(effect="once")
def note(text: str) -> str:
    """Write a note."""
    return text


def given(**more: Any) -> Given:
    values: dict[str, Any] = {
        "gateway_url": "http://127.0.0.1:9",
        "token": "tkgl.x",
        "program_tools": {"Read", "Bash"},
        "kit_tools": {"note"},
        "model": MODEL,
        "max_tokens": 4_096,
        "max_turns": 7,
        "session_id": "00000000-0000-4000-8000-000000000000",
        "resumes": False,
        "work": Path("/w/work"),
        "home": Path("/w/home"),
        "launcher": Path("/w/launch"),
        "leash": Path("/w/leash"),
        "user": None,
        "store": "the store",
        "hooks": {"PreToolUse": "the gate"},
        "server": {"type": "sdk"},
        "stderr": None,
    }
    return Given(**values | more)


def theirs(**more: Any) -> ClaudeAgentOptions:
    async def hook(*_: Any) -> dict[str, Any]:
        return {}

    options: dict[str, Any] = {
        "model": "their-model",
        "tools": ["Read", "Bash", "Write"],
        "allowed_tools": ["Read", "Bash(git diff:*)", "Write", "mcp__b__get", "mcp__turnkeeper__other"],
        "permission_mode": "bypassPermissions",
        "setting_sources": ["project"],
        "plugins": [{"type": "local", "path": "/x"}],
        "extra_args": {"dangerously-skip-permissions": None},
        "hooks": {"PreToolUse": [HookMatcher(hooks=[hook])], "Stop": [HookMatcher(hooks=[hook])]},
        "agents": {"sub": AgentDefinition("d", "p", tools=["Write", "Read"], permissionMode="bypassPermissions")},
        "env": {
            "DEBUG": "1",
            "ANTHROPIC_BASE_URL": "http://elsewhere",
            "CLAUDE_CODE_EXTRA_BODY": "{}",
            "LD_PRELOAD": "x",
        },
        "sandbox": {"enabled": True},
        "max_turns": 3,
    }
    return ClaudeAgentOptions(**options | more)


def test_what_decides_over_tools_money_and_state_is_the_kits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("TURNKEEPER_TABLE", "table")
    with installed(Program([])) as sdk:
        made = hardened(theirs(), given(), sdk)
    assert made.tools == ["Bash", "Read"]
    assert made.allowed_tools == ["Read", "Bash(git diff:*)", "mcp__turnkeeper__note"]
    assert {"Write", "Agent", "WebFetch", "Task"} - {"Task"} <= set(made.disallowed_tools)
    assert (made.permission_mode, made.setting_sources, made.plugins, made.extra_args) == ("dontAsk", [], [], {})
    assert (made.model, made.max_turns, made.session_store_flush) == (MODEL, 3, "eager")
    assert made.agents["sub"].tools == ["Read"]
    assert made.agents["sub"].permissionMode is None
    assert made.sandbox == {"enabled": True, "failIfUnavailable": True}
    first, second = made.hooks["PreToolUse"]
    assert first.hooks == ["the gate"]
    assert {matcher.on_failure for matchers in made.hooks.values() for matcher in matchers} == {"block"}
    assert second.hooks
    assert made.env["AWS_SECRET_ACCESS_KEY"] == made.env["TURNKEEPER_TABLE"] == made.env["ANTHROPIC_API_KEY"] == ""
    assert made.env["DEBUG"] == "1"
    assert made.env["ANTHROPIC_BASE_URL"] == "http://127.0.0.1:9"
    assert made.env["CLAUDE_CODE_MAX_OUTPUT_TOKENS"] == "4096"
    assert made.env["CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC"] == "1"
    assert not {"CLAUDE_CODE_EXTRA_BODY", "LD_PRELOAD"} & made.env.keys()


def test_a_session_that_it_knows_is_resumed() -> None:
    with installed(Program([])) as sdk:
        first = hardened(theirs(), given(), sdk)
        later = hardened(theirs(), replace(given(), resumes=True), sdk)
    assert (first.session_id, first.resume) == (given().session_id, None)
    assert (later.session_id, later.resume) == (None, given().session_id)


@pytest.mark.parametrize(
    ("said", "becomes"),
    [
        ({}, "as it is"),
        (None, "as it is"),
        ("yes", "as it is"),
        ({"hookSpecificOutput": "odd"}, "as it is"),
        ({"hookSpecificOutput": {"hookEventName": "PreToolUse", "permissionDecision": "deny"}}, "as it is"),
        ({"hookSpecificOutput": {"hookEventName": "PreToolUse", "updatedInput": {"command": "other"}}}, "a refusal"),
        (
            {"hookSpecificOutput": {"hookEventName": "PermissionRequest", "decision": {"updatedInput": {}}}},
            "a failure",
        ),
    ],
)
def test_a_hook_of_the_author_refuses_calls_and_rewrites_none(said: Any, becomes: str) -> None:
    async def hook(*_: Any) -> Any:
        return said

    with installed(Program([])) as sdk:
        options = ClaudeAgentOptions(model="claude-sonnet-5-5", hooks={"PreToolUse": [HookMatcher(hooks=[hook])]})
        [asked] = hardened(options, given(), sdk).hooks["PreToolUse"][1].hooks
        if becomes == "a failure":
            with pytest.raises(ValueError, match="rewrites"):
                asyncio.run(asked({}, "toolu_1", None))
            return
        answered = asyncio.run(asked({}, "toolu_1", None))
    if becomes == "as it is":
        assert answered == said
    else:
        assert answered["hookSpecificOutput"]["permissionDecision"] == "deny"


def test_a_long_line_of_the_program_does_not_end_the_turn_unless_its_author_says_so() -> None:
    with installed(Program([])) as sdk:
        assert hardened(theirs(), given(), sdk).max_buffer_size > 10_000_000
        assert hardened(replace(theirs(), max_buffer_size=5_000), given(), sdk).max_buffer_size == 5_000


def test_an_output_format_brings_the_tool_by_which_it_is_answered() -> None:
    schema = {"type": "json_schema", "schema": {"type": "object"}}
    options = ClaudeAgentOptions(model=MODEL, tools=["Bash"], output_format=schema)
    [bash, answering] = SdkAgent(name="clerk", options=options).all_tools()
    assert (bash.name, answering.name, answering.effect) == ("Bash", "StructuredOutput", "read")
    with installed(Program([])) as sdk:
        for may, listed in (({"StructuredOutput"}, True), (set(), False)):
            made = hardened(options, given(program_tools=may, kit_tools=set()), sdk)
            assert made.tools == []
            assert ("StructuredOutput" in made.allowed_tools) == listed
            assert ("StructuredOutput" in made.disallowed_tools) != listed
