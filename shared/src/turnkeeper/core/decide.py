"""What comes next: pure decisions over a session's state. The runtime acts on them and writes what they say.

Two questions are asked over and over. :func:`next_action`: given the transcript so far, what is to be done?
:func:`judge_reply` and :func:`judge_results`: given what was done, does the turn go on or end, and how?
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from turnkeeper.core import breakers as breaking
from turnkeeper.core.breakers import Call, Repetition
from turnkeeper.core.ledger import Clamp
from turnkeeper.core.session import Breakers, Entry, Head, Stop, StopReason, ToolOutcome
from turnkeeper.core.tools import END_TASK
from turnkeeper.core.transcript import GO_ON, PAUSES, Block, answer, last_message, tool_uses, unanswered

NUDGE = (
    "You ended your turn without saying that the task is done. If it is, call end_task with a status and a summary. "
    "If it is not, go on."
)
TASK_ENDED = "The task is ended."

#: Kept in the head of what ``end_task`` was called with; the transcript has all of it.
MAX_DETAIL_CHARS = 8_000
#: Tool calls of one answer that are run; further ones are answered with an error.
MAX_CALLS = 64
#: Tool calls that are kept of one answer at all: each is a record in the transaction that answers them, which has room
#: for a hundred operations.
MAX_KEPT_CALLS = 80


# ---- what to do next ----


@dataclass(frozen=True, slots=True)
class CallModel:
    pass


@dataclass(frozen=True, slots=True)
class RunTools:
    calls: tuple[Block, ...]


@dataclass(frozen=True, slots=True)
class Finish:
    """The turn ends. ``answers`` are for calls that will not run, so that none is left without a result."""

    stop: Stop
    answers: tuple[tuple[Block, ToolOutcome], ...] = ()


@dataclass(frozen=True, slots=True)
class HandOff:
    """The next step may not fit into what this runner has left."""


Action = CallModel | RunTools | Finish | HandOff


def next_action(
    head: Head,
    entries: Sequence[Entry],
    *,
    results_pending: bool,
    elapsed_seconds: float,
    left_seconds: float | None,
    turn_seconds: float,
) -> Action:
    """What a runner that holds the lease does now.

    Args:
        results_pending: the last message's calls have their results, in memory, not yet written.
        elapsed_seconds: since the turn began, over all runners.
        left_seconds: what this runner has before it must have handed off; ``None``: no end in sight.
        turn_seconds: what it had when it started, for a guess before the first step.
    """
    open_calls = () if results_pending else tuple(unanswered(entries))
    if head.turn.cancel_requested:
        answers = tuple(answer(call, "Cancelled before it ran.") for call in open_calls)
        return Finish(Stop(reason="cancelled"), answers)
    if open_calls:
        return RunTools(open_calls)
    if trip := _limit_trip(head, elapsed_seconds):
        return trip
    if left_seconds is not None and left_seconds < step_estimate_seconds(head.step_millis, turn_seconds):
        return HandOff()
    return CallModel()


def _limit_trip(head: Head, elapsed_seconds: float) -> Finish | None:
    if (
        head.turn.iterations >= head.limits.max_iterations and not head.turn.attempts
    ):  # A further attempt is the same iteration.
        return Finish(iterations_up(head))
    if elapsed_seconds > head.limits.max_seconds:
        return Finish(time_up(head, elapsed_seconds))
    return None


def iterations_up(head: Head) -> Stop:
    """The turn has made as many model calls as it may."""
    detail = {
        "iterations": head.turn.iterations,
        "max_iterations": head.limits.max_iterations,
        "hint": "Raise max_iterations to resume.",
    }
    return Stop(reason="no_done_signal" if head.done == "end_task" else "iteration_limit", detail=detail)


def time_up(head: Head, elapsed_seconds: float) -> Stop:
    """The turn has taken as long as it may."""
    detail = {"elapsed_seconds": int(elapsed_seconds), "max_seconds": head.limits.max_seconds}
    return Stop(reason="deadline", detail=detail)


def step_estimate_seconds(step_millis: Sequence[int], turn_seconds: float) -> float:
    """How long the next step may take: half more than the longest of the latest, or before the first a quarter of the
    runner's whole time, at most a minute."""
    if not step_millis:
        return min(60.0, turn_seconds / 4)
    return max(step_millis) / 1000 * 1.5 + min(5.0, turn_seconds / 20)


