"""What happened in a session, in the form in which it is judged: inputs, steps, calls with what came of them, the end.

Derived from the stored entries alone, so a turn on Lambda, on a worker, in memory or out of a file looks the same.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from turnkeeper.core.session import Entry, Flag, Head, LeftOut, Plan, Spec, Status, Stop, ToolDefinition, ToolOutcome
from turnkeeper.core.tools import END_TASK, Outcome
from turnkeeper.core.transcript import Block, all_text_of, results_of, text_of, tool_uses
from turnkeeper.core.untrusted import unwrap_blocks
from turnkeeper.core.usage import Usage


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One tool call. ``outcome`` is ``None`` where no result is there (yet)."""

    #: Seq of the answer that asked for it, and of the entry with its result.
    seq: int
    result_seq: int | None = None
    tool_use_id: str
    tool: str
    arguments: Mapping[str, Any]
    #: What the model sent where that was no JSON object.
    raw_input: str | None = None
    outcome: Outcome | None = None
    duration_ms: int = 0
    #: The result's text, without the wrapping that the model sees.
    result: str = ""
    flag: Flag | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One answer of the model, with the calls that it asked for."""

    seq: int
    at: str
    text: str
    model: str | None
    stop_reason: str | None
    usage: Usage
    cost_nanousd: int
    duration_ms: int
    calls: tuple[Call, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Trajectory:
    """A session, or one turn of it."""

    tenant_id: str
    session_id: str
    user_id: str
    role: str
    agent: str
    version: str | None = None
    #: The turn that it is about; ``None`` for all of the session.
    turn: int | None = None
    status: Status
    stop: Stop | None = None
    done: str = "end_turn"
    system: str = ""
    #: All tools of the version, granted or not, by name.
    tools: Mapping[str, ToolDefinition] = field(default_factory=dict)
    granted_tools: tuple[str, ...] = ()
    #: What users said, in order, and the seqs of those entries.
    inputs: tuple[str, ...] = ()
    input_seqs: tuple[int, ...] = ()
    steps: tuple[Step, ...] = ()
    plan: Plan | None = None
    flags: tuple[Flag, ...] = ()
    #: Of repairs, what had to be left out of requests.
    repairs: tuple[LeftOut, ...] = ()
    last_seq: int = 0
    cost_nanousd: int = 0

    @property
    def calls(self) -> tuple[Call, ...]:
        return tuple(call for step in self.steps for call in step.calls)

    @property
    def output_text(self) -> str:
        """What the agent said last."""
        return self.steps[-1].text if self.steps else ""

    @property
    def usage(self) -> Usage:
        return sum((step.usage for step in self.steps), Usage())

    @property
    def busy_ms(self) -> int:
        """Time of model and tools; not the time that a session waits for its user or a runner."""
        return sum(step.duration_ms + max((call.duration_ms for call in step.calls), default=0) for step in self.steps)


def trajectory_of(
    head: Head, entries: Sequence[Entry], spec: Spec | None, plan: Plan | None = None, *, turn_only: bool = False
) -> Trajectory:
    """The session, or its latest turn with the inputs of all turns before, as far as these entries tell of it."""
    since = head.turn.seq if turn_only else 0
    steps = [entry for entry in entries if entry.type == "assistant" and entry.seq >= since]
    inputs = [entry for entry in entries if entry.by_user]
    answers = dict(_answers(entries))
    tools = {definition.name: definition for definition in spec.tools} if spec is not None else {}
    return Trajectory(
        tenant_id=head.tenant_id,
        session_id=head.session_id,
        user_id=head.user_id,
        role=head.role,
        agent=head.agent,
        version=head.version,
        turn=head.turn.number if turn_only else None,
        status=head.status,
        stop=head.stop,
        done=head.done,
        system=spec.system if spec is not None else "",
        tools=tools,
        granted_tools=(*head.shown_tools, *((END_TASK,) if head.done == "end_task" else ())),
        inputs=tuple(all_text_of(list(entry.content)) for entry in inputs),
        input_seqs=tuple(entry.seq for entry in inputs),
        steps=tuple(_step(entry, answers) for entry in steps),
        plan=plan,
        flags=tuple(flag for flag in head.flags if flag.seq >= since),
        repairs=tuple(
            one for entry in entries if entry.type == "repair" and entry.seq >= since for one in entry.left_out
        ),
        last_seq=head.last_seq,
        cost_nanousd=sum(entry.cost_nanousd for entry in entries if entry.seq >= since),
    )


def calls_of(entries: Sequence[Entry]) -> tuple[Call, ...]:
    """The calls in these entries, with what came of them."""
    answers = dict(_answers(entries))
    return tuple(call for entry in entries if entry.type == "assistant" for call in _step(entry, answers).calls)


def _step(entry: Entry, answers: Mapping[str, tuple[int, ToolOutcome, Block]]) -> Step:
    return Step(
        seq=entry.seq,
        at=entry.at,
        text=text_of(entry.content),
        model=entry.model,
        stop_reason=entry.stop_reason,
        usage=Usage.of(entry.usage),
        cost_nanousd=entry.cost_nanousd,
        duration_ms=entry.duration_ms or 0,
        calls=tuple(_call(entry.seq, call, answers.get(call["id"])) for call in tool_uses(entry.content)),
    )


def _call(seq: int, call: Block, answered: tuple[int, ToolOutcome, Block] | None) -> Call:
    arguments = call.get("input")
    asked = Call(
        seq=seq,
        tool_use_id=call["id"],
        tool=call["name"],
        arguments=arguments if isinstance(arguments, Mapping) else {},
        raw_input=call.get("raw_input"),
    )
    if answered is None:
        return asked
    result_seq, outcome, block = answered
    content = block.get("content") or []
    text = content if isinstance(content, str) else all_text_of(unwrap_blocks(content))
    return replace(
        asked,
        result_seq=result_seq,
        outcome=outcome.outcome,
        duration_ms=outcome.duration_ms,
        result=text,
        flag=outcome.flag,
    )


def _answers(entries: Iterable[Entry]) -> Iterable[tuple[str, tuple[int, ToolOutcome, Block]]]:
    for entry in entries:
        if entry.type == "tool_results":
            for outcome, block in results_of(entry):
                if block is not None:
                    yield outcome.tool_use_id, (entry.seq, outcome, block)
