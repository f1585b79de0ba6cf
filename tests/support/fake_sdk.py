"""The Claude Agent SDK and its program, played: as much of the package as the kit asks for, in this process.

It does what was seen of the real one (tests/contract/agent_sdk): answers come as events, the log before the hook's turn
ends, refusals as error results. The real one is tried where it is installed.
"""

from __future__ import annotations

import sys
import uuid
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

from mcp import Client

from turnkeeper.core.errors import TurnkeeperError
from turnkeeper.core.session import Head
from turnkeeper.core.usage import Usage
from turnkeeper.runtime.store.purses import Spent
from turnkeeper.table import Item

MODEL = "claude-sonnet-5-5"
#: What a call costs here, in nano-dollars.
PRICE = 1_000_000
USAGE = {"input_tokens": 10, "output_tokens": 5, "cache_read_input_tokens": 0, "cache_creation_input_tokens": 0}


@dataclass
class ClaudeAgentOptions:
    tools: Any = None
    allowed_tools: list[str] = field(default_factory=list)
    disallowed_tools: list[str] = field(default_factory=list)
    system_prompt: Any = None
    mcp_servers: Any = field(default_factory=dict)
    strict_mcp_config: bool = False
    permission_mode: str | None = None
    resume: str | None = None
    session_id: str | None = None
    max_turns: int | None = None
    max_budget_usd: float | None = None
    model: str | None = None
    can_use_tool: Any = None
    hooks: Any = None
    agents: Any = None
    cwd: Any = None
    cli_path: Any = None
    env: dict[str, str] = field(default_factory=dict)
    extra_args: dict[str, Any] = field(default_factory=dict)
    settings: Any = None
    setting_sources: Any = None
    plugins: list[Any] = field(default_factory=list)
    skills: Any = None
    sandbox: Any = None
    session_store: Any = None
    session_store_flush: str = "batched"
    stderr: Any = None
    max_buffer_size: int | None = None
    output_format: Any = None


@dataclass
class HookMatcher:
    matcher: str | None = None
    hooks: list[Any] = field(default_factory=list)
    timeout: float | None = None
    on_failure: str | None = None


@dataclass
class AgentDefinition:
    description: str
    prompt: str
    tools: list[str] | None = None
    permissionMode: str | None = None


class ClaudeSDKError(Exception):
    pass


@dataclass
class StreamEvent:
    event: dict[str, Any]
    parent_tool_use_id: str | None = None


@dataclass
class TextBlock:
    text: str


@dataclass
class ToolUseBlock:
    id: str
    name: str
    input: dict[str, Any]


@dataclass
class ToolResultBlock:
    tool_use_id: str
    content: Any = None
    is_error: bool | None = None


@dataclass
class AssistantMessage:
    content: list[Any]
    message_id: str
    parent_tool_use_id: str | None = None
    error: str | None = None


@dataclass
class UserMessage:
    content: list[Any]
    parent_tool_use_id: str | None = None


@dataclass
class ResultMessage:
    subtype: str = "success"
    is_error: bool = False
    stop_reason: str | None = "end_turn"
    result: str | None = None
    errors: list[str] | None = None
    api_error_status: int | None = None


@dataclass
class Answer:
    """One answer of the model: what it says, and the calls that it asks for."""

    text: str = ""
    calls: Sequence[tuple[str, dict[str, Any]]] = ()
    #: What its first event and its last tell otherwise than usual.
    begins: Mapping[str, Any] = field(default_factory=dict)
    ends: Mapping[str, Any] = field(default_factory=dict)