# ---- what a reply means ----


def kept(content: Sequence[Block]) -> tuple[list[Block], int]:
    """An answer's content without the calls that are too many, and how many those were."""
    blocks: list[Block] = []
    calls = dropped = 0
    for block in content:
        calls += block.get("type") == "tool_use"
        if block.get("type") == "tool_use" and calls > MAX_KEPT_CALLS:
            dropped += 1
        else:
            blocks.append(block)
    return blocks, dropped


@dataclass(frozen=True, slots=True)
class Judgement:
    """What becomes of the turn after a reply or its results.

    ``stop`` is ``None`` while it goes on. ``answers`` belong in a tool_results entry right behind the reply;
    ``note`` is a user message by the kit behind that.
    """

    stop: Stop | None = None
    breakers: Breakers = field(default_factory=Breakers)
    answers: tuple[tuple[Block, ToolOutcome], ...] = ()
    note: str | None = None
    nudged: bool = False
    #: Told to the model beside the results of this step.
    warning: str | None = None


def judge_reply(
    head: Head,
    content: Sequence[Block],
    stop_reason: str,
    *,
    hash_of: Callable[[Block], str],
    polls: Callable[[str], bool],
    clamp: Clamp | None = None,
    compacts: bool = False,
) -> Judgement:
    """Does the turn go on after this answer of the model?

    Args:
        hash_of: hash of a tool call, without its tool's volatile arguments.
        polls: whether a tool is declared to poll; its calls are counted with their results.
        clamp: the cap that made the call smaller than the agent's own ``max_tokens``: what it cuts off is its doing.
        compacts: room is made before the next call: an answer that the window cut off is gone on with then.
    """
    calls = tool_uses(content)
    if stop_reason in _CUT_SHORT:
        stop: Stop | None = Stop(reason=_CUT_SHORT[stop_reason])
        if stop_reason == "max_tokens" and clamp is not None:
            stop = Stop(reason="cost_cap", detail=clamp.detail)
        if stop_reason == WINDOW_FULL and compacts:
            stop = None
        answers = tuple(answer(call, "Not run: the answer that asked for it was cut off.") for call in calls)
        return Judgement(stop, head.turn.breakers, answers, nudged=stop is None and head.turn.nudged)
    if not calls:
        return _judge_words(head, stop_reason)
    others = [call for call in calls if not _ends(head, call)]
    if not others:
        return _judge_end(calls, head.turn.breakers)
    seen = [Call(call["name"], call["input"], hash_of(call)) for call in others if not polls(call["name"])]
    state, repetition = breaking.see_calls(head.turn.breakers, seen, head.limits.repetition_strikes)
    if repetition and repetition.final:
        answers = tuple(answer(call, "Not run: the same call was made too often.") for call in calls)
        return Judgement(_repetition_stop(repetition), state, answers)
    return Judgement(breakers=state, nudged=head.turn.nudged, warning=_warning(repetition))


def _ends(head: Head, call: Block) -> bool:
    return head.done == "end_task" and call["name"] == END_TASK


#: The API's word for an answer that no room was left for.
WINDOW_FULL = "model_context_window_exceeded"
_CUT_SHORT: dict[str, StopReason] = {"max_tokens": "max_tokens", "refusal": "refusal", WINDOW_FULL: "context_window"}


