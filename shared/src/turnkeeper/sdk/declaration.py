"""What an author of an agent on the Claude Agent SDK writes: ``SdkAgent(name=..., options=...)``."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, is_dataclass
from pathlib import Path
from typing import Any, ClassVar

from turnkeeper.core.agent import Agent, Context
from turnkeeper.core.limits import Placement
from turnkeeper.core.prompts import Prompt
from turnkeeper.core.schemas import EMPTY_SCHEMA
from turnkeeper.core.tools import Tool, ToolContext, ToolDenied
from turnkeeper.runtime.absent import Remembered

#: The engine, as sessions and versions name it.
ENGINE = "claude-agent-sdk"
#: The server by which the program reaches the kit's own tools.
SERVER = "turnkeeper"
#: Tools of the program that change nothing. Every other one is taken for one that must not run twice.
READING = frozenset(
    {"Glob", "Grep", "LS", "NotebookRead", "Read", "StructuredOutput", "TodoRead", "TodoWrite", "ToolSearch"}
)
#: By which the model answers where the options say an ``output_format``; the program has it only then.
ANSWERING = "StructuredOutput"
#: The program has had two names for one tool.
_SAME = {"Task": "Agent"}
_RULE = re.compile(r"([A-Za-z][A-Za-z0-9_-]{0,127})(\(.*\))?", re.DOTALL)
#: Options that say something about what the model is given: they are part of the agent's version.
_TOLD = ("agents", "betas", "effort", "max_turns", "output_format", "skills", "thinking")
#: What an ``AgentDefinition`` is given without names.
_IN_ORDER = ("description", "prompt", "tools", "disallowedTools", "model")
#: Options that are the kit's to say.
_OURS = {
    "can_use_tool": "the grant decides, by policy.toml",
    "continue_conversation": "the kit knows which session goes on",
    "enable_file_checkpointing": "it cannot be combined with a session store",
    "max_budget_usd": "it is checked after the call; say limits=Limits(task_usd=...)",
    "resume": "the kit knows which session goes on",
    "session_id": "the kit gives it",
    "session_store": "sessions are kept in the kit's table",
    "settings": "no settings file is read",
}


@dataclass(frozen=True, kw_only=True)
class SdkAgent(Agent):
    """An agent that the Claude Agent SDK drives, in the worker: its sessions, caps, breakers, grants and audit are as
    for every agent. Model and prompt are those of the options; ``tools`` are tools of the kit, which the program
    reaches beside those that the options list.

    Raises:
        ValueError: as :class:`Agent` does, and for options that are the kit's to say; the text says which.
    """

    #: A ``ClaudeAgentOptions``: what is given to the program, as far as it is not the kit's to say.
    options: Any
    model: str = ""
    system: str | Prompt = ""
    placement: Placement = "background"
    context: Context | None = None
    #: By the name of a tool of the program, the scopes that a role needs to be granted it. A tool without any is for
    #: every role; policy.toml can deny it by name (``denied_tools``).
    scopes: Mapping[str, Collection[str]] = field(default_factory=dict)
    engine: ClassVar[str | None] = ENGINE

    def __post_init__(self) -> None:
        whose = f"agent {self.name!r}"
        model, system = _said(self.options, "model"), _prompt_text(_said(self.options, "system_prompt"))
        for name, given, said in (("model", self.model, model), ("system", self.system, system)):
            # A copy of an agent, as `dataclasses.replace` makes it, has what the options say.
            if given and given != said:
                raise ValueError(f"{whose}: {name} is said in its options")
        if self.placement != "background":
            raise ValueError(f"{whose} runs on the Claude Agent SDK: placement is background")
        if self.done != "end_turn":
            raise ValueError(f"{whose} runs on the Claude Agent SDK, which ends a turn itself: done is end_turn")
        if self.model_options or self.fallback_models or self.context is not None:
            raise ValueError(
                f"{whose}: model_options, fallback_models and context are for agents of the kit's own engine"
            )
        for name, why in _OURS.items():
            if _said(self.options, name):
                raise ValueError(f"{whose}: {name} is not for its options: {why}")
        if not isinstance(_said(self.options, "mcp_servers") or {}, Mapping):
            raise ValueError(f"{whose}: mcp_servers is an object, no file")
        if SERVER in (_said(self.options, "mcp_servers") or {}):
            raise ValueError(f"{whose}: the MCP server {SERVER!r} is the kit's")
        if isinstance(_said(self.options, "tools"), Mapping):
            raise ValueError(f"{whose}: tools of its options is a list of names, so that it can be said who has them")
        self._check_rules(whose)
        if not model:
            raise ValueError(f"{whose} needs a model: ClaudeAgentOptions(model=...)")
        object.__setattr__(self, "model", model)
        object.__setattr__(self, "system", system)
        if strange := sorted(set(self.scopes) - set(self._named())):
            raise ValueError(f"{whose}: scopes names {', '.join(strange)}, which its options do not list")
        super().__post_init__()

    def _check_rules(self, whose: str) -> None:
        for name in ("tools", "allowed_tools", "disallowed_tools"):
            if isinstance(rules := _said(self.options, name) or (), str):
                raise ValueError(f"{whose}: {name} of its options is a list of names")
            if vague := [rule for rule in rules if name != "disallowed_tools" and _is_vague(rule)]:
                raise ValueError(
                    f"{whose}: {name} of its options says {vague[0]!r}, which is about more than one tool, or none: "
                    "list each by its name, so that it can be said who has it"
                )

    def _named(self) -> tuple[str, ...]:
        """Tools of the program that the options ask for, by their names in the kit."""
        said = [*(_said(self.options, "tools") or ()), *(_said(self.options, "allowed_tools") or ())]
        said = [rule for rule in said if not rule.startswith(f"mcp__{SERVER}__")]  # listed in `tools` of the agent
        said += [ANSWERING] if _said(self.options, "output_format") else []
        named = dict.fromkeys(name for rule in said if (name := tool_of(rule)) is not None)
        without = {tool_of(rule) for rule in _said(self.options, "disallowed_tools") or () if "(" not in rule}
        return tuple(name for name in named if name not in without)

    def all_tools(self) -> tuple[Tool, ...]:
        """Those of the kit, then those of the program."""
        return (*super().all_tools(), *(_of_the_program(name, self.scopes.get(name, ())) for name in self._named()))

    def program(self) -> dict[str, Any] | None:
        options = self.options
        told = {
            **{name: _json(_said(options, name)) for name in _TOLD},
            "servers": sorted(_said(options, "mcp_servers") or {}),
            "rules": sorted(rule for rule in _said(options, "allowed_tools") or () if "(" in rule),
        }
        return {"engine": ENGINE, **{name: value for name, value in told.items() if value}}


def tool_of(rule: str) -> str | None:
    """The tool that a permission rule such as ``Bash(git diff:*)`` is about, by its name in the kit; ``None`` where it
    is about more than one, which nobody is granted."""
    found = _RULE.fullmatch(rule.strip())
    return kit_name(found[1]) if found else None


def _is_vague(rule: Any) -> bool:
    """Nobody would be granted what it is about: a whole MCP server, a pattern."""
    name = tool_of(rule) if isinstance(rule, str) else None
    return name is None or (name.startswith("mcp__") and name.count("__") < 2)


def kit_name(name: str) -> str:
    """A tool as the kit calls it, by the name that the program has for it."""
    own = name.removeprefix(f"mcp__{SERVER}__")
    return _SAME.get(own, own)


def _of_the_program(name: str, scopes: Collection[str]) -> Tool:
    def body(_ctx: ToolContext, _arguments: Mapping[str, Any], /) -> Any:
        raise ToolDenied(f"{name} is the program's own: the kit never runs it.")

    return Tool(
        name=name,
        description=f"{name} of the claude program.",
        effect="read" if name in READING else "once",
        input_schema=EMPTY_SCHEMA,
        body=body,
        scopes=frozenset(scopes),
        timeout_seconds=600.0,
    )


def _said(options: Any, name: str) -> Any:
    """Where the package is absent, what it has types of dictionaries for was remembered by its arguments."""
    said = getattr(options, name, None)
    return said.kwargs if isinstance(said, Remembered) else said


def _prompt_text(prompt: Any) -> str:
    """The system prompt as transcripts and versions show it."""
    match prompt:
        case str() if prompt.strip():
            return prompt
        case {"type": "custom", "prompt": str(text)}:
            return text
        case {"type": "preset", "preset": preset, **more}:
            return "\n".join((f"(the program's own prompt: {preset})", str(more.get("append") or ""))).strip()
        case {"type": "file"}:
            raise ValueError("system_prompt is a text: what is in a file would be no part of the agent's version")
    return "(the program's own prompt)"


def _json(value: Any) -> Any:
    """What can be said of an option in JSON: names of what is code, nothing of what was not given."""
    if is_dataclass(value) and not isinstance(value, type):
        value = asdict(value)
    elif isinstance(value, Remembered):
        value = {**dict(zip(_IN_ORDER, value.args, strict=False)), **value.kwargs}
    match value:
        case Mapping():
            return {str(key): _json(each) for key, each in value.items() if each is not None and key != "instance"}
        case str() | bool() | int() | float() | None:
            return value
        case Path():
            return str(value)
        case Sequence() | frozenset() | set():
            return [_json(each) for each in _ordered(value)]
    return type(value).__name__


def _ordered(values: Iterable[Any]) -> Iterable[Any]:
    return sorted(values, key=str) if isinstance(values, set | frozenset) else values
