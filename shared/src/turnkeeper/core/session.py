"""The state of a session: its head, its transcript's entries, and what the model is sent around them.

The transcript is the truth. The head holds what a runner needs to go on without reading it all again: counters,
the lease, the money in flight, the breakers' window. Both change only in one transaction together.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from turnkeeper.core.companion import CompanionOf
from turnkeeper.core.denials import Denial
from turnkeeper.core.late import late
from turnkeeper.core.ledger import Reservation
from turnkeeper.core.limits import DoneSignal, Limits, Placement
from turnkeeper.core.lost_runners import LostRunner
from turnkeeper.core.tools import Effect, Outcome
from turnkeeper.core.usage import Usage

Status = Literal["idle", "running", "queued", "completed", "stopped", "failed", "cancelled", "erased"]
RunnerKind = Literal["lambda", "fargate"]
StopReason = Literal[
    "end_turn",
    "end_task",
    "cost_cap",
    "iteration_limit",
    "repetition",
    "error_streak",
    "deadline",
    "no_done_signal",
    "refusal",
    "max_tokens",
    "context_window",
    "cancelled",
    "paused",
    "provider_error",
    "internal_error",
]
#: ``other``: of a kind that a later version writes, and no message.
EntryType = Literal[
    "user", "assistant", "tool_results", "status", "repair", "rewind", "compaction", "runner_lost", "other"
]

#: No runner works on the session and none is on its way.
RESTING: frozenset[Status] = frozenset({"idle", "completed", "stopped", "failed", "cancelled", "erased"})
#: Nothing can be said in the session any more.
ENDED: frozenset[Status] = frozenset({"completed", "failed", "cancelled", "erased"})


class Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)


class Stop(Frozen):
    reason: StopReason
    detail: dict[str, Any] = Field(default_factory=dict)


@dataclass(frozen=True)
class Breakers:
    """What the breakers remember; survives a resume."""

    #: Hashes of the latest tool calls since something was changed, oldest first; without declared polls.
    window: tuple[str, ...] = ()
    #: The same, whatever was changed.
    calls: tuple[str, ...] = ()
    #: Hashes of the latest tool calls, each with its result.
    results: tuple[str, ...] = ()
    #: Steps in a row whose every call failed.
    error_streak: int = 0


class Flag(Frozen):
    """A tool result that looks as if it carried instructions."""

    seq: int
    tool_use_id: str
    tool: str
    score: int
    reasons: tuple[str, ...] = ()


class Handoff(Frozen):
    """A session on its way to another runner. Until it is claimed, the sweep sends it again when it seems lost."""

    to: Literal["queue", "function"]
    at: str
    #: 0 where it was written by a process that may ask for no runner: the sweep does, at once.
    sends: int = 1
    #: The next runner is asked for only after this long: the session waits for money in flight.
    delay_seconds: int = 0
    #: When it was put on its way first, where it was sent again since.
    since: str | None = None

    @property
    def asked_at(self) -> str:
        """Since when it has been on its way."""
        return self.since or self.at


@dataclass(frozen=True)
class ForkedFrom:
    """The session that one begins as a copy of, and the last entry that was copied."""

    session_id: str
    seq: int


@dataclass(frozen=True, kw_only=True)
class Tally:
    """Where a turn's time went, in milliseconds, and what is counted of it for those who watch. Nothing is decided by
    it."""

    #: Model calls, answered or not, but for those whose runner was lost.
    model_ms: int = 0
    #: Tools; those that ran side by side count once.
    tool_ms: int = 0
    #: On its way to a runner, without the delay that it was given.
    queue_ms: int = 0
    #: Waiting for money in flight, that delay included.
    money_ms: int = 0
    #: Runners that took it up since it began, or was resumed.
    runs: int = 0
    #: Attempts of model calls that brought no answer.
    retries: int = 0
    compactions: int = 0
    flags: int = 0


@dataclass(frozen=True, kw_only=True)
class TurnState:
    """What a new input begins anew."""

    #: From 1.
    number: int = 1
    #: Seq of the entry that began it.
    seq: int = 1
    started_at: str
    #: Role of whoever began it, where it is not the session's: the turn has the tools that both may use.
    role: str | None = None
    #: The model that answers instead of the version's own, which is gone or overloaded.
    model: str | None = None
    #: Model calls that were begun.
    iterations: int = 0
    #: Attempts that failed since the last answer.
    attempts: int = 0
    breakers: Breakers = Breakers()
    #: The agent ended its turn without the done signal, and was reminded of it.
    nudged: bool = False
    #: Its system prompt was made, and is the one that the head names.
    prompted: bool = False
    #: Times in a row that it was put back to wait for money in flight.
    put_backs: int = 0
    cancel_requested: bool = False
    #: Who asked for that.
    cancel_actor: str | None = None
    #: Number in the ledger of its first model call since it began, or went on.
    first_call: int = 1
    #: The request that asked for it: see :mod:`turnkeeper.core.tracing`.
    traceparent: str | None = None
    request_id: str | None = None
    tally: Tally = Tally()


@dataclass(frozen=True, kw_only=True)
class Run:
    """A runner that took the session up."""

    id: str
    kind: RunnerKind
    claimed_at: str
    #: Since when the session had been on its way to one.
    asked_at: str | None = None


@dataclass(frozen=True, kw_only=True)
class LeaseState:
    """Which runner may write the session."""

    owner: str | None = None
    fencing_token: int = 0
    #: Milliseconds since the epoch.
    expires_at: int = 0
    #: Times in a row that a runner took the session and was gone before anything came of it.
    claims: int = 0
    #: The runner that took it last, until an entry tells of it.
    run: Run | None = None


@dataclass(frozen=True, kw_only=True)
class Account:
    """What the whole session has used and cost."""

    usage: Usage = field(default_factory=Usage)
    #: Input tokens of the latest answered call, cached or not; 0 before the first, and where the next call is sent
    #: something else around the transcript.
    context_tokens: int = 0
    #: Settled and in_doubt.
    cost_nanousd: int = 0
    #: Of that, what may not have been spent: nobody knows what became of the calls that it was set aside for.
    in_doubt_nanousd: int = 0
    #: Booked, but not yet part of an entry: the next entry takes it into its cost, so that entries sum to the total.
    untold_nanousd: int = 0
    untold_in_doubt_nanousd: int = 0
    pending: Reservation | None = None
    #: What the ledger will tell of that call beside it. Kept by the store, which writes the record when it is resolved.
    pending_detail: dict[str, Any] | None = None
    #: Calls begun, every attempt counted: the number of the latest in the ledger.
    calls: int = 0

    @property
    def reserved_nanousd(self) -> int:
        return self.pending.amount_nanousd if self.pending else 0


@dataclass(frozen=True, kw_only=True)
class Head:
    """One item; every mutable fact of a session but its transcript and plan. Bounded in size. Changed only by
    :mod:`turnkeeper.core.lifecycle`."""

    tenant_id: str
    session_id: str
    user_id: str
    role: str
    agent: str
    #: The version that it runs on; ``None`` where that is frozen into the session itself, as it once was.
    version: str | None = None
    #: The system prompt that was made last for it, by its hash; ``None`` where its version holds the text.
    prompt: str | None = None
    placement: Placement
    #: What drives its turns, where that is not the kit's own loop; fixed for good when the session is made.
    engine: str | None = None
    metadata: dict[str, Any] = field(default_factory=dict)
    created_at: str
    updated_at: str

    status: Status
    stop: Stop | None = None
    last_seq: int = 0
    #: Model calls that were answered.
    steps: int = 0
    turn: TurnState
    lease: LeaseState = LeaseState()
    account: Account = Account()

    #: What runs it, or ran it last.
    runner: RunnerKind | None = None
    handoff: Handoff | None = None
    #: Handed off with calls open of which none has begun: whoever takes it up may run them all, once it has unset this.
    unbegun: bool = False
    #: Milliseconds that the latest steps took, for the decision to hand off; at most eight.
    step_millis: tuple[int, ...] = ()
    #: Times that something had to be left out because the model API refused it.
    repairs: int = 0
    #: Entries, and blocks of entries, that were ever left out of requests.
    left_out: int = 0
    #: Tokens that a request may have, as far as is known; 0 where it is not.
    window: int = 0
    forked_from: ForkedFrom | None = None
    #: Nobody's session but the kit's own: made of a turn of another one.
    companion: CompanionOf | None = None
    #: Days of rest after which its contents are erased, by the plan that it was begun under.
    retention_days: int | None = None

    flags: tuple[Flag, ...] = ()
    #: An operator let ``once`` tools go on after a flag, up to this seq.
    flags_cleared_seq: int = 0
    granted_tools: tuple[str, ...] = ()
    #: Stored contents that were found to be gone, as far as that was audited.
    lost: int = 0
    limits: Limits = field(default_factory=Limits)
    done: DoneSignal = "end_turn"

    audit_seq: int = 0
    audit_hash: str = ""

    #: Counts what was written of it, but for what others than its runner may write; 0 as long as each field is an
    #: attribute of its own. Kept by the store.
    revision: int = 0

    @property
    def resting(self) -> bool:
        return self.status in RESTING

    @property
    def ended(self) -> bool:
        return self.status in ENDED

    @property
    def shown_tools(self) -> tuple[str, ...]:
        """Tools that the model is shown: those that it was granted, and those that a shadow only plays."""
        return (*self.granted_tools, *(self.companion.dry_tools if self.companion is not None else ()))

    @property
    def prompted_tenant(self) -> str:
        """The tenant that a system prompt is made for."""
        return self.companion.tenant_id if self.companion is not None else self.tenant_id


@dataclass(frozen=True, kw_only=True)
class ToolOutcome:
    """What became of one tool call: told beside the result in the entry, not to the model."""

    tool_use_id: str
    tool: str
    outcome: Outcome
    duration_ms: int
    #: Size and SHA-256 of what the tool returned, before it was wrapped.
    result_bytes: int = 0
    result_sha256: str = ""
    #: When its tool began; ``None`` where none did, or nobody saw.
    began_at: str | None = None
    flag: Flag | None = None
    denial: Denial | None = None

    @property
    def is_error(self) -> bool:
        return self.outcome != "ok"


@dataclass(frozen=True)
class LeftOut:
    """What of the transcript the model is not sent any more: an entry, or one block of it."""

    seq: int
    #: ``None``: all of the entry.
    index: int | None
    #: In its place the model reads this, where a block of the user's or of a result was left out.
    what: str


@dataclass(frozen=True)
class Looked:
    """Until when somebody looks on as a session runs (milliseconds since the epoch), and how many have begun to."""

    until: int = 0
    readers: int = 0

    @classmethod
    def of(cls, item: Mapping[str, Any] | None) -> Self:
        """As a session's stream item says it."""
        item = item or {}
        return cls(item.get("looked_until", 0), item.get("readers", 0))

    def at(self, now: datetime) -> bool:
        return self.until > now.timestamp() * 1000


