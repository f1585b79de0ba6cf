"""Running the tool calls of one step: only what was granted, in parallel, each within its time, every one answered."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from pydantic import ValidationError

from turnkeeper.core.admission import call_problem
from turnkeeper.core.decide import MAX_CALLS, TASK_ENDED
from turnkeeper.core.denials import Denial, denial_text
from turnkeeper.core.errors import ToolValueError, TurnkeeperError
from turnkeeper.core.ledger import iso
from turnkeeper.core.replacing import replace
from turnkeeper.core.session import OUTCOME, Flag, Head, ToolOutcome
from turnkeeper.core.suspicion import FLAG_AT
from turnkeeper.core.tools import (
    END_TASK,
    NO_PROGRESS,
    NO_VALUES,
    Effect,
    ForeignToolError,
    OnProgress,
    Outcome,
    Tool,
    ToolContext,
    ToolDenied,
    ToolError,
    ToolValues,
    content_of,
)
from turnkeeper.core.tracing import tool_context
from turnkeeper.core.transcript import (
    UNKNOWN_OUTCOME,
    Block,
    all_text_of,
    answer,
    outcome_of,
    text_block,
    tool_result,
)
from turnkeeper.core.untrusted import wrap
from turnkeeper.ports import Clock, Ids, InjectionDetector, Redacts
from turnkeeper.runtime.current_span import current_span
from turnkeeper.runtime.relaying import Relay
from turnkeeper.runtime.threads import Done, Parallel
from turnkeeper.telemetry import fields

logger = logging.getLogger(__name__)

#: Bytes of text that one result may bring into the conversation.
MAX_RESULT_BYTES = 200_000
#: Signs of an error's text, likewise.
MAX_ERROR_CHARS = 10_000
#: How far back a log tells what an error came of.
MAX_CAUSES = 5

Answer = tuple[Block, ToolOutcome]


@dataclass(frozen=True, slots=True)
class _Ended:
    answer: Answer
    given_up: bool


@dataclass(frozen=True, slots=True)
class Ran:
    """An answer to every call of a step; ``given_up`` where one of them was still running."""

    answers: list[Answer]
    given_up: bool


@dataclass(frozen=True, slots=True)
class Step:
    """The calls of one answer, and what is known about them before they run."""

    head: Head
    calls: Sequence[Block]
    #: The runner did not itself receive the answer that asks for them: it cannot know which of them began.
    resumed: bool
    #: Results that were put down before the runner died, by tool_use_id.
    early: Mapping[str, Any]
    #: What the session's tools may do, as it was frozen into the session: some may be gone by now.
    effects: Mapping[str, Effect]
    #: Seconds until the runner must have the results, or ``None``.
    left_seconds: float | None
    stop: Callable[[], bool]
    #: Puts a finished call down while others of the step still run.
    put_down: Callable[[str, Any], None]
    #: Why ``once`` tools may not run now, or ``None``.
    once_blocked: str | None = None
    #: Tells who looks on which calls run.
    relay: Relay | None = None


class Toolbox:
    """The tools that one session was granted."""

    def __init__(
        self,
        tools: Mapping[str, Tool],
        *,
        clock: Clock,
        ids: Ids,
        parallel: Parallel,
        redactor: Redacts,
        detector: InjectionDetector,
        done: str,
        denial: Callable[[str], Denial],
        values: ToolValues = NO_VALUES,
        secret_arguments: Callable[[str, Any], Collection[str]],
    ) -> None:
        #: Of a tool's name and a call's arguments: see :func:`turnkeeper.core.agent.secret_arguments`.
        self.secret_arguments = secret_arguments
        self._values = values
        self._tools = tools
        self._clock = clock
        self._ids = ids
        self._parallel = parallel
        self._redactor = redactor
        self._detector = detector
        self._done = done
        self._denial = denial

    @property
    def names(self) -> Collection[str]:
        return self._tools.keys()

    def get(self, name: str) -> Tool | None:
        return self._tools.get(name)

    def polls(self, name: str) -> bool:
        tool = self._tools.get(name)
        return tool is not None and tool.polls

    def changes(self, name: str) -> bool:
        tool = self._tools.get(name)
        return tool is not None and tool.effect != "read"

    def volatile(self, name: str) -> frozenset[str]:
        tool = self._tools.get(name)
        return tool.volatile if tool is not None else frozenset()

    def run(self, step: Step) -> Ran:
        """An answer to every call, in order. Never raises for what a tool does."""
        settled = [self._without_running(step, index, call) for index, call in enumerate(step.calls)]
        to_run = [
            (call, self._tools[call["name"]])
            for call, without_running in zip(step.calls, settled, strict=True)
            if without_running is None
        ]
        ran = iter(ends := self._run_all(step, to_run))
        answers = [next(ran).answer if one is None else one for one in settled]
        return Ran(answers, given_up=any(end.given_up for end in ends))

    def _without_running(self, step: Step, index: int, call: Block) -> Answer | None:
        """The answer to a call that must not run, or has run; ``None`` where it is to run."""
        if (early := early_answer(step.early, call)) is not None:
            return early
        if index >= MAX_CALLS:
            return answer(call, f"Not run: at most {MAX_CALLS} calls in one answer. Ask for it again.")
        if (problem := call_problem(call)) is not None:
            return answer(call, f"Not run: {problem}")
        if call["name"] == END_TASK and self._done == "end_task":
            return answer(call, TASK_ENDED, "ok")
        tool = self._tools.get(call["name"])
        if tool is None:
            if step.resumed and step.effects.get(call["name"], "read") != "read":
                # It was granted when it was asked for: it may have been made, and is now gone or out of reach.
                return answer(call, UNKNOWN_OUTCOME, "unknown")
            return self.not_granted(step.head, call)
        if tool.effect == "once":
            if step.resumed:
                return answer(call, UNKNOWN_OUTCOME, "unknown")
            if step.once_blocked is not None:
                return answer(call, step.once_blocked, "denied")
        return None

    def not_granted(self, head: Head, call: Block) -> Answer:
        """The answer to a call of a tool that is out of reach."""
        granted = ", ".join(sorted(self._tools)) or "none"
        name = call["name"][:128]
        denial = self._denial(name)
        text = f"{denial_text(name, denial)} Tools of this session: {granted}."
        block, outcome = answer(call, text, "denied")
        reasons = ("a call outside the grant",)
        flag = Flag(seq=head.last_seq + 1, tool_use_id=call["id"], tool=name, score=FLAG_AT, reasons=reasons)
        return block, replace(outcome, flag=flag, denial=denial)

    # ---- running ----

    def _run_all(self, step: Step, to_run: Sequence[tuple[Block, Tool]]) -> list[_Ended]:
        timeouts = [self._timeout(step, tool) for _, tool in to_run]
        jobs = [self._job(step, call, tool, timeout) for (call, tool), timeout in zip(to_run, timeouts, strict=True)]

        def done(index: int, outcome: Done[Answer], still_running: int) -> None:
            call, tool = to_run[index]
            if step.relay is not None and outcome.value is not None:
                step.relay.finished(call["id"], outcome.value[1].outcome)
            if still_running and tool.effect != "read" and outcome.value is not None:
                result, reached = outcome.value
                self._put_down(step, call, {"result": result, "outcome": OUTCOME.dump_python(reached, mode="json")})

        outcomes = self._parallel.run_all(jobs, timeouts=timeouts, stop=step.stop, done=done)
        return [
            self._ended(step, call, tool, timeout, outcome)
            for outcome, (call, tool), timeout in zip(outcomes, to_run, timeouts, strict=True)
        ]

    @staticmethod
    def _put_down(step: Step, call: Block, result: Any) -> None:
        """A precaution: where the table has a bad moment, the step's own write still brings the result."""
        try:
            step.put_down(call["id"], result)
        except TurnkeeperError as error:
            logger.warning("the result of %s was not put down early: %s", call["name"][:128], error.code)

    def _timeout(self, step: Step, tool: Tool) -> float:
        if step.left_seconds is None:
            return tool.timeout_seconds
        return max(0.1, min(tool.timeout_seconds, step.left_seconds))

    def _ended(self, step: Step, call: Block, tool: Tool, timeout: float, outcome: Done[Answer] | None) -> _Ended:
        if outcome is None:
            return _Ended(self._given_up(step, call, tool, timeout), given_up=True)
        if outcome.error is not None:
            # SystemExit and the like: a tool that wants to end the process ends itself.
            return _Ended(self._failed(step.head, call, tool, outcome.error), given_up=False)
        assert outcome.value is not None
        return _Ended(outcome.value, given_up=False)

    @staticmethod
    def _given_up(step: Step, call: Block, tool: Tool, timeout: float) -> Answer:
        """It may still take effect: only a tool that changes nothing has simply failed."""
        why = f"The tool did not answer within {timeout:g} seconds."
        if step.stop():
            why = "The run was stopped before the tool answered."
        if tool.effect == "read":
            return answer(call, why, "error", int(timeout * 1000))
        return answer(call, f"{why} {UNKNOWN_OUTCOME}", "unknown", int(timeout * 1000))

    def _job(self, step: Step, call: Block, tool: Tool, timeout: float) -> Callable[[], Answer]:
        def job() -> Answer:
            began_at, started = iso(self._clock.now()), self._clock.monotonic()
            if step.relay is not None:
                step.relay.started(call["id"], tool.name)
            block, outcome = self._call(step, call, tool, timeout)
            duration = int((self._clock.monotonic() - started) * 1000)
            return block, replace(outcome, duration_ms=duration, began_at=began_at)

        return job

    def _call(self, step: Step, call: Block, tool: Tool, timeout: float) -> Answer:
        head = step.head
        here = tool_context(head, call["id"])
        context = ToolContext(
            session_id=head.session_id,
            tenant_id=head.tenant_id,
            user_id=head.user_id,
            tool_use_id=call["id"],
            idempotency_key=f"{head.session_id}:{call['id']}",
            deadline=self._clock.now() + timedelta(seconds=timeout),
            # By itself: the tool may write from threads of its own.
            logger=logging.LoggerAdapter(
                logger, {**fields.of_head(head), "tool": tool.name, "tool_use_id": call["id"]}
            ),
            traceparent=here.traceparent,
            values=self._values,
            on_progress=self._progress(step.relay, call, tool),
        )
        try:
            with current_span(here):
                value = tool.body(context, call["input"])
        except Exception as error:  # noqa: BLE001 - somebody else's code
            return self._failed(head, call, tool, error)
        try:
            return self._told(head, call, tool, self._redactor.without_given(content_of(value)), "ok")
        except Exception as error:  # noqa: BLE001 - what it returned is no JSON, or worse
            text = f"The tool ran, but what it returned cannot be shown: {type(error).__name__}."
            return answer(call, text)

    def _progress(self, relay: Relay | None, call: Block, tool: Tool) -> OnProgress:
        if relay is None:
            return NO_PROGRESS
        return lambda text, fraction: relay.progress(call["id"], text, fraction, self._shown(tool, call))

    # ---- what came of it ----

    def observed(self, head: Head, call: Block, content: list[Block], outcome: Outcome) -> Answer:
        """The answer to a call that another engine made, and had answered before the kit saw it: flagged where it looks
        as if it carried instructions, cut to what an entry may hold, and else as it came."""
        flag = self._flag(head, call, all_text_of(content)[:MAX_RESULT_BYTES], forged=False)
        shown = tool_result(call["id"], _cut(content, MAX_RESULT_BYTES), is_error=outcome != "ok")
        return shown, outcome_of(call, content, outcome, flag=flag)

    def _shown(self, tool: Tool, call: Block) -> Callable[[str], str]:
        """What a tool says in words of its own, as it may be shown: without secrets, by shape and by the arguments that
        it declares."""

        def shown(text: str) -> str:
            redactor = self._redactor.with_names(tool.secret_arguments) if tool.secret_arguments else self._redactor
            return redactor.redact_text(text, known=redactor.values(call["input"]))

        return shown

    def _failed(self, head: Head, call: Block, tool: Tool, error: BaseException) -> Answer:
        """The answer to a call that raised. Tools quote what they were given in their errors: secrets go out of them,
        by shape and by the arguments that the tool declares."""
        without_secrets = self._shown(tool, call)

        def shown(text: str) -> str:
            return without_secrets(text)[:MAX_ERROR_CHARS].strip()

        match error:
            case ToolDenied():
                return self._said(head, call, tool, shown(_words_of(error)) or "Denied.", "denied")
            case ForeignToolError():
                text = shown(_words_of(error)) or "The tool failed."
                return self._told(head, call, tool, [text_block(text)], "error")
            case ToolError():
                return self._said(head, call, tool, shown(_words_of(error)) or "The tool failed.", "error")
            case ToolValueError():
                # For those who deploy it. What the model could do about it is at most to ask again.
                logger.error("tool %s of agent %s: %s", tool.name, head.agent, shown(error.detail))
                again = "Try again later." if error.retryable else "Its operator sees why in the logs."
                return answer(call, f"The tool cannot be used now. {again}")
            case ValidationError():
                return answer(call, shown(_invalid_arguments(tool, error)))
        # Its words are in the transcript, for those who may read that.
        logger.warning("tool %s raised %s", tool.name, _without_words(error))
        text = shown(f"The tool failed: {type(error).__name__}: {_words_of(error)}")[:2000]
        return self._told(head, call, tool, [text_block(text)], "error")

    def _said(self, head: Head, call: Block, tool: Tool, text: str, outcome: Outcome) -> Answer:
        """The words of the tool itself stand as they are. But tools pass on what they were told: words that want to be
        obeyed, or to pass for the kit's, are data like any other."""
        wrapped = wrap([text_block(text)], tool=tool.name, nonce=self._ids.token()[:16], max_bytes=MAX_RESULT_BYTES)
        if tool.untrusted and self._flag(head, call, text, forged=wrapped.forged_ends > 0) is not None:
            return self._told(head, call, tool, [text_block(text)], outcome)
        return answer(call, text, outcome)

    def _told(self, head: Head, call: Block, tool: Tool, content: list[Block], outcome: Outcome) -> Answer:
        """A result as the model is shown it, or an error in words that nobody vouches for."""
        flag = None
        if tool.untrusted:
            wrapped = wrap(content, tool=tool.name, nonce=self._ids.token()[:16], max_bytes=MAX_RESULT_BYTES)
            flag = self._flag(head, call, all_text_of(content)[:MAX_RESULT_BYTES], forged=wrapped.forged_ends > 0)
            shown = list(wrapped.content)
        else:
            shown = _cut(content, MAX_RESULT_BYTES)
        return tool_result(call["id"], shown, is_error=outcome != "ok"), outcome_of(call, content, outcome, flag=flag)

    def _flag(self, head: Head, call: Block, text: str, *, forged: bool) -> Flag | None:
        """What in the result looks as if it wanted to be obeyed."""
        finding = self._detector.check(text)
        score = max(finding.score if finding else 0, FLAG_AT if forged else 0)
        if score < FLAG_AT:
            return None
        reasons = (*(("forged end of a result",) if forged else ()), *(finding.reasons if finding else ()))
        return Flag(seq=head.last_seq + 1, tool_use_id=call["id"], tool=call["name"], score=score, reasons=reasons[:5])


