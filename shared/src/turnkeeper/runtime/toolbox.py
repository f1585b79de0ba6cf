"""Running the tool calls of one step: only what was granted, in parallel, each within its time, every one answered."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Protocol

from pydantic import ValidationError

from turnkeeper.core.decide import END_TASK, MAX_CALLS, TASK_ENDED
from turnkeeper.core.injection import FLAG_AT, check_injection
from turnkeeper.core.session import Flag, Head, ToolOutcome
from turnkeeper.core.tools import Tool, ToolContext, ToolDenied, ToolError, content_of
from turnkeeper.core.transcript import UNKNOWN_OUTCOME, Block, answer, result_digest, text_of, tool_result
from turnkeeper.core.untrusted import wrap
from turnkeeper.ports import Clock, Ids
from turnkeeper.runtime.threads import Done, Parallel

logger = logging.getLogger(__name__)

#: Bytes of text that one result may bring into the conversation.
MAX_RESULT_BYTES = 200_000

Answer = tuple[Block, ToolOutcome]


class Scrub(Protocol):
    """Takes secrets out of a text that the kit writes down or shows."""

    def __call__(self, text: str) -> str: ...


@dataclass(frozen=True, slots=True)
class Step:
    """The calls of one answer, and what is known about them before they run."""

    head: Head
    calls: Sequence[Block]
    #: The runner did not itself receive the answer that asks for them: it cannot know which of them began.
    resumed: bool
    #: Results that were put down before the runner died, by tool_use_id.
    early: Mapping[str, Any]
    #: Seconds until the runner must have the results, or ``None``.
    left_seconds: float | None
    stop: Callable[[], bool]
    #: Puts a finished call down while others of the step still run.
    put_down: Callable[[str, Any], None]
    #: Why ``once`` tools may not run now, or ``None``.
    once_blocked: str | None = None


class Toolbox:
    """The tools that one session was granted."""

    def __init__(
        self, tools: Mapping[str, Tool], *, clock: Clock, ids: Ids, parallel: Parallel, scrub: Scrub, done: str
    ) -> None:
        self._tools = tools
        self._clock = clock
        self._ids = ids
        self._parallel = parallel
        self._scrub = scrub
        self._done = done

    def get(self, name: str) -> Tool | None:
        return self._tools.get(name)

    def polls(self, name: str) -> bool:
        tool = self._tools.get(name)
        return tool is not None and tool.polls

    def volatile(self, name: str) -> frozenset[str]:
        tool = self._tools.get(name)
        return tool.volatile if tool is not None else frozenset()

    def run(self, step: Step) -> list[Answer]:
        """An answer to every call, in order. Never raises for what a tool does."""
        answers: dict[str, Answer] = {}
        to_run: list[tuple[Block, Tool]] = []
        for index, call in enumerate(step.calls):
            settled = self._without_running(step, index, call)
            if settled is not None:
                answers[call["id"]] = settled
            else:
                to_run.append((call, self._tools[call["name"]]))
        for (call, _), ran in zip(to_run, self._run_all(step, to_run), strict=True):
            answers[call["id"]] = ran
        return [answers[call["id"]] for call in step.calls]

    def _without_running(self, step: Step, index: int, call: Block) -> Answer | None:
        """The answer to a call that must not run, or has run; ``None`` where it is to run."""
        if (early := step.early.get(call["id"])) is not None:
            return early["result"], ToolOutcome.model_validate(early["outcome"])
        if index >= MAX_CALLS:
            return answer(call, f"Not run: at most {MAX_CALLS} calls in one answer. Ask for it again.")
        if call["name"] == END_TASK and self._done == "end_task":
            return answer(call, TASK_ENDED, "ok")
        tool = self._tools.get(call["name"])
        if tool is None:
            return answer(call, self._not_granted(call["name"]), "denied")
        if tool.effect == "once":
            if step.resumed:
                return answer(call, UNKNOWN_OUTCOME, "unknown")
            if step.once_blocked is not None:
                return answer(call, step.once_blocked, "denied")
        return None

    def _not_granted(self, name: str) -> str:
        granted = ", ".join(sorted(self._tools)) or "none"
        return f"There is no tool {name[:128]!r} in this session. Tools of this session: {granted}."

    def _run_all(self, step: Step, to_run: Sequence[tuple[Block, Tool]]) -> list[Answer]:
        timeouts = [self._timeout(step, tool) for _, tool in to_run]
        jobs = [
            self._job(step.head, call, tool, timeout) for (call, tool), timeout in zip(to_run, timeouts, strict=True)
        ]

        def done(index: int, outcome: Done[Answer], still_running: int) -> None:
            call, tool = to_run[index]
            if still_running and tool.effect != "read" and outcome.value is not None:
                result, told = outcome.value
                step.put_down(call["id"], {"result": result, "outcome": told.model_dump(mode="json")})

        outcomes = self._parallel.run_all(jobs, timeouts=timeouts, stop=step.stop, done=done)
        return [
            outcome.result() if outcome is not None else self._given_up(call, tool, timeout)
            for outcome, (call, tool), timeout in zip(outcomes, to_run, timeouts, strict=True)
        ]

    def _timeout(self, step: Step, tool: Tool) -> float:
        if step.left_seconds is None:
            return tool.timeout_seconds
        return max(0.1, min(tool.timeout_seconds, step.left_seconds))

    def _given_up(self, call: Block, tool: Tool, timeout: float) -> Answer:
        """It may still take effect: only a tool that changes nothing has simply failed."""
        if tool.effect == "read":
            text = f"The tool did not answer within {timeout:g} seconds."
            return answer(call, text, "error", int(timeout * 1000))
        text = f"The tool did not answer within {timeout:g} seconds. {UNKNOWN_OUTCOME}"
        return answer(call, text, "unknown", int(timeout * 1000))

    def _job(self, head: Head, call: Block, tool: Tool, timeout: float) -> Callable[[], Answer]:
        def job() -> Answer:
            started = self._clock.monotonic()
            answered = self._call(head, call, tool, timeout)
            duration = int((self._clock.monotonic() - started) * 1000)
            return answered[0], answered[1].model_copy(update={"duration_ms": duration})

        return job

    def _call(self, head: Head, call: Block, tool: Tool, timeout: float) -> Answer:
        context = ToolContext(
            session_id=head.session_id,
            tenant_id=head.tenant_id,
            user_id=head.user_id,
            tool_use_id=call["id"],
            idempotency_key=f"{head.session_id}:{call['id']}",
            deadline=self._clock.now() + timedelta(seconds=timeout),
            logger=logging.LoggerAdapter(logger, {"session_id": head.session_id, "tool": tool.name}),
        )
        try:
            content = content_of(tool.body(context, call["input"]))
        except ToolDenied as denied:
            return answer(call, self._scrub(str(denied)), "denied")
        except ToolError as failed:
            return answer(call, self._scrub(str(failed)) or "The tool failed.")
        except ValidationError as invalid:
            return answer(call, _invalid_arguments(invalid))
        except Exception as error:
            logger.warning("tool %s raised %s", tool.name, type(error).__name__, exc_info=True)
            return answer(call, self._scrub(f"The tool failed: {type(error).__name__}: {error}")[:2000])
        return self._result(head, call, tool, content)

    def _result(self, head: Head, call: Block, tool: Tool, content: list[Block]) -> Answer:
        size, digest = result_digest(content)
        flag = None
        if tool.untrusted:
            wrapped = wrap(content, tool=tool.name, nonce=self._ids.token()[:16], max_bytes=MAX_RESULT_BYTES)
            flag = self._flag(head, call, text_of(content)[:MAX_RESULT_BYTES], forged=wrapped.forged_ends > 0)
            content = list(wrapped.content)
        outcome = ToolOutcome(
            tool_use_id=call["id"],
            tool=tool.name,
            outcome="ok",
            duration_ms=0,
            result_bytes=size,
            result_sha256=digest,
            flag=flag,
        )
        return tool_result(call["id"], content, is_error=False), outcome

    def _flag(self, head: Head, call: Block, text: str, *, forged: bool) -> Flag | None:
        """What in the result looks as if it wanted to be obeyed."""
        finding = check_injection(text)
        score = max(finding.score if finding else 0, FLAG_AT if forged else 0)
        if score < FLAG_AT:
            return None
        reasons = (*(("forged end of a result",) if forged else ()), *(finding.reasons if finding else ()))
        return Flag(seq=head.last_seq + 1, tool_use_id=call["id"], tool=call["name"], score=score, reasons=reasons[:5])


def _invalid_arguments(invalid: ValidationError) -> str:
    """Where and why, in words that the model can act on; without the values, which may be secret."""
    problems = "; ".join(
        f"{'.'.join(map(str, problem['loc'])) or 'arguments'}: {problem['msg']}" for problem in invalid.errors()[:10]
    )
    return f"The arguments do not fit: {problems}. Nothing was run."
