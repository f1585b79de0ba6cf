"""What callers get: every answer as a model, and how it is made of a session. The OpenAPI document is made of the
same models."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from turnkeeper.core.agent import Limits, Placement
from turnkeeper.core.caps import format_cap
from turnkeeper.core.ledger import ScopeState
from turnkeeper.core.money import format_usd
from turnkeeper.core.scopes import Scope
from turnkeeper.core.session import (
    Entry,
    EntryType,
    Flag,
    Head,
    Plan,
    RunnerKind,
    Status,
    Stop,
    ToolOutcome,
    Usage,
)
from turnkeeper.core.stops import resumable
from turnkeeper.core.tools import Outcome
from turnkeeper.core.transcript import Block, text_block, text_of
from turnkeeper.core.untrusted import unwrap_blocks


class Document(BaseModel):
    model_config = ConfigDict(frozen=True)

    def dump(self) -> dict[str, Any]:
        return self.model_dump(mode="json")


# ---- turns and sessions ----


class Turn(Document):
    """Where a session is. Steps, usage and cost are the session's, up to the end of this turn."""

    session_id: str
    agent: str
    status: Status
    stop: Stop | None
    output: list[dict[str, Any]] = Field(description="What the model said last in this turn: text blocks.")
    output_text: str
    turn: int = Field(description="Number of the turn, from 1.")
    steps: int
    usage: Usage
    cost_usd: str
    last_seq: int
    continuation_token: str | None = Field(description="Set whenever there is something to go on with.")


class SessionSummary(Document):
    session_id: str
    tenant_id: str
    user_id: str
    agent: str
    status: Status
    stop: Stop | None
    turn: int
    steps: int
    iterations: int = Field(description="Model calls of this turn.")
    usage: Usage
    cost_usd: str
    last_seq: int
    placement: Placement
    runner: RunnerKind | None = Field(description="What runs it, or ran it last.")
    created_at: str
    updated_at: str
    metadata: dict[str, Any]


class Session(Turn):
    tenant_id: str
    user_id: str
    role: str
    placement: Placement
    runner: RunnerKind | None = Field(description="What runs it, or ran it last.")
    granted_tools: list[str]
    limits: Limits
    iterations: int = Field(description="Model calls of this turn.")
    created_at: str
    updated_at: str
    metadata: dict[str, Any]
    scores: list[dict[str, Any]]
    flags: list[Flag] = Field(description="Tool results that look as if they carried instructions.")
    plan: Plan | None


class SessionList(Document):
    sessions: list[SessionSummary]
    next_cursor: str | None


def turn_of(head: Head, answer: Entry | None, token: str | None) -> Turn:
    return Turn(**_turn_fields(head, answer, token))


def session_of(
    head: Head, answer: Entry | None, token: str | None, plan: Plan | None, scores: Sequence[Mapping[str, Any]]
) -> Session:
    return Session(
        **_turn_fields(head, answer, token),
        tenant_id=head.tenant_id,
        user_id=head.user_id,
        role=head.role,
        placement=head.placement,
        runner=head.runner,
        granted_tools=list(head.granted_tools),
        limits=head.limits,
        iterations=head.turn.iterations,
        created_at=head.created_at,
        updated_at=head.updated_at,
        metadata=head.metadata,
        scores=[dict(score) for score in scores],
        flags=list(head.flags),
        plan=plan,
    )


def summary_of(head: Head) -> SessionSummary:
    return SessionSummary(
        session_id=head.session_id,
        tenant_id=head.tenant_id,
        user_id=head.user_id,
        agent=head.agent,
        status=head.status,
        stop=head.stop,
        turn=head.turn.number,
        steps=head.steps,
        iterations=head.turn.iterations,
        usage=head.account.usage,
        cost_usd=format_usd(head.account.cost_nanousd),
        last_seq=head.last_seq,
        placement=head.placement,
        runner=head.runner,
        created_at=head.created_at,
        updated_at=head.updated_at,
        metadata=head.metadata,
    )


def _turn_fields(head: Head, answer: Entry | None, token: str | None) -> dict[str, Any]:
    output = output_of(head.stop, answer)
    return {
        "session_id": head.session_id,
        "agent": head.agent,
        "status": head.status,
        "stop": head.stop,
        "output": output,
        "output_text": text_of(output),
        "turn": head.turn.number,
        "steps": head.steps,
        "usage": head.account.usage,
        "cost_usd": format_usd(head.account.cost_nanousd),
        "last_seq": head.last_seq,
        "continuation_token": token,
    }


def output_of(stop: Stop | None, answer: Entry | None) -> list[Block]:
    """What a person is to read: the text of the last answer, or what the model said in ending the task."""
    output = [block for block in (answer.content if answer else ()) if block.get("type") == "text"]
    if not output and stop is not None and stop.reason == "end_task" and stop.detail.get("summary"):
        return [text_block(stop.detail["summary"])]
    return output


def can_go_on(head: Head) -> bool:
    """Whether there is something that a continuation token would be for."""
    return not head.resting or resumable(head)


def earlier_turn(head: Head, entries: Iterable[Entry], number: int) -> Turn:
    """A turn that later ones have followed, as it was when it ended."""
    turn, steps, usage, cost = 0, 0, Usage(), 0
    answer, ended, last_seq = None, None, 0
    for entry in entries:
        if entry.type == "user" and not entry.by_kit:
            turn += 1
            if turn > number:
                break
            answer, ended = None, None
        last_seq, cost = entry.seq, cost + entry.cost_nanousd
        if entry.type == "assistant":
            answer, steps, usage = entry, steps + 1, usage + Usage.of(entry.usage)
        elif entry.type == "status":
            ended = entry
    return Turn(
        session_id=head.session_id,
        agent=head.agent,
        status=(ended.status if ended else None) or head.status,
        stop=ended.stop if ended else None,
        output=output_of(ended.stop if ended else None, answer),
        output_text=text_of(output_of(ended.stop if ended else None, answer)),
        turn=number,
        steps=steps,
        usage=usage,
        cost_usd=format_usd(cost),
        last_seq=last_seq,
        continuation_token=None,
    )


