"""What an author of an agent writes: system prompt, model, tools, limits, placement."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import field
from typing import Any, ClassVar, Literal

import pydantic.dataclasses
from pydantic import ConfigDict, Field

from turnkeeper.core import cache_markers
from turnkeeper.core.limits import DoneSignal, Limits, Placement
from turnkeeper.core.prompts import Prompt
from turnkeeper.core.schemas import EMPTY_SCHEMA, json_problem, tool_problem
from turnkeeper.core.scoring import Scoring
from turnkeeper.core.tools import Tool, ToolSet
from turnkeeper.core.values import dataclass

__all__ = ["AGENT_NAME", "TOOL_NAME", "Agent", "Context", "DoneSignal", "Limits", "Pin", "Placement"]

Pin = Literal["latest", "session"]

AGENT_NAME = re.compile(r"[a-z][a-z0-9_-]{0,62}")
VALUE_NAME = re.compile(r"[a-z][a-z0-9_]{0,62}")
ADDRESS = re.compile(r"https?://[^\s@\\]{1,2000}")
TOOL_NAME = re.compile(r"[a-zA-Z0-9_-]{1,128}")


@pydantic.dataclasses.dataclass(frozen=True, kw_only=True, config=ConfigDict(extra="forbid"))
class Context:
    """How long a conversation may get, as the model is sent it. The transcript itself keeps everything.

    Towards the end of the window old results of tools are left out first, which is free. Then the oldest part gives way
    to a summary that the model writes: a call like any other, under the same caps.
    """

    #: Tokens that a request may have. ``None``: as many as the model reads, as the price list or the API says.
    window: int | None = Field(default=None, ge=2_000)
    #: From this share of the window on, old results are left out where that makes room.
    clear_at: float = Field(default=0.6, gt=0, le=1)
    #: From this share on, the oldest part is summarized.
    summarize_at: float = Field(default=0.8, gt=0, le=1)
    #: The newest part that stays as it is, as a share of the window.
    keep: float = Field(default=0.3, gt=0, le=0.9)
    #: What a summary may have, in tokens.
    summary_tokens: int = Field(default=4_000, ge=256, le=64_000)


@dataclass(frozen=True, kw_only=True)
class Agent:
    """A named definition of an agent. Immutable; checked when it is made.

    Raises:
        ValueError: a bad name, two tools of one name, what the model API would refuse (a tool's schema, its own cache
            markers), or a value outside its range; the text says which.
    """

    name: str
    model: str
    #: The system prompt, or what makes one of the session's context when a turn begins: a function, ``by_tenant(...)``,
    #: ``prompts(...)``.
    system: str | Prompt
    tools: Sequence[Tool | ToolSet] = ()
    limits: Limits = field(default_factory=Limits)
    placement: Placement = "auto"
    #: ``end_turn``: the model's own end of turn ends it. ``end_task``: it has to call ``end_task(status, summary)``.
    done: DoneSignal = "end_turn"
    #: Extra fields of the Messages API for every call, such as ``thinking`` or ``service_tier``; those that the kit
    #: says itself, such as ``max_tokens``, have no effect.
    model_options: dict[str, Any] = field(default_factory=dict)
    #: After a flagged tool result, calls of ``once`` tools are denied until an operator lets the session go on.
    block_once_after_flag: bool = False
    #: Models that answer instead, in this order, for the rest of a turn in which its own is gone or stays overloaded.
    #: ``model_options`` have to suit them as well.
    fallback_models: Sequence[str] = ()
    #: Names that it had before: it is found by them, in requests and by the sessions that were made with them.
    formerly: Sequence[str] = ()
    #: ``latest``: each turn of an open session begins with the agent as it is deployed then. ``session``: a session
    #: keeps the prompt, the model and the tool definitions that it was made with.
    pin: Pin = "latest"
    #: What happens before a conversation is too long for the model. ``None``: nothing, it stops as ``context_window``.
    context: Context | None = field(default_factory=Context)
    #: Secrets and settings that its tools may ask for: ``ctx.secret("crm")``, ``ctx.setting("crm_url")``.
    secrets: Sequence[str] = ()
    settings: Sequence[str] = ()
    #: What roles that are not admin see of its sessions' events: ``full``, or what is for end users (``user``): no
    #: arguments, results, thoughts, costs or internals.
    view: Literal["full", "user"] = "full"
    #: How its turns are scored once they have ended.
    scoring: Scoring = field(default_factory=Scoring)
    #: The address that is posted word of each turn that ends, where the session names none; its host has to be named in
    #: the ``webhook_hosts`` of the tenant's plan.
    webhook: str | None = None
    #: What drives its turns, where that is not the kit's own loop. A session stays with the one that it began on.
    engine: ClassVar[str | None] = None

    def __post_init__(self) -> None:
        if isinstance(self.formerly, str):
            raise ValueError(f"agent {self.name!r}: formerly is a list of names")
        for name in (self.name, *self.formerly):
            if not AGENT_NAME.fullmatch(name):
                raise ValueError(f"agent name {name!r}: lower case letters, digits, '-' and '_', at most 63")
        if not callable(self.system) and not (isinstance(self.system, str) and self.system.strip()):
            raise ValueError(
                f"agent {self.name!r} needs a system prompt: a text, or a function of its session's context"
            )
        if self.placement not in ("auto", "interactive", "background"):
            raise ValueError(f"agent {self.name!r}: placement is auto, interactive or background")
        if self.done not in ("end_turn", "end_task"):
            raise ValueError(f"agent {self.name!r}: done is end_turn or end_task")
        self._check_models()
        if self.pin not in ("latest", "session"):
            raise ValueError(f"agent {self.name!r}: pin is latest or session")
        if self.view not in ("full", "user"):
            raise ValueError(f"agent {self.name!r}: view is full or user")
        if self.context is not None and not isinstance(self.context, Context):
            raise ValueError(f"agent {self.name!r}: context is a Context(...) or None")
        if not isinstance(self.scoring, Scoring):
            raise ValueError(f"agent {self.name!r}: scoring is a Scoring(...)")
        if self.webhook is not None and not ADDRESS.fullmatch(self.webhook):
            raise ValueError(f"agent {self.name!r}: webhook is an address such as https://hooks.example.com/turns")
        self._check_what_is_sent()
        self._check_tools()
        self._check_values()

    def _check_models(self) -> None:
        if not (isinstance(self.model, str) and self.model.strip()):
            raise ValueError(f"agent {self.name!r}: model is the name of one")
        others = self.fallback_models
        if isinstance(others, str) or not all(isinstance(other, str) and other.strip() for other in others):
            raise ValueError(f"agent {self.name!r}: fallback_models is a list of names of models")
        if len({self.model, *others}) <= len(others):
            raise ValueError(f"agent {self.name!r}: fallback_models is a list of other models than its own")

    def _check_what_is_sent(self) -> None:
        options = self.model_options
        if not isinstance(options, dict):
            raise ValueError(f"agent {self.name!r}: model_options is a dict of fields of the Messages API")
        if isinstance(self.system, str) and (problem := json_problem(self.system)) is not None:
            raise ValueError(f"agent {self.name!r} has a system prompt that cannot be sent: {problem}")
        if (problem := json_problem(options) or cache_markers.options_problem(options)) is not None:
            raise ValueError(f"agent {self.name!r}: in model_options: {problem}")

    def _check_tools(self) -> None:
        """One that the API does not take would make it refuse every request of the agent. Tools that live elsewhere are
        looked at when they are asked for."""
        for tool in self.tools:
            if not isinstance(tool, Tool | ToolSet):
                raise ValueError(f"agent {self.name!r}: in tools: {tool!r} is none; a function is one with @tool")
        tools = self.all_tools()
        for tool in tools:
            if not TOOL_NAME.fullmatch(tool.name):
                raise ValueError(f"agent {self.name!r}: tool name {tool.name!r} is not one that the API takes")
            schema = EMPTY_SCHEMA if callable(tool.input_schema) else tool.input_schema
            if (problem := tool_problem(tool.description, schema)) is not None:
                raise ValueError(f"agent {self.name!r}: tool {tool.name!r} {problem}")
        providers = [tool.get("name") for tool in self.model_options.get("tools") or () if isinstance(tool, Mapping)]
        names = [*(tool.name for tool in tools), *filter(None, providers)]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"agent {self.name!r} has two tools named {', '.join(twice)}")
        if "end_task" in names:
            raise ValueError(f"agent {self.name!r}: end_task is the kit's; ask for it with done='end_task'")

    def _check_values(self) -> None:
        for kind, names in (("secrets", self.secrets), ("settings", self.settings)):
            if isinstance(names, str):
                raise ValueError(f"agent {self.name!r}: {kind} is a list of names")
            for name in names:
                if not (isinstance(name, str) and VALUE_NAME.fullmatch(name)):
                    raise ValueError(
                        f"agent {self.name!r}: in {kind}: {name!r}: lower case letters, digits and '_', at most 63"
                    )
            if len(set(names)) < len(names):
                raise ValueError(f"agent {self.name!r}: {kind} names one twice")

    def program(self) -> dict[str, Any] | None:
        """What another engine is given beside model, prompt and tools, as JSON: a part of the version."""
        return None

    def all_tools(self) -> tuple[Tool, ...]:
        """The tools in the order given, with the tools of each set in its place."""

        def flat() -> Iterable[Tool]:
            for tool in self.tools:
                if isinstance(tool, ToolSet):
                    yield from tool
                else:
                    yield tool

        return tuple(flat())


def secret_arguments(agent: Agent | None, tool: str, arguments: Any) -> Collection[str]:
    """Names of a call's arguments whose values are shown nowhere but in the transcript: those that the agent's tool
    declares, whether or not the session was granted it; all of them where the agent is gone, for nobody can tell."""
    if agent is None:
        return arguments.keys() if isinstance(arguments, Mapping) else ()
    return next((each.secret_arguments for each in agent.all_tools() if each.name == tool), ())
