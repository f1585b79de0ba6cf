"""What callers get: every document as a model. The OpenAPI document is made of the same models, and calls each by its
title."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from turnkeeper.core.agent import Limits, Placement
from turnkeeper.core.branching import OnceCall
from turnkeeper.core.caps import format_cap
from turnkeeper.core.denials import Denial
from turnkeeper.core.ledger import ScopeState
from turnkeeper.core.lost_runners import OpenCall
from turnkeeper.core.money import format_usd
from turnkeeper.core.scopes import Scope
from turnkeeper.core.session import EntryType, Flag, ForkedFrom, LeftOut, Plan, RunnerKind, Status, Stop
from turnkeeper.core.tools import Outcome
from turnkeeper.core.usage import Usage


class Document(BaseModel):
    model_config = ConfigDict(frozen=True, defer_build=True)

    def dump(self) -> dict[str, Any]:
        return self.model_dump(mode="json")


# ---- turns and sessions ----


class _Progress(Document):
    session_id: str
    agent: str
    status: Status
    stop: Stop | None
    turn: int = Field(description="Number of the turn, from 1.")
    steps: int
    usage: Usage
    cost_usd: str
    in_doubt_usd: str = Field(
        description="Of the cost, what may not have been spent: calls of which nobody knows what became of them."
    )
    last_seq: int


class _Facts(Document):
    tenant_id: str
    user_id: str
    placement: Placement
    runner: RunnerKind | None = Field(description="What runs it, or ran it last.")
    iterations: int = Field(description="Model calls of this turn.")
    created_at: str
    updated_at: str
    metadata: dict[str, Any]


class _Watch(Document):
    """How the session's runner is."""

    lease_expires_at: str | None = Field(
        description="While a runner has the session: unless it is heard of, another one may take over a little later."
    )
    runner_silent_since: str | None = Field(
        description="Set while the runner should have been heard of again, and was not: it may be lost."
    )


class TurnDocument(_Progress, title="Turn"):
    """Where a session is. Steps, usage and cost are the session's, up to the end of this turn."""

    output: list[dict[str, Any]] = Field(description="What the model said last in this turn: text blocks.")
    output_text: str
    continuation_token: str | None = Field(description="Set whenever there is something to go on with.")


class ContextDocument(Document, title="Context"):
    """How much of its window the conversation takes."""

    tokens: int = Field(description="What the latest answered call had read.")
    window: int | None = Field(description="What a call may read, as far as is known.")
    left_out: int = Field(description="Entries, and blocks of entries, that were ever left out of requests.")


class ScoreDocument(Document, title="Score"):
    """What an evaluator made of one turn."""

    turn: int
    name: str
    value: float = Field(ge=0, le=1)
    passed: bool | None = Field(description="Null where the evaluator only measures.")
    reason: str
    seq: int | None = Field(description="The entry where it went wrong first.")
    at: str
    version: str | None = Field(description="Of the agent, that the turn ran on.")


class SessionSummary(_Facts, _Progress):
    worst_score: ScoreDocument | None = Field(
        default=None, description="With `scored_below`: the lowest of the scores that it is listed for."
    )


class SessionDocument(_Facts, _Watch, TurnDocument, title="Session"):
    role: str
    version: str | None = Field(
        description="Of its agent: prompt, model and tool definitions that it runs on. Null in sessions of 0.1."
    )
    trace_id: str = Field(description="Of the latest turn: the caller's own where its request had a `traceparent`.")
    granted_tools: list[str]
    limits: Limits
    scores: list[ScoreDocument] = Field(description="Of all turns, in order; they come seconds after a turn has ended.")
    flags: list[Flag] = Field(description="Tool results that look as if they carried instructions.")
    repairs: int = Field(description="Times that something was left out because the model API refused it.")
    context: ContextDocument
    forked_from: ForkedFrom | None = Field(description="The session that it began as a copy of.")
    plan: Plan | None


class RewoundDocument(SessionDocument, title="RewoundSession"):
    left_out: list[int] = Field(description="Entries that the model is not sent any more, by seq.")
    once_calls: list[OnceCall] = Field(description="What was done behind, and is not taken back.")


class SessionForUsers(Document):
    """What the user view tells of a turn, a session, or a line of a list: these members of it, and no other."""

    session_id: str
    agent: str
    status: Status
    stop: Stop | None = Field(description="Its detail is what the agent said itself in ending its task.")
    turn: int
    steps: int
    last_seq: int
    created_at: str | None = None
    updated_at: str | None = None
    output: list[dict[str, Any]] | None = None
    output_text: str | None = None
    continuation_token: str | None = None


class SessionList(Document):
    sessions: list[SessionSummary | SessionForUsers]
    next_cursor: str | None


# ---- the story of a session ----


class StoryLine(Document):
    at: str
    text: str
    refs: dict[str, Any] = Field(
        description="Where it stands: `seq` (the transcript), `call` (the ledger), `audit` (the audit trail), "
        "`request_id` (the provider's; of an input, the front door's), `trace_id`, `tool_use_id`, `turn`, `scope`, "
        "`agent`."
    )
    cost_usd: str | None = Field(
        description="What the session was charged here. Those of a whole story add up to its cost."
    )


