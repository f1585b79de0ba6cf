"""What a change of a session is, and what changes have in common."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import field
from datetime import datetime
from typing import Any

from turnkeeper.core import audit
from turnkeeper.core.audit import AuditKind, AuditRecord
from turnkeeper.core.caps import Caps
from turnkeeper.core.errors import SessionBusy, SessionEnded
from turnkeeper.core.ledger import Reservation, Resolution, iso
from turnkeeper.core.replacing import replace
from turnkeeper.core.session import Account, Entry, Handoff, Head, Plan, RunnerKind, ToolOutcome
from turnkeeper.core.values import dataclass


@dataclass(frozen=True)
class Reserved:
    """Money set aside for a call, the caps that admitted it, and the prices that it was reckoned by."""

    reservation: Reservation
    caps: Caps
    price_version: str
    #: How long the call waited for money in flight.
    waited_ms: int = 0
    #: Kept in the ledger's record of the call.
    detail: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Resolved:
    """What became of a reservation. ``detail`` is kept in the ledger's record of the call."""

    reservation: Reservation
    resolution: Resolution
    spent_nanousd: int
    detail: Mapping[str, Any] = field(default_factory=dict)

    @property
    def in_doubt_nanousd(self) -> int:
        return self.spent_nanousd if self.resolution == "in_doubt" else 0


@dataclass(frozen=True)
class Change:
    """The state that follows, and what is written together with it. Audit records are numbered and chained by the
    store; a change reserves money or resolves it, never both."""

    head: Head
    entries: tuple[Entry, ...] = ()
    audit: tuple[AuditRecord, ...] = ()
    plan: Plan | None = None
    #: The plan that was kept is none any more.
    unplanned: bool = False
    #: A system prompt that the session has not kept yet; the head names it.
    prompt: str | None = None
    reserved: Reserved | None = None
    resolved: Resolved | None = None


def chain(head: Head, records: Sequence[AuditRecord]) -> tuple[Head, list[AuditRecord]]:
    """The records on the session's chain, and the head that counts them."""
    if not records:
        return head, []
    seq, previous = head.audit_seq, head.audit_hash
    chained: list[AuditRecord] = []
    for record in records:
        seq += 1
        start = previous or audit.genesis(head.tenant_id, head.session_id)
        chained.append(audit.chain(start, record, seq=seq))
        previous = chained[-1].hash or ""
    return replace(head, audit_seq=seq, audit_hash=previous), chained


def ended(head: Head) -> SessionEnded:
    return SessionEnded(f"the session is {head.status}", session_id=head.session_id, status=head.status)


def busy(head: Head) -> SessionBusy:
    return SessionBusy("a turn is running", session_id=head.session_id, status=head.status)


def must_take_input(head: Head) -> None:
    """A session that something may be said in: one at rest that has not ended.

    Raises:
        SessionEnded: nothing can be said in it any more.
        SessionBusy: a turn is running.
    """
    if head.ended:
        raise ended(head)
    if not head.resting:
        raise busy(head)


def asked_for(
    head: Head, now: datetime, *, worker_unless_interactive: bool = False, sends: int = 1, delay_seconds: int = 0
) -> Head:
    """On its way to a runner. A turn begins on the turn Lambda unless its agent belongs in the background; what goes on
    elsewhere goes on at the worker, unless its agent is to stay interactive."""
    to_worker = head.placement != "interactive" if worker_unless_interactive else head.placement == "background"
    handoff = Handoff(
        to="queue" if to_worker else "function",
        at=iso(now),
        sends=sends,
        delay_seconds=delay_seconds,
        since=head.handoff.asked_at if head.handoff else None,
    )
    return replace(head, status="queued" if to_worker else "running", handoff=handoff)


def released(head: Head) -> Head:
    return replace(head, lease=replace(head.lease, owner=None))


