"""The head of a session: what a runner needs to go on without reading the transcript."""

from dataclasses import field
from typing import Any, Literal

from turnkeeper.core.companion import CompanionOf
from turnkeeper.core.ledger import Reservation
from turnkeeper.core.limits import DoneSignal, Limits, Placement
from turnkeeper.core.session.status import ENDED, RESTING, Frozen, RunnerKind, Status, Stop
from turnkeeper.core.usage import Usage
from turnkeeper.core.values import dataclass


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
