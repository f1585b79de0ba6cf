"""Where sessions and turns are."""

from typing import Any

from pydantic import Field

from functions.api.documents import Document
from turnkeeper.core.agent import Limits, Placement
from turnkeeper.core.session import Flag, ForkedFrom, Plan, RunnerKind, Status, Stop
from turnkeeper.core.usage import Usage


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


class Watch(Document):
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


class SessionDocument(_Facts, Watch, TurnDocument, title="Session"):
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
