"""Why a turn ends, and what follows from it: one row for each reason.

Whatever depends on the reason is derived from its row: how the session rests, what the audit trail and on-call are
told, which HTTP answer a turn gets that was stopped before its first model call, and who may let it go on. A reason
without a row passes neither the type check nor the import. ``docs/concepts.md`` shows the same table.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, NamedTuple, assert_never, get_args

from turnkeeper.core.errors import CostCapExceeded, TenantPaused, TurnkeeperError, UnpricedModel
from turnkeeper.core.replacing import replace
from turnkeeper.core.session import Head, Status, Stop, StopReason

if TYPE_CHECKING:
    from turnkeeper.core.audit import AuditKind

AlertKind = Literal["breaker_trip", "cap_trip", "provider_error", "internal_error"]
#: In a stop's detail: the turn was refused, no model call of it was begun.
BEFORE_FIRST_CALL = "before_first_call"
#: ``user``: the session's own, with its continuation token. ``operator``: only ``turnkeeper resume`` or a change of
#: policy helps. ``nobody``: there is nothing to go on with.
GoesOnBy = Literal["user", "operator", "nobody"]


class StopRow(NamedTuple):
    """What follows from one reason."""

    #: How the session rests. Where the model itself says how its task went, the second is for one that failed.
    statuses: tuple[Status, ...]
    #: What happened, for a person.
    meaning: str
    #: What has to change before it can go on, or what to do instead, for a person.
    way_on: str
    goes_on_by: GoesOnBy = "nobody"
    #: It would stop again at once unless the session is given more iterations.
    needs_iterations: bool = False
    #: The wall clock begins anew when it goes on.
    restarts_clock: bool = False
    #: What the breakers remember is forgotten when it goes on: to go on is somebody's explicit word.
    forgets_breakers: bool = False
    audit: AuditKind | None = None
    alert: AlertKind | None = None
    #: What the caller is answered where no model call of the turn was begun.
    refusal: type[TurnkeeperError] | None = None


def _row(reason: StopReason) -> StopRow:  # noqa: PLR0912 - one case a reason
    match reason:
        case "end_turn":
            return StopRow(("idle",), "The model ended its turn.", "Post the next input.")
        case "end_task":
            return StopRow(
                ("completed", "failed"),
                "The model called `end_task`: the task is done, or could not be done.",
                "Nothing more can be said in this session; begin another, or go on in a copy of it (`fork`).",
            )
        case "cost_cap":
            return StopRow(
                ("stopped",),
                "A cap does not admit the next model call, or cut its answer off (`clamped_max_tokens`).",
                "Continue once the scope resets, or raise its cap (`turnkeeper tenant set`); where only calls in "
                "flight are in the way (`contended`), continue a little later. An answer that was cut off goes on "
                "where it ended.",
                goes_on_by="user",
                audit="cap_trip",
                alert="cap_trip",
                refusal=CostCapExceeded,
            )
        case "paused":
            return StopRow(
                ("stopped",),
                "An operator has paused the tenant (the kill switch).",
                "Continue after `turnkeeper tenant unpause`.",
                goes_on_by="user",
                audit="cap_trip",
                refusal=TenantPaused,
            )
        case "iteration_limit":
            return StopRow(
                ("stopped",),
                "The turn has made as many model calls as it may.",
                "Continue with more iterations (`limits.max_iterations`, or `turnkeeper resume --max-iterations`).",
                goes_on_by="user",
                needs_iterations=True,
                audit="breaker_trip",
                alert="breaker_trip",
            )
        case "repetition":
            return StopRow(
                ("stopped",),
                "The same tool call was made again and again.",
                "Continue: what was counted is forgotten. Or say in a new turn what to do instead.",
                goes_on_by="user",
                forgets_breakers=True,
                audit="breaker_trip",
                alert="breaker_trip",
            )
        case "error_streak":
            return StopRow(
                ("stopped",),
                "Every tool call failed, several steps in a row.",
                "Mend what fails, then continue: what was counted is forgotten.",
                goes_on_by="user",
                forgets_breakers=True,
                audit="breaker_trip",
                alert="breaker_trip",
            )
        case "deadline":
            return StopRow(
                ("stopped",),
                "The turn has taken as long as it may (`limits.max_seconds`).",
                "Continue: the clock begins anew.",
                goes_on_by="user",
                restarts_clock=True,
                audit="breaker_trip",
                alert="breaker_trip",
            )
        case "no_done_signal":
            return StopRow(
                ("failed",),
                "The agent has to call `end_task`, and ended without it, also after it was reminded.",
                "Begin another session; look at the agent's prompt.",
                audit="breaker_trip",
                alert="breaker_trip",
            )
        case "refusal":
            return StopRow(
                ("stopped",), "The model declined to answer.", "Post another input, or continue.", goes_on_by="user"
            )
        case "max_tokens":
            return StopRow(
                ("stopped",),
                "The answer was cut off at the agent's own `max_tokens`.",
                "Continue: the model goes on where it left off.",
                goes_on_by="user",
            )
        case "context_window":
            return StopRow(
                ("stopped",),
                "The conversation is longer than the model can read, and nothing is left that it could go without.",
                "Take turns back (`rewind`), or go on in a copy of an earlier state (`fork`).",
                goes_on_by="user",
            )
        case "cancelled":
            return StopRow(("cancelled",), "Somebody cancelled the session.", "Begin another session.", audit="cancel")
        case "provider_error":
            return StopRow(
                ("stopped",),
                "The model API failed, also after further attempts; nothing was lost.",
                "Continue later, or with another model (`turnkeeper resume --model`).",
                goes_on_by="user",
                alert="provider_error",
            )
        case "internal_error":
            return StopRow(
                ("stopped",),
                "The kit, or the agent's deployment, failed; everything done so far is kept.",
                "Mend what `detail` names (`hint`, `code`, `error`), then continue.",
                goes_on_by="user",
                alert="internal_error",
            )
    assert_never(reason)


STOPS: dict[StopReason, StopRow] = {reason: _row(reason) for reason in get_args(StopReason)}


#: Of a stop's detail, what may be told to those who may not see what was said.
_TOLD = frozenset(
    {
        *("iterations", "max_iterations", "elapsed_seconds", "max_seconds"),
        *("tool", "tools", "times", "steps"),
        *("scope", "limit_usd", "spent_usd", "reserved_usd", "needed_usd", "contended", "resets_at"),
        *("clamped_max_tokens", "wanted_max_tokens"),
        *("attempts", "status_code", "retry_after_seconds", "code"),
    }
)


def told_detail(stop: Stop) -> dict[str, Any]:
    """Numbers, names and reasons of a stop, nothing that anybody said."""
    return {name: value for name, value in stop.detail.items() if name in _TOLD}


def status_of(stop: Stop) -> Status:
    """How a session rests that was stopped so. A task that the model itself ends has failed where it says so."""
    statuses = STOPS[stop.reason].statuses
    failed = str(stop.detail.get("status", "")).strip().lower() in _WORDS_OF_FAILURE
    return statuses[-1] if failed else statuses[0]


_WORDS_OF_FAILURE = frozenset({"failed", "failure", "error", "aborted", "impossible", "gave_up", "blocked"})


def resumable(head: Head, by: Literal["user", "operator"] = "user") -> bool:
    """Whether there is a stopped turn that this person may let go on."""
    if head.status != "stopped":
        return False
    allowed = STOPS[head.stop.reason].goes_on_by if head.stop else "user"
    return allowed in ("user", by)


def stops_again(head: Head, max_iterations: int | None = None) -> bool:
    """Whether a stopped turn that goes on would stop again at once.

    Args:
        max_iterations: the limit that it would be given; ``None`` for its own.
    """
    if head.stop is None or not STOPS[head.stop.reason].needs_iterations:
        return False
    return head.turn.iterations >= (head.limits.max_iterations if max_iterations is None else max_iterations)


def refusal_of(head: Head) -> type[TurnkeeperError] | None:
    """The error that a caller is answered where the turn was stopped before its first model call; ``None`` where the
    turn is an answer like any other."""
    return _refusal(head.stop) if head.status == "stopped" and not head.turn.iterations else None


def marked(head: Head) -> Head:
    """A session at rest, whose stop says where its turn was refused: once later turns have followed, the stop is all
    that tells it."""
    if head.stop is None or refusal_of(head) is None:
        return head
    return replace(head, stop=Stop(reason=head.stop.reason, detail={**head.stop.detail, BEFORE_FIRST_CALL: True}))


def refusal_of_earlier(stop: Stop | None) -> type[TurnkeeperError] | None:
    """The same of a turn that later ones have followed, by its stop."""
    return _refusal(stop) if stop is not None and stop.detail.get(BEFORE_FIRST_CALL) else None


def _refusal(stop: Stop | None) -> type[TurnkeeperError] | None:
    if stop is None:
        return None
    return UnpricedModel if stop.detail.get("code") == UnpricedModel.code else STOPS[stop.reason].refusal


# ---- for people ----

#: What a status means, and what can be done in it.
STATUSES: dict[Status, tuple[str, str]] = {
    "idle": ("The model has answered and waits for the user.", "Post the next input."),
    "running": ("A runner works on it, or the turn Lambda was asked to.", "Wait, or cancel."),
    "queued": ("It is on its way to the worker.", "Wait, or cancel."),
    "completed": ("The model said that the task is done.", "It has ended; `fork` goes on in a copy."),
    "stopped": ("A limit or a failure ended the turn; everything done so far is kept.", "See its stop reason."),
    "failed": ("The task could not be done.", "It has ended; `fork` goes on in a copy."),
    "cancelled": ("Somebody cancelled it.", "It has ended; `fork` goes on in a copy."),
    "erased": ("Its contents were taken away; what it cost and the skeleton of its audit trail stay.", "Nothing."),
}


def documentation() -> str:
    """Every status and stop reason as Markdown tables."""
    lines = ["| status | meaning | what to do |", "|---|---|---|"]
    lines += [f"| `{status}` | {meaning} | {to_do} |" for status, (meaning, to_do) in STATUSES.items()]
    lines += [
        "",
        "| stop reason | rests as | meaning | way on | by | audited as | alert |",
        "|---|---|---|---|---|---|---|",
    ]
    for reason, row in STOPS.items():
        rests = " or ".join(f"`{status}`" for status in row.statuses)
        audit, alert = (f"`{kind}`" if kind else "" for kind in (row.audit, row.alert))
        lines.append(f"| `{reason}` | {rests} | {row.meaning} | {row.way_on} | {row.goes_on_by} | {audit} | {alert} |")
    return "\n".join(lines) + "\n"