def early_answer(early: Mapping[str, Any], call: Block) -> Answer | None:
    """The answer that a call left behind before its runner died."""
    put_down = early.get(call["id"])
    if put_down is None:
        return None
    return put_down["result"], OUTCOME.validate_python(put_down["outcome"], extra="ignore")


def _cut(content: Sequence[Block], max_bytes: int) -> list[Block]:
    """Results that are trusted are not wrapped, but no less limited."""
    kept: list[Block] = []
    for block in content:
        text = block["text"] if block.get("type") == "text" else ""
        encoded = text.encode("utf-8", "replace")
        if len(encoded) > max_bytes:
            shown = encoded[:max_bytes].decode("utf-8", "ignore")
            kept.append(text_block(f"{shown}\n[truncated: {max_bytes} of {len(encoded)} bytes]"))
        else:
            kept.append(block)
        max_bytes -= min(len(encoded), max_bytes)
    return kept


def _words_of(error: BaseException) -> str:
    try:
        return str(error)
    except Exception:  # noqa: BLE001 - somebody else's __str__
        return type(error).__name__


def _without_words(error: BaseException) -> str:
    """Its type, and what it came of, each with the lines of code that it came through."""
    told: list[str] = []
    cause: BaseException | None = error
    while cause is not None and len(told) < MAX_CAUSES:
        told.append(f"{type(cause).__name__} at\n{''.join(traceback.format_tb(cause.__traceback__))}")
        cause = cause.__cause__ or (None if cause.__suppress_context__ else cause.__context__)
    return "because of ".join(told)[:MAX_ERROR_CHARS].rstrip()


def _invalid_arguments(tool: Tool, invalid: ValidationError) -> str:
    """Where and why, and what the tool takes instead, in words that the model can act on; without the values, which may
    be secret."""
    problems = "; ".join(
        f"{'.'.join(map(str, problem['loc'])) or 'arguments'}: {problem['msg']}" for problem in invalid.errors()[:10]
    )
    text = f"The arguments do not fit: {problems}. Nothing was run."
    if callable(tool.input_schema):
        return text
    return f"{text} It takes: {', '.join(tool.input_schema.get('properties', ())) or 'no arguments'}."