@dataclass
class Program:
    """Plays the answers of each turn, one after the other. ``world`` is what its own tools do."""

    turns: list[list[Answer | ResultMessage | BaseException]]
    world: Mapping[str, Callable[[dict[str, Any]], str]] = field(default_factory=dict)
    #: What it was run with, and told.
    options: list[Any] = field(default_factory=list)
    said: list[Any] = field(default_factory=list)
    calls: Calls = field(default_factory=lambda: Calls())

    async def query(self, *, prompt: AsyncIterator[Any], options: Any) -> AsyncIterator[Any]:
        self.options.append(options)
        key = {"project_key": "-w", "session_id": options.session_id or options.resume}
        async for said in prompt:
            self.said.append(said["message"]["content"])
            await options.session_store.append(
                key, [{"type": "user", "uuid": said["uuid"], "message": said["message"]}]
            )
        for step in self.turns.pop(0):
            if isinstance(step, BaseException):
                raise step
            if isinstance(step, ResultMessage):
                yield step
                if step.is_error:
                    raise ClaudeSDKError("Command failed with exit code 1")
                return
            async for message in self._answer(step, key, options):
                yield message
        yield ResultMessage()

    async def _answer(self, step: Answer, key: Any, options: Any) -> AsyncIterator[Any]:
        message_id = f"msg_{uuid.uuid4().hex}"
        self.calls.pay()
        blocks: list[Any] = [TextBlock(step.text)] if step.text else []
        blocks += [ToolUseBlock(f"toolu_{uuid.uuid4().hex}", name, arguments) for name, arguments in step.calls]
        start = {"id": message_id, "model": MODEL, "usage": dict(USAGE), **step.begins}
        yield StreamEvent({"type": "message_start", "message": start})
        for block in blocks:
            yield AssistantMessage([block], message_id)
        reason = "tool_use" if step.calls else "end_turn"
        delta = {"delta": {"stop_reason": reason}, "usage": dict(USAGE), **step.ends}
        yield StreamEvent({"type": "message_delta", **delta})
        yield StreamEvent({"type": "message_stop"})
        asked = [block for block in blocks if isinstance(block, ToolUseBlock)]
        content = [{"type": "tool_use", "id": each.id, "name": each.name, "input": each.input} for each in asked]
        await options.session_store.append(key, [_line("assistant", content)])
        for block in asked:
            result = await self._run(block, options)
            told = {
                "type": "tool_result",
                "tool_use_id": block.id,
                "content": result.content,
                "is_error": result.is_error,
            }
            await options.session_store.append(key, [_line("user", [told])])
            yield UserMessage([result])

    async def _run(self, block: ToolUseBlock, options: Any) -> ToolResultBlock:
        data = {"tool_name": block.name, "tool_input": block.input, "tool_use_id": block.id}
        for matcher in options.hooks["PreToolUse"]:
            for hook in matcher.hooks:
                decided = (await hook(data, block.id, None)).get("hookSpecificOutput", {})
                if decided.get("permissionDecision") == "deny":
                    return ToolResultBlock(block.id, decided["permissionDecisionReason"], is_error=True)
        if block.name.startswith("mcp__turnkeeper__"):
            async with Client(options.mcp_servers["turnkeeper"]["instance"]) as client:
                meta: Any = {"claudecode/toolUseId": block.id}
                done = await client.call_tool(block.name.rpartition("__")[2], block.input, meta=meta)
            text = "".join(getattr(each, "text", "") for each in done.content)
            return ToolResultBlock(block.id, text, is_error=bool(done.is_error))
        if block.name not in self.world:
            return ToolResultBlock(block.id, f"No such tool: {block.name}", is_error=True)
        done_with = self.world[block.name](block.input)
        for matcher in options.hooks["PostToolUse"]:
            for hook in matcher.hooks:
                await hook(data, block.id, None)
        return ToolResultBlock(block.id, done_with)


def _line(kind: str, content: Any) -> dict[str, Any]:
    return {"type": kind, "uuid": str(uuid.uuid4()), "message": {"role": kind, "content": content}}


@dataclass
class Calls:
    """The gateway as a runner sees it: every call is settled at once."""

    url: str | None = "http://127.0.0.1:1"
    refused: TurnkeeperError | None = None
    made: int = 0

    def pay(self) -> None:
        self.made += 1

    def lease_token(self, head: Head) -> str:
        return "tkgl.of-this-lease"

    def close_lease(self, token: str, *, wait_seconds: float = 0.0) -> Spent:
        return self._spent()

    def refusal(self, token: str) -> TurnkeeperError | None:
        return self.refused

    def spent(self, head: Head) -> Spent:
        return self._spent()

    def _spent(self) -> Spent:
        usage = Usage(**{name: count * self.made for name, count in USAGE.items()})
        return Spent(self.made * PRICE, 0, 0, self.made, usage)

    def calls_since(self, head: Head, after: int = 0) -> list[Item]:
        return [
            {"call": number, "usage": {"output_tokens": 5}, "request_id": f"req_{number}"}
            for number in range(after + 1, self.made + 1)
        ]


@contextmanager
def installed(program: Program) -> Iterator[ModuleType]:
    """The package in the place of the real one, if there is any."""
    module = ModuleType("claude_agent_sdk")
    module.__spec__ = ModuleSpec("claude_agent_sdk", None)
    module.__file__ = "/nowhere/claude_agent_sdk/__init__.py"
    for each in (ClaudeAgentOptions, HookMatcher, AgentDefinition, ClaudeSDKError):
        setattr(module, each.__name__, each)
    module.query = program.query  # type: ignore[attr-defined]
    before = sys.modules.get("claude_agent_sdk")
    sys.modules["claude_agent_sdk"] = module
    try:
        yield module
    finally:
        sys.modules.pop("claude_agent_sdk")
        if before is not None:
            sys.modules["claude_agent_sdk"] = before
