"""Running the tool calls of one step: only what was granted, in parallel, each within its time, every one answered."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from turnkeeper.core.admission import call_problem
from turnkeeper.core.decide import MAX_CALLS, TASK_ENDED
from turnkeeper.core.denials import Denial, denial_text
from turnkeeper.core.errors import TurnkeeperError
from turnkeeper.core.ledger import iso
from turnkeeper.core.replacing import replace
from turnkeeper.core.session import OUTCOME, Flag, Head
from turnkeeper.core.suspicion import FLAG_AT
from turnkeeper.core.tools import (
    END_TASK,
    NO_PROGRESS,
    NO_VALUES,
    Effect,
    OnProgress,
    Tool,
    ToolContext,
    ToolValues,
)
from turnkeeper.core.tracing import tool_context
from turnkeeper.core.transcript import (
    UNKNOWN_OUTCOME,
    Block,
    answer,
)
from turnkeeper.ports import Clock
from turnkeeper.runtime.current_span import current_span
from turnkeeper.runtime.relaying import Relay
from turnkeeper.runtime.threads import Done, Parallel
from turnkeeper.runtime.tool_answers import Answer, ToolAnswers
from turnkeeper.telemetry import fields

logger = logging.getLogger(__name__)


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
        parallel: Parallel,
        answers: ToolAnswers,
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
        self._parallel = parallel
        self.answers = answers
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
            return _Ended(self.answers.failed(step.head, call, tool, outcome.error), given_up=False)
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
            timeout_seconds=timeout,
        )
        try:
            with current_span(here):
                value = tool.body(context, call["input"])
        except Exception as error:  # noqa: BLE001 - somebody else's code
            return self.answers.failed(head, call, tool, error)
        return self.answers.returned(head, call, tool, value)

    def _progress(self, relay: Relay | None, call: Block, tool: Tool) -> OnProgress:
        if relay is None:
            return NO_PROGRESS
        return lambda text, fraction: relay.progress(call["id"], text, fraction, self.answers.shown(tool, call))


def early_answer(early: Mapping[str, Any], call: Block) -> Answer | None:
    """The answer that a call left behind before its runner died."""
    put_down = early.get(call["id"])
    if put_down is None:
        return None
    return put_down["result"], OUTCOME.validate_python(put_down["outcome"], extra="ignore")