@dataclass(frozen=True)
class Container:
    """Where the provider ran code for an answer, and until when it is kept (ISO 8601)."""

    id: str
    expires_at: str


#: Reads and writes an outcome as plain JSON.
OUTCOME = late(lambda: TypeAdapter(ToolOutcome))


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One message with its sequence number, never changed once written (an erase takes its content away)."""

    #: From 1; 0 until :mod:`turnkeeper.core.lifecycle` gives it its place.
    seq: int = 0
    type: EntryType
    at: str
    #: Content blocks as the API sent them or takes them: raw JSON. compaction: the summary, where there is one, which
    #: stands in the place of what it left out.
    content: tuple[dict[str, Any], ...] = ()
    #: assistant, and compaction with a summary: what the call reported and cost.
    model: str | None = None
    #: assistant: the model that was asked for, where the API calls it otherwise.
    requested_model: str | None = None
    usage: dict[str, Any] | None = None
    cost_nanousd: int = 0
    #: Of the cost, what may not have been spent.
    in_doubt_nanousd: int = 0
    stop_reason: str | None = None
    duration_ms: int | None = None
    request_id: str | None = None
    #: Number of the call in the ledger.
    call: int | None = None
    #: Attempts it took, when more than one.
    attempts: int | None = None
    #: assistant: the system prompt that was sent, by its hash, where it was made for the session.
    prompt: str | None = None
    #: assistant: see :mod:`turnkeeper.core.containers`.
    container: Container | None = None
    #: tool_results: one outcome for each result, in the same order.
    outcomes: tuple[ToolOutcome, ...] = ()
    #: status: where the session went, and why.
    status: Status | None = None
    stop: Stop | None = None
    runner: RunnerKind | None = None
    #: The runner that this is the first sign of.
    run: Run | None = None
    #: runner_lost: about the one that ``runner`` says the kind of.
    lost_runner: LostRunner | None = None
    #: user: written by the kit itself (a nudge), not by the user.
    by_kit: bool = False
    #: user: tools that the session has lost with this input, since its agent has them no more.
    removed_tools: tuple[str, ...] = ()
    #: repair, rewind, compaction: what is left out of requests from here on, and why. A repair of no block left out the
    #: container.
    left_out: tuple[LeftOut, ...] = ()
    #: Also of a status: what the session waits for, on its way to the next runner.
    reason: str | None = None
    #: Never written: the content is gone from the store, and this stands in its place.
    lost: bool = False

    @property
    def by_user(self) -> bool:
        """The user's own words, with which a turn begins. An erased entry of the kit's looks like one."""
        return self.type == "user" and not self.by_kit


class ToolDefinition(Frozen):
    """A tool as the model is shown it, with what the kit must know to treat its calls. ``input_schema`` is ``None``
    for a tool that lives elsewhere and is asked for it at first use."""

    name: str
    description: str
    input_schema: dict[str, Any] | None
    effect: Effect


class Spec(Frozen):
    """What the model is sent around the transcript. Never changed once stored: see :mod:`turnkeeper.core.versions`."""

    model: str
    #: Empty where each turn has its own.
    system: str = ""
    tools: tuple[ToolDefinition, ...]
    model_options: dict[str, Any] = Field(default_factory=dict)
    fallback_models: tuple[str, ...] = ()
    #: Where the system prompt is made of the session's context when a turn begins: the name of what makes it.
    prompt: str | None = None
    #: Where another engine than the kit's own loop drives it: its name (``engine``) and what else it is given.
    program: dict[str, Any] | None = None
    #: The agent's own, where they are not the default ones: new sessions begin with them.
    limits: Limits | None = None


class PlanItem(Frozen):
    title: str
    state: Literal["pending", "in_progress", "done", "dropped"] = "pending"


class Plan(Frozen):
    """The task's plan, kept by ``update_plan``: a resume goes on with it instead of making a new one."""

    goal: str
    items: tuple[PlanItem, ...]


@dataclass(frozen=True, kw_only=True)
class Transcript:
    """Everything of one session as a resume reads it, in one query."""

    head: Head
    #: Of a session whose head names no version.
    spec: Spec | None = None
    entries: tuple[Entry, ...]
    plan: Plan | None = None
    #: Results that a tool call left behind before its step was written, by tool_use_id.
    early_results: dict[str, Any] = field(default_factory=dict)
    #: What of it was stored and is gone: sort keys of its items.
    lost: tuple[str, ...] = ()
    #: Who looks on.
    looked: Looked = Looked()