class Explanation(Document):
    session_id: str
    turn: int | None = Field(description="The turn that was asked for; null for all of the session.")
    story: list[StoryLine] = Field(description="At most 500; of a longer one the middle is left out, and said to be.")
    why_ended: str
    what_now: str = Field(description="One way on in a line, as commands (between backticks) and calls.")


# ---- events ----


class ToolResult(Document):
    tool_use_id: str
    tool: str
    is_error: bool
    outcome: Outcome
    duration_ms: int
    content: list[dict[str, Any]] = Field(description="What the tool returned, without the wrapping for the model.")
    flag: Flag | None = Field(default=None, description="Why the result, or the call, looks suspicious.")
    denial: Denial | None = Field(default=None, description="denied: why the call did not reach its tool.")


class Event(Document):
    """One entry of the transcript. Which members there are depends on ``type``."""

    seq: int
    type: EntryType
    at: str
    content: list[dict[str, Any]] | None = Field(default=None, description="user, assistant: the content blocks.")
    by_kit: bool | None = Field(default=None, description="user: written by the kit itself, not by the user.")
    removed_tools: list[str] | None = Field(
        default=None, description="user: granted tools that the agent has no more. The session does not get them back."
    )
    model: str | None = Field(default=None, description="assistant, compaction")
    usage: dict[str, Any] | None = Field(
        default=None, description="assistant, compaction: as the provider reported it."
    )
    stop_reason: str | None = Field(default=None, description="assistant")
    duration_ms: int | None = Field(default=None, description="assistant")
    request_id: str | None = Field(default=None, description="assistant: the provider's.")
    attempts: int | None = Field(default=None, description="assistant: where it took more than one.")
    cost_usd: str | None = Field(
        default=None,
        description="assistant, compaction, runner_lost; also status, for calls that no answer came of. All of them "
        "add up.",
    )
    in_doubt_usd: str | None = Field(
        default=None,
        description="runner_lost, and wherever some of the cost is in doubt: how much of it may not have been spent.",
    )
    runner_id: str | None = Field(default=None, description="runner_lost: which one, as its logs name it.")
    last_heard_at: str | None = Field(default=None, description="runner_lost: when it last extended its lease.")
    taken_over_by: Literal["lambda", "fargate", "sweep"] | None = Field(
        default=None, description="runner_lost: the next runner; the sweep puts the session on its way to one."
    )
    taken_over_by_id: str | None = Field(default=None, description="runner_lost")
    open_calls: list[OpenCall] | None = Field(
        default=None, description="runner_lost: tool calls that it may have made. Results that follow tell of each."
    )
    results: list[ToolResult] | None = Field(default=None, description="tool_results")
    notes: list[str] | None = Field(default=None, description="tool_results: what the kit told the model beside them.")
    left_out: list[LeftOut] | None = Field(
        default=None, description="repair, rewind, compaction: what the model is not sent any more."
    )
    summary: str | None = Field(default=None, description="compaction: what the model is sent in its place.")
    reason: str | None = Field(default=None, description="repair, rewind, compaction: why. status: what it waits for.")
    status: Status | None = Field(default=None, description="status: where the session went.")
    stop: Stop | None = Field(default=None, description="status: why, where it came to rest.")
    runner: RunnerKind | None = Field(default=None, description="status; runner_lost: what kind the lost one was.")

    def dump(self) -> dict[str, Any]:
        return self.model_dump(mode="json", exclude_none=True)


class EventPage(_Watch):
    events: list[Event]
    last_seq: int = Field(description="Ask for what comes after this one next.")
    status: Status
    more: bool = Field(description="There are more that did not fit: ask again at once.")

    def dump(self) -> dict[str, Any]:
        events = [event.dump() for event in self.events]
        return {"events": events, **self.model_dump(mode="json", exclude={"events"})}


# ---- money ----


class ScopeSpend(Document):
    scope: Scope
    spent_usd: str
    reserved_usd: str = Field(description="Set aside for calls in flight.")
    in_doubt_usd: str | None = Field(
        default=None,
        exclude_if=lambda amount: amount is None,
        description="task: of what is spent, what may not have been.",
    )
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


def scope_of(state: ScopeState, in_doubt_nanousd: int | None = None) -> ScopeSpend:
    return ScopeSpend(
        scope=state.scope,
        spent_usd=format_usd(state.spent),
        reserved_usd=format_usd(state.reserved),
        in_doubt_usd=None if in_doubt_nanousd is None else format_usd(in_doubt_nanousd),
        cap_usd=format_cap(state.cap),
        resets_at=state.resets_at,
        agent=state.agent,
    )


# ---- the rest ----


class AgentDocument(Document, title="Agent"):
    name: str
    model: str
    placement: Placement
    formerly: list[str] = Field(description="Names that it had before, and still answers to.")


class StreamTokenDocument(Document, title="StreamToken"):
    token: str = Field(description="For the query of this session's stream and events, and for nothing else.")
    expires_at: str


class AgentList(Document):
    agents: list[AgentDocument]


class Health(Document):
    status: Literal["ok"] = "ok"


class FieldError(Document):
    where: str
    why: str


class Problem(BaseModel):
    """An error (RFC 9457), with members of its own for each ``code``."""

    model_config = ConfigDict(extra="allow", defer_build=True)

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
