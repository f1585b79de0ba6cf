"""How a runner, an operator or a user lets go of a session."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

from turnkeeper.core.audit import AuditRecord
from turnkeeper.core.lifecycle.change import Change, asked_for, record_of, released, with_status, written
from turnkeeper.core.lifecycle.running import doubt
from turnkeeper.core.session import Breakers, Entry, Head, Stop
from turnkeeper.core.stops import STOPS, marked, status_of

#: What a session may wait for on its way to the next runner.
MONEY = "money in flight"
PROVIDER = "the provider"


def hand_off(
    head: Head,
    now: datetime,
    results: Sequence[Entry],
    *,
    delay_seconds: int = 0,
    open_calls: bool = False,
    unbegun: bool = False,
    waits_for: str | None = None,
) -> Change:
    """On its way to another runner. The write alone is enough for the sweep to send it.

    Args:
        delay_seconds: the next runner is asked for only after this long.
        open_calls: calls are still unanswered: their results come next in the transcript, so no status entry does.
        unbegun: and none of them has begun.
        waits_for: what the delay is for.
    """
    after = asked_for(
        released(replace(head, unbegun=unbegun)), now, worker_unless_interactive=True, delay_seconds=delay_seconds
    )
    if open_calls:
        return written(after, now, *results)
    return with_status(after, now, results, runner=head.runner, reason=waits_for)


def rest(head: Head, now: datetime, results: Sequence[Entry], stop: Stop, *, actor: str | None = None) -> Change:
    """The turn ends: the lease is released and nothing is on its way.

    Args:
        results: entries that are written before the one that tells the status.
        actor: who asked for it, where somebody did.
    """
    after = marked(at_rest(head, stop))
    change = with_status(after, now, results, runner=head.runner)
    kind, stop = STOPS[stop.reason].audit, after.stop or stop
    if kind is None:
        return change
    # Arguments are contents, which an audit record's detail must not hold.
    detail = {name: value for name, value in stop.detail.items() if name not in {"arguments", "reason"}}
    return replace(change, audit=(record_of(head, now, kind, actor=actor, reason=stop.reason, **detail),))


def ending(change: Change, now: datetime, stop: Stop) -> Change:
    """The same change, and the turn ends with it."""
    end = rest(change.head, now, (), stop)
    entries, records = (*change.entries, *end.entries), (*change.audit, *end.audit)
    return replace(change, head=end.head, entries=entries, audit=records)


def request_cancel(head: Head, actor: str | None) -> Head:
    """Asked to stop at the next safe point."""
    turn = replace(head.turn, cancel_requested=True, cancel_actor=actor or head.turn.cancel_actor)
    return replace(head, turn=turn)


def cancel(head: Head, now: datetime, actor: str) -> Change:
    """Cancelled at once, at rest."""
    stop = Stop(reason="cancelled")
    change = with_status(at_rest(head, stop), now, (), runner=None)
    return replace(change, audit=(record_of(head, now, "cancel", actor=actor, reason=stop.reason),))


def settle_left_behind(head: Head, now: datetime) -> Change | None:
    """Money that is still set aside in a session at rest, which must not be: nobody knows what became of the call, so
    its full amount counts. ``None`` where there is none."""
    change = doubt(head, now, "left behind at rest")
    if change is None:
        return None
    settled = with_status(replace(change.head, turn=head.turn, lease=head.lease), now, (), runner=head.runner)
    return replace(settled, resolved=change.resolved)


def erase(head: Head, now: datetime, actor: str, open_calls: Sequence[AuditRecord]) -> Change:
    """Taken away from whoever runs it, with all contents that the head holds; what its call may have cost is booked.

    Args:
        open_calls: records of calls that its runner may be making and will not get to write itself.
    """
    doubted = doubt(head, now, "the session was erased")
    before = doubted.head if doubted else head
    free = released(before)
    after = replace(
        free,
        status="erased",
        stop=None,
        prompt=None,
        metadata={},
        flags=(),
        handoff=None,
        # Its runner looks for a cancel every other second, and for its lease less often.
        turn=replace(head.turn, breakers=Breakers(), put_backs=0, cancel_requested=True),
        lease=replace(free.lease, fencing_token=head.lease.fencing_token + 1),
    )
    change = with_status(after, now, (), runner=None)
    record = record_of(head, now, "erase", actor=actor, status=head.status)
    return replace(change, audit=(*open_calls, record), resolved=doubted.resolved if doubted else None)


def send_again(head: Head, now: datetime) -> Change:
    """On its way once more: a handoff that seems lost is counted. From a dead runner: ``losing.send_on``."""
    sends = head.handoff.sends + 1 if head.handoff else 1
    after = asked_for(head, now, worker_unless_interactive=True, sends=sends)
    return written(after, now, claims=head.lease.claims)


def at_rest(head: Head, stop: Stop) -> Head:
    turn = replace(head.turn, put_backs=0)
    return replace(released(head), status=status_of(stop), stop=stop, handoff=None, turn=turn)
