"""What the model says in a case, and what its tools answer, as a case's file describes them."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, model_validator

from turnkeeper import Tool, ToolContext, ToolDenied, ToolError
from turnkeeper.core.breakers import call_hash
from turnkeeper.core.errors import ProviderError
from turnkeeper.ports import ModelReply
from turnkeeper.testing.script import ScriptedModel, fail, say

Arguments = dict[str, Any]
#: Tokens that an answer of a script reports, unless it says otherwise: what a case costs stays the same.
USAGE = {"input_tokens": 500, "output_tokens": 50}


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


# ---- the model ----


class Called(_Part):
    """One tool call."""

    call: str = Field(description="Name of the tool.")
    arguments: Arguments = Field(default_factory=dict)


class Answer(_Part):
    """One answer of the model: words, tool calls, both, content blocks as they are, or a failure of the API."""

    say: str | None = Field(default=None, description="Text of the answer.")
    call: str | None = Field(default=None, description="Name of the one tool that it calls.")
    arguments: Arguments = Field(default_factory=dict, description="Arguments of `call`.")
    calls: list[Called] = Field(default_factory=list, description="Several calls in one answer.")
    content: list[dict[str, Any]] = Field(default_factory=list, description="Content blocks of the Messages API.")
    stop: str | None = Field(default=None, description="stop_reason to report.")
    fail: int | None = Field(default=None, description="The API answers with this HTTP status instead.")
    usage: dict[str, Any] = Field(default_factory=lambda: dict(USAGE))

    @model_validator(mode="after")
    def _says_something(self) -> Answer:
        if not (self.say or self.call or self.calls or self.content or self.fail or self.stop):
            raise ValueError("an answer needs one of say, call, calls, content, stop, fail")
        return self

    def blocks(self, number: int) -> list[dict[str, Any]]:
        words = [{"type": "text", "text": self.say}] if self.say else []
        calls = [*([Called(call=self.call, arguments=self.arguments)] if self.call else []), *self.calls]
        uses = [
            {"type": "tool_use", "id": f"toolu_{number:03d}_{place}", "name": one.call, "input": one.arguments}
            for place, one in enumerate(calls)
        ]
        return [*words, *uses, *self.content]

    def given(self, number: int, model: str) -> ModelReply | ProviderError:
        """As a script's answer of this number."""
        if self.fail is not None:
            return fail(self.fail)
        blocks = self.blocks(number)
        calls = any(block.get("type") == "tool_use" for block in blocks)
        return _reply(number, model, blocks, self.stop or ("tool_use" if calls else "end_turn"), self.usage)


def scripted(answers: Sequence[Answer], model: str) -> ScriptedModel:
    """The model of a case. One that is asked for more says that the script is over, so that the case ends;
    :func:`is_over` tells it."""
    given = [answer.given(number, model) for number, answer in enumerate(answers, 1)]
    end = _reply(len(given) + 1, model, [say("(the case's script is over)")], "end_turn", dict(USAGE))
    return ScriptedModel(*given, then=end)


def is_over(script: ScriptedModel, answers: Sequence[Answer]) -> bool:
    """Whether more was asked than the script holds."""
    return len(script.requests) > len(answers)


def _reply(number: int, model: str, content: list[dict[str, Any]], stop: str, usage: dict[str, Any]) -> ModelReply:
    # Numbered within the case: what a run writes down is the same each time.
    return ModelReply(f"msg_{number:04d}", model, content, stop, usage, None)


# ---- the tools ----


class ToolAnswer(_Part):
    """What a tool answers, instead of being run: one of `result`, `error`, `denied`, `unknown`, `raises`."""

    when: Arguments | None = Field(default=None, description="Only for a call with exactly these arguments.")
    result: Any = None
    result_file: str | None = Field(default=None, description="A file beside the cases that holds the result.")
    error: str | None = Field(default=None, description="It fails with these words for the model.")
    denied: str | None = Field(default=None, description="It refuses, with these words for the model.")
    unknown: str | None = Field(
        default=None, description="It fails with these words, and nobody knows whether it took effect."
    )
    raises: str | None = Field(default=None, description="It breaks: an exception with this text.")

    def give(self) -> Any:
        if self.denied is not None:
            raise ToolDenied(self.denied)
        if self.error is not None:
            raise ToolError(self.error)
        if self.unknown is not None:
            raise ToolError(self.unknown, may_have_run=True)
        if self.raises is not None:
            raise RuntimeError(self.raises)
        return self.result


class Faked(ToolAnswer):
    """How a tool behaves in a case: always the same, or by `answers`, each of which is given once, the last one for
    good. Arguments are checked as always."""

    answers: Annotated[list[ToolAnswer], Field(description="In order; those with `when` for calls that fit.")] = []


def fake(tool: Tool, faked: Faked) -> Tool:
    """The tool with its answers in the place of what it does. Its arguments are still those of its signature."""
    answers = list(faked.answers)
    lock = threading.Lock()

    def choose(arguments: Mapping[str, Any]) -> ToolAnswer:
        with lock:
            fits = [one for one in answers if one.when is None or _same(one.when, arguments)]
            if not fits:
                if answers or (faked.answers and not _is_plain(faked)):
                    return ToolAnswer(raises=f"the case says nothing about {tool.name} with these arguments")
                return faked
            if len(fits) > 1 or fits[0].when is not None:
                answers.remove(fits[0])
            return fits[0]

    def body(_: ToolContext, arguments: Mapping[str, Any], /) -> Any:
        _check(tool, arguments)
        return choose(arguments).give()

    return replace(tool, body=body)


def _check(tool: Tool, arguments: Mapping[str, Any]) -> None:
    from jsonschema import Draft202012Validator

    for error in Draft202012Validator(dict(tool.schema())).iter_errors(dict(arguments)):
        where = ".".join(map(str, error.absolute_path)) or "arguments"
        raise ToolError(f"The arguments do not fit: {where}: {error.message[:200]}. Nothing was run.")


def _same(wanted: Mapping[str, Any], made: Mapping[str, Any]) -> bool:
    return call_hash("", wanted) == call_hash("", made)


def _is_plain(faked: Faked) -> bool:
    return any(value is not None for value in (faked.result, faked.error, faked.denied, faked.unknown, faked.raises))
