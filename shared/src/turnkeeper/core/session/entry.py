"""The entries of a session's transcript, and what became of the calls that they answer."""

from typing import Any, Literal

from pydantic import TypeAdapter

from turnkeeper.core.denials import Denial
from turnkeeper.core.late import late
from turnkeeper.core.lost_runners import LostRunner
from turnkeeper.core.session.head import Flag, Run
from turnkeeper.core.session.status import RunnerKind, Status, Stop
from turnkeeper.core.tools import Outcome
from turnkeeper.core.values import dataclass

#: ``other``: of a kind that a later version writes, and no message.
EntryType = Literal[
    "user", "assistant", "tool_results", "status", "repair", "rewind", "compaction", "runner_lost", "other"
]


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