# ---- events ----


class ToolResult(Document):
    tool_use_id: str
    tool: str
    is_error: bool
    outcome: Outcome
    duration_ms: int
    content: list[dict[str, Any]] = Field(description="What the tool returned, without the wrapping for the model.")
    flag: Flag | None = Field(default=None, description="Why the result, or the call, looks suspicious.")


class Event(Document):
    """One entry of the transcript. Which members there are depends on ``type``."""

    seq: int
    type: EntryType
    at: str
    content: list[dict[str, Any]] | None = Field(default=None, description="user, assistant: the content blocks.")
    by_kit: bool | None = Field(default=None, description="user: written by the kit itself, not by the user.")
    model: str | None = Field(default=None, description="assistant")
    usage: dict[str, Any] | None = Field(default=None, description="assistant: as the provider reported it.")
    stop_reason: str | None = Field(default=None, description="assistant")
    duration_ms: int | None = Field(default=None, description="assistant")
    request_id: str | None = Field(default=None, description="assistant: the provider's.")
    attempts: int | None = Field(default=None, description="assistant: where it took more than one.")
    cost_usd: str | None = Field(
        default=None, description="assistant; also status, for calls that no answer came of. All of them add up."
    )
    results: list[ToolResult] | None = Field(default=None, description="tool_results")
    notes: list[str] | None = Field(default=None, description="tool_results: what the kit told the model beside them.")
    status: Status | None = Field(default=None, description="status: where the session went.")
    stop: Stop | None = Field(default=None, description="status: why, where it came to rest.")
    runner: RunnerKind | None = Field(default=None, description="status")

    def dump(self) -> dict[str, Any]:
        return self.model_dump(mode="json", exclude_none=True)


class EventPage(Document):
    events: list[Event]
    last_seq: int = Field(description="Ask for what comes after this one next.")
    status: Status
    more: bool = Field(description="There are more that did not fit: ask again at once.")

    def dump(self) -> dict[str, Any]:
        events = [event.dump() for event in self.events]
        return {"events": events, "last_seq": self.last_seq, "status": self.status, "more": self.more}


def event_of(entry: Entry) -> Event:
    cost = format_usd(entry.cost_nanousd)
    match entry.type:
        case "user":
            more: dict[str, Any] = {"content": list(entry.content), "by_kit": entry.by_kit or None}
        case "assistant":
            names = ("model", "usage", "stop_reason", "duration_ms", "request_id", "attempts")
            more = {name: getattr(entry, name) for name in names}
            more |= {"content": list(entry.content), "cost_usd": cost}
        case "tool_results":
            blocks = [block for block in entry.content if block.get("type") == "tool_result"]
            notes = [str(block["text"]) for block in entry.content if block.get("type") == "text"]
            results = [_result(block, outcome) for block, outcome in zip(blocks, entry.outcomes, strict=True)]
            more = {"results": results, "notes": notes or None}
        case "status":
            more = {"status": entry.status, "stop": entry.stop, "runner": entry.runner}
            more["cost_usd"] = cost if entry.cost_nanousd else None
    return Event(seq=entry.seq, type=entry.type, at=entry.at, **more)


def _result(block: Block, outcome: ToolOutcome) -> ToolResult:
    content = block.get("content") or []
    return ToolResult(
        tool_use_id=outcome.tool_use_id,
        tool=outcome.tool,
        is_error=outcome.is_error,
        outcome=outcome.outcome,
        duration_ms=outcome.duration_ms,
        content=unwrap_blocks([text_block(content)] if isinstance(content, str) else content),
        flag=outcome.flag,
    )


# ---- money ----


class ScopeSpend(Document):
    scope: Scope
    spent_usd: str
    reserved_usd: str = Field(description="Set aside for calls in flight.")
    cap_usd: str = Field(description='An amount, or "unlimited".')
    resets_at: str | None
    agent: str | None = Field(
        default=None, exclude_if=lambda agent: agent is None, description="Whose counter it is, of a scope of agents."
    )


class Spend(Document):
    tenant_id: str
    user_id: str
    session_id: str | None = Field(description="Whose task is among the scopes.")
    scopes: list[ScopeSpend]


def scope_of(state: ScopeState) -> ScopeSpend:
    return ScopeSpend(
        scope=state.scope,
        spent_usd=format_usd(state.spent),
        reserved_usd=format_usd(state.reserved),
        cap_usd=format_cap(state.cap),
        resets_at=state.resets_at,
        agent=state.agent,
    )


# ---- the rest ----


class Health(Document):
    status: Literal["ok"] = "ok"


class FieldError(Document):
    where: str
    why: str


class Problem(BaseModel):
    """An error (RFC 9457), with members of its own for each ``code``."""

    model_config = ConfigDict(extra="allow")

    type: str
    title: str
    status: int
    detail: str
    code: str
    session_id: str | None = None


class InvalidRequestProblem(Problem):
    errors: list[FieldError] = []


class CostCapProblem(Problem):
    scope: Scope
    limit_usd: str
    spent_usd: str
    reserved_usd: str
    needed_usd: str
    contended: bool = Field(description="Only money set aside for calls in flight is in the way.")
    resets_at: str | None
    continuation_token: str | None = None


class ConflictProblem(Problem):
    session_status: Status


class InputTooLargeProblem(Problem):
    limit_bytes: int