def with_status(
    head: Head, now: datetime, results: Sequence[Entry], *, runner: RunnerKind | None, reason: str | None = None
) -> Change:
    """With an entry that says where the session went; it also tells the cost that no answer could."""
    stop = head.stop if head.resting else None
    entry = Entry(type="status", at=iso(now), status=head.status, stop=stop, runner=runner, reason=reason)
    entry = telling(head, entry)
    return written(replace(head, account=told(head.account)), now, *results, entry)


def telling(head: Head, entry: Entry, spent_nanousd: int = 0, in_doubt_nanousd: int = 0) -> Entry:
    """The entry with a cost of its own, and all that no entry has told so far; :func:`told` is the account after it."""
    account = head.account
    return replace(
        entry,
        cost_nanousd=spent_nanousd + account.untold_nanousd,
        in_doubt_nanousd=in_doubt_nanousd + account.untold_in_doubt_nanousd,
    )


def told(account: Account) -> Account:
    """Every cost is part of an entry."""
    if not (account.untold_nanousd or account.untold_in_doubt_nanousd):
        return account
    return replace(account, untold_nanousd=0, untold_in_doubt_nanousd=0)


def tallied(head: Head, **more: int) -> Head:
    """So much more is counted of the turn: fields of :class:`~turnkeeper.core.session.Tally`."""
    tally = head.turn.tally
    counted = {name: getattr(tally, name) + by for name, by in more.items() if by}
    return replace(head, turn=replace(head.turn, tally=replace(tally, **counted))) if counted else head


def millis_between(begin: datetime, end: datetime) -> int:
    """At least 0: clocks of two machines may differ."""
    return max(0, int((end - begin).total_seconds() * 1000))


def tool_millis(outcomes: Sequence[ToolOutcome]) -> int:
    """How long a step's tools took together: what ran side by side counts once."""
    took, until = 0, 0.0
    for begin, end in sorted(_spans(outcomes)):
        took += round(max(0.0, end - max(begin, until)))
        until = max(until, end)
    return max([took, *(outcome.duration_ms for outcome in outcomes if outcome.began_at is None)], default=0)


def _spans(outcomes: Sequence[ToolOutcome]) -> Iterator[tuple[float, float]]:
    for outcome in outcomes:
        if outcome.began_at is not None:
            begin = datetime.fromisoformat(outcome.began_at).timestamp() * 1000
            yield begin, begin + outcome.duration_ms


def written(
    head: Head,
    now: datetime,
    *entries: Entry,
    claims: int = 0,
    records: tuple[AuditRecord, ...] = (),
    reserved: Reserved | None = None,
    resolved: Resolved | None = None,
) -> Change:
    """The entries in their places behind the last, and the head that counts them. Runners that were lost are counted on
    only where a write says so: any other shows that the turn gets on. The first entry since a runner took the session
    tells of it."""
    head = tallied(
        head,
        tool_ms=sum(tool_millis(entry.outcomes) for entry in entries),
        compactions=sum(entry.type == "compaction" for entry in entries),
    )
    numbered = tuple(replace(entry, seq=head.last_seq + index) for index, entry in enumerate(entries, start=1))
    lease = head.lease if head.lease.claims == claims else replace(head.lease, claims=claims)
    if numbered and lease.run is not None:
        numbered = (replace(numbered[0], run=lease.run), *numbered[1:])
        lease = replace(lease, run=None)
    after = replace(head, last_seq=head.last_seq + len(numbered), updated_at=iso(now), lease=lease)
    return Change(after, numbered, records, reserved=reserved, resolved=resolved)


def record_of(head: Head, now: datetime, kind: AuditKind, *, actor: str | None = None, **detail: Any) -> AuditRecord:
    """``detail`` holds limits, reasons and names, never contents."""
    return AuditRecord(**about(head, now, kind), actor=actor, detail=detail or None)


def about(head: Head, now: datetime, kind: AuditKind) -> dict[str, Any]:
    """What every record of a session says."""
    return {
        "tenant_id": head.tenant_id,
        "session_id": head.session_id,
        "user_id": head.user_id,
        "seq": 1,
        "at": now,
        "kind": kind,
        "runner": head.runner,
    }
