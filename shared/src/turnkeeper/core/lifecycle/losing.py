"""What is written when a runner is found to be gone: told in the transcript, with the money that it had in flight.

By whoever takes its lease away, in the same write: the next runner with its claim, or the sweep, which puts the session
on its way to one. A write of its own could be lost with the runner that was to make it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Literal

from turnkeeper.core.ledger import iso
from turnkeeper.core.lifecycle.change import Change, asked_for, released, written
from turnkeeper.core.lifecycle.running import booked, claim, doubted, without_the_call
from turnkeeper.core.lost_runners import LostRunner, OpenCall, runner_id
from turnkeeper.core.session import Entry, Head, RunnerKind


def take_over(
    head: Head,
    now: datetime,
    owner: str,
    runner: RunnerKind,
    *,
    lease_seconds: float,
    skew_millis: int,
    open_calls: Sequence[OpenCall] = (),
) -> Change:
    """A runner takes the session from one that is gone: :func:`~turnkeeper.core.lifecycle.running.claim`, and told.

    Args:
        open_calls: those that no entry answers yet.

    Raises:
        SessionEnded, SessionBusy: as ``claim`` does.
    """
    claimed = claim(head, now, owner, runner, lease_seconds=lease_seconds, skew_millis=skew_millis)
    return _told(claimed, now, head, _lost(head, lease_seconds, runner, runner_id(owner), open_calls))


def send_on(head: Head, now: datetime, *, lease_seconds: float, open_calls: Sequence[OpenCall] = ()) -> Change:
    """The sweep takes the session from a runner that is gone, and puts it on its way to another one."""
    on_its_way = asked_for(released(head), now, worker_unless_interactive=True)
    return _told(on_its_way, now, head, _lost(head, lease_seconds, "sweep", None, open_calls))


def last_heard(head: Head, lease_seconds: float) -> datetime:
    """When the runner took its lease, or extended it last."""
    return datetime.fromtimestamp(head.lease.expires_at / 1000 - lease_seconds, UTC)


def silent_since(head: Head, now: datetime, lease_seconds: float) -> datetime | None:
    """Since when a runner was not heard of that should have been: it extends its lease every third of it, so half of
    one without a word is long."""
    if head.lease.owner is None:
        return None
    heard = last_heard(head, lease_seconds)
    return heard if (now - heard).total_seconds() > lease_seconds / 2 else None


def _told(after: Head, now: datetime, before: Head, lost: LostRunner) -> Change:
    """Money of the call that was in flight counts in full, and the entry tells it: the next answer costs what it
    costs."""
    entry = Entry(type="runner_lost", at=iso(now), runner=before.runner, lost_runner=lost)
    resolved = doubted(before, "the runner was lost")
    after = without_the_call(after)
    if resolved is not None:
        amount = resolved.spent_nanousd
        entry = replace(entry, cost_nanousd=amount, in_doubt_nanousd=amount)
        after = replace(after, account=booked(after.account, resolved))
    return written(after, now, entry, claims=after.lease.claims, resolved=resolved)


def _lost(
    head: Head,
    lease_seconds: float,
    by: RunnerKind | Literal["sweep"],
    by_id: str | None,
    open_calls: Sequence[OpenCall],
) -> LostRunner:
    return LostRunner(
        id=runner_id(head.lease.owner or ""),
        claimed_at=head.lease.run.claimed_at if head.lease.run else None,
        last_heard_at=iso(last_heard(head, lease_seconds)),
        taken_over_by=by,
        taken_over_by_id=by_id,
        # Handed over unbegun and not taken up yet: it has made none of them.
        open_calls=() if head.unbegun else tuple(open_calls),
    )