def _judge_words(head: Head, stop_reason: str) -> Judgement:
    """An answer that calls no tool."""
    if stop_reason in PAUSES:
        return Judgement(breakers=head.turn.breakers, nudged=head.turn.nudged)
    if head.done == "end_turn":
        detail = {} if stop_reason == "end_turn" else {"stop_reason": stop_reason}
        return Judgement(Stop(reason="end_turn", detail=detail), head.turn.breakers)
    if head.turn.nudged:
        detail = {"hint": "The agent ended twice without calling end_task."}
        return Judgement(Stop(reason="no_done_signal", detail=detail), head.turn.breakers)
    return Judgement(breakers=head.turn.breakers, note=NUDGE, nudged=True)


def _judge_end(calls: Sequence[Block], state: Breakers) -> Judgement:
    """The model said itself that it is done: the last word counts where it said so more than once."""
    answers = tuple(answer(call, TASK_ENDED, "ok") for call in calls)
    return Judgement(end_of_task(calls[-1]["input"]), state, answers)


def end_of_task(arguments: Any) -> Stop:
    """The end that ``end_task(status, summary)`` asks for."""
    fields = arguments if isinstance(arguments, dict) else {}
    detail = {
        "status": str(fields.get("status", "completed"))[:MAX_DETAIL_CHARS],
        "summary": str(fields.get("summary", ""))[:MAX_DETAIL_CHARS],
    }
    return Stop(reason="end_task", detail=detail)


def judge_results(
    head: Head,
    calls: Sequence[Block],
    results: Sequence[tuple[Block, ToolOutcome]],
    *,
    hash_of: Callable[[Block], str],
    changes: Callable[[str], bool],
) -> Judgement:
    """Does the turn go on after these results?

    Args:
        hash_of: hash of a tool call, without its tool's volatile arguments.
        changes: whether a tool may change something. One that failed or was denied has not.
    """
    seen = [Call(call["name"], call["input"], hash_of(call)) for call in calls if not _ends(head, call)]
    outcomes = [outcome for call, (_, outcome) in zip(calls, results, strict=True) if not _ends(head, call)]
    state, repetition = breaking.see_results(
        head.turn.breakers,
        seen,
        [outcome.result_sha256 for outcome in outcomes],
        head.limits.repetition_strikes,
        changed={
            call.hash
            for call, outcome in zip(seen, outcomes, strict=True)
            if outcome.outcome in ("ok", "unknown") and changes(call.tool)
        },
    )
    failed = sum(outcome.is_error for _, outcome in results)
    state = breaking.see_outcomes(state, failed=failed, total=len(results))
    ends = [
        call for call, (_, outcome) in zip(calls, results, strict=True) if _ends(head, call) and not outcome.is_error
    ]
    if ends:
        return Judgement(end_of_task(ends[-1]["input"]), state)
    if repetition and repetition.final:
        return Judgement(_repetition_stop(repetition), state)
    if state.error_streak >= head.limits.error_streak:
        detail: dict[str, Any] = {"steps": state.error_streak, "tools": sorted({call["name"] for call in calls})}
        return Judgement(Stop(reason="error_streak", detail=detail), state)
    return Judgement(breakers=state, nudged=head.turn.nudged, warning=_warning(repetition))


def _repetition_stop(repetition: Repetition) -> Stop:
    return Stop(
        reason="repetition",
        detail={
            "tool": repetition.call.tool,
            "arguments": repetition.call.arguments,
            "times": repetition.times,
        },
    )


def _warning(repetition: Repetition | None) -> str | None:
    if repetition is None:
        return None
    return (
        f"You have called {repetition.call.tool} {repetition.times} times with the same arguments. Once more and the "
        f"run is stopped. Do something else, or say what is in the way."
    )


# ---- starting again ----


def go_on_note(entries: Sequence[Entry]) -> str | None:
    """What the kit says to the model when a turn goes on after an answer that asked for nothing."""
    last = last_message(entries)
    if last is None or last.type != "assistant" or tool_uses(last.content):
        return None
    # A turn that the API paused goes on by being sent back as it is.
    return None if last.stop_reason in PAUSES else GO_ON
