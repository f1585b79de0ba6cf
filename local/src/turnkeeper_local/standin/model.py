"""The stand-in itself: a validated request goes in, what to send comes out. No HTTP, no waiting.

Directives go first, then the scenario, then good behaviour; after a script that was ended, the echo. See
``conversation`` for what counts as the script.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from turnkeeper_local.standin import tokens
from turnkeeper_local.standin.behaving.agent import behave
from turnkeeper_local.standin.cache import PromptCache
from turnkeeper_local.standin.containers import Containers
from turnkeeper_local.standin.conversation import (
    Prompt,
    block_at,
    find_prompt,
    has_script,
    last_tool_result,
    played,
    text_of,
    tool_use_ids,
)
from turnkeeper_local.standin.directives import Cut, DirectiveError, Failure, Script, ScriptedAnswer
from turnkeeper_local.standin.errors import invalid, scripted_failure
from turnkeeper_local.standin.faults import FaultLedger, conversation_key
from turnkeeper_local.standin.reply import NO_THINKING, Reply, Thinking, compose
from turnkeeper_local.standin.scenario import Pace, Scenario, fill, shorten
from turnkeeper_local.standin.summaries import played_before, summary_of, was_scripted
from turnkeeper_local.standin.validate import (
    check_context_window,
    prefill_refused,
    validate_count,
    validate_message,
)
from turnkeeper_local.standin.validate_messages import ends_paused

Json = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Delivery:
    """A reply and how to send it."""

    reply: Reply
    sleep_seconds: float
    trickle_seconds: float
    cut: bool


@dataclass(frozen=True, slots=True)
class _Turn:
    """The answer that is due, at which place of which script."""

    answer: ScriptedAnswer
    pace: Pace
    thinking: Thinking = NO_THINKING
    script: Script | None = None
    script_text: str = ""
    index: int = 0
    position: int = 0


@dataclass(frozen=True, slots=True)
class StandIn:
    scenario: Scenario = field(default_factory=Scenario)
    cache: PromptCache = field(default_factory=PromptCache)
    faults: FaultLedger = field(default_factory=FaultLedger)
    containers: Containers = field(default_factory=Containers)

    def count_tokens(self, request: Json, *, beta: bool = False) -> int:
        """Its count of a request, the same that usage reports for it.

        Raises:
            ApiError: 400, as the API would.
        """
        validate_count(request, beta=beta)
        return tokens.count(tokens.segments(request))

    def answer(self, request: Json, *, beta: bool = False, identity: str = "") -> Delivery:
        """What to send. ``identity`` tells apart conversations that look the same, for counting faults.

        Raises:
            ApiError: 400, as the API would, or the failure that a directive asks for.
        """
        validate_message(request, beta=beta)
        self.containers.check(request)
        prompt = tokens.segments(request)
        check_context_window(tokens.count(prompt), self.scenario.context_window)
        messages: Sequence[Json] = request["messages"]
        try:
            turn = self._turn(request, find_prompt(messages))
        except DirectiveError as error:
            raise invalid(f"messages: {error}") from error
        if messages[-1]["role"] == "assistant" and not _continues(turn, messages[-1]):
            raise prefill_refused()
        self._refuse(request, turn, identity)
        key = conversation_key(*_places(request, turn), identity)
        fault = self.faults.next_fault(key, turn.answer.faults)
        if isinstance(fault, Failure):
            raise scripted_failure(fault.status)
        split = self.cache.split(request["model"], prompt)
        reply = compose(turn.answer, request, split, turn.thinking, self.containers.used(request))
        return Delivery(
            reply=reply,
            sleep_seconds=turn.answer.sleep_seconds + turn.pace.first_byte_seconds,
            trickle_seconds=turn.answer.trickle_seconds + turn.pace.token_seconds * reply.output_tokens,
            cut=isinstance(fault, Cut),
        )

    def _refuse(self, request: Json, turn: _Turn, identity: str) -> None:
        """Raise where a directive refuses a block that is still what it was.

        The key holds nothing that a client may mend the request by leaving out: no earlier messages, no ids of calls.
        """
        for refusal in turn.answer.refusals:
            block = block_at(request["messages"], refusal.message, refusal.block)
            if block is None:
                continue
            at = f"messages.{refusal.message}.content.{refusal.block}"
            key = conversation_key("refuse", at, turn.script_text, turn.position, _user_id(request), identity)
            if self.faults.is_refused(key, tokens.canonical(block)):
                raise invalid(f"{at}: {refusal.words}")

    def _turn(self, request: Json, prompt: Prompt | None) -> _Turn:
        messages: Sequence[Json] = request["messages"]
        if (summary := summary_of(request)) is not None:
            return _Turn(ScriptedAnswer(text=summary), self.scenario.pace)
        if prompt is None:
            return _Turn(_echo(""), self.scenario.pace)
        if prompt.script is not None:
            position = played(prompt.script, messages[prompt.index + 1 :], played_before(prompt.text))
            answer = _spoken(prompt.script.answer_at(position), prompt.script.beside)
            return _Turn(answer, self.scenario.pace, NO_THINKING, prompt.script, prompt.text, prompt.index, position)
        found = self.scenario.find(text_of(request.get("system")), prompt.text)
        if found is None:
            return _Turn(_unscripted(request, prompt), self.scenario.pace, script_text=prompt.text, index=prompt.index)
        rule, groups = found
        position = played(rule.script, messages[prompt.index + 1 :], played_before(prompt.text))
        built_in = {"user": shorten(prompt.text), "result": shorten(last_tool_result(messages))}
        answer = _spoken(fill(rule.script.answer_at(position), {**built_in, **groups}), prompt.text)
        pace = rule.pace or self.scenario.pace
        return _Turn(answer, pace, rule.thinking, rule.script, prompt.text, prompt.index, position)


def _unscripted(request: Json, prompt: Prompt) -> ScriptedAnswer:
    """An echo behind a script that this message ended, else what an agent on good behaviour would do."""
    messages: Sequence[Json] = request["messages"]
    if has_script(messages[: prompt.index]) or was_scripted(messages):
        return _echo(prompt.text)
    return behave(request, prompt.text, messages[prompt.index + 1 :])


def _spoken(answer: ScriptedAnswer, beside: str) -> ScriptedAnswer:
    return replace(answer, text=_echo(beside).text) if answer.echo else answer


def _echo(text: str) -> ScriptedAnswer:
    return ScriptedAnswer(text=shorten(text.strip()) or "(no text)")


def _continues(turn: _Turn, last: Json) -> bool:
    """Whether a final assistant message is a paused turn sent back, and not words put into the model's mouth."""
    if ends_paused(last):
        return True
    return (
        turn.script is not None
        and turn.position > 0
        and turn.script.answer_at(turn.position - 1).stop_reason == "pause_turn"
    )


def _places(request: Json, turn: _Turn) -> tuple[Any, ...]:
    """What names one place in one conversation, without anything that a retry or a later turn may change."""
    messages: Sequence[Json] = request["messages"]
    return (
        text_of(messages[0]["content"]),
        turn.script_text,
        turn.index,
        turn.position,
        tool_use_ids(messages),
        _user_id(request),
    )


def _user_id(request: Json) -> Any:
    return request.get("metadata", {}).get("user_id")
