"""What a runner does with a session while it holds it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Literal

from turnkeeper.core.errors import SessionBusy
from turnkeeper.core.ledger import iso, millis
from turnkeeper.core.lifecycle.change import (
    Change,
    Reserved,
    Resolved,
    ended,
    millis_between,
    record_of,
    tallied,
    telling,
    told,
    written,
)
from turnkeeper.core.lost_runners import runner_id
from turnkeeper.core.prompts import prompt_name, salt_of
from turnkeeper.core.replacing import replace
from turnkeeper.core.session import Account, Breakers, Entry, Flag, Head, LeaseState, LeftOut, Run, RunnerKind
from turnkeeper.core.usage import Usage

#: Flags and step times that a head remembers: it is written with every step.
MAX_FLAGS = 20
MAX_STEP_TIMES = 8
#: A clock that is off by more than this is not believed: no clock that is right gives a lease that ends so much later
#: than its length says.
OFF_SECONDS = 3_600.0


def claim(head: Head, now: datetime, owner: str, runner: RunnerKind, *, lease_seconds: float, skew_millis: int) -> Head:
    """A runner takes the session: a new fencing token, so that whoever had it before writes nothing more.

    Raises:
        SessionEnded: there is nothing to run.
        SessionBusy: another runner's lease holds, or may hold by its own clock.
    """
    if head.resting:
        raise ended(head)
    if is_held(head, now, lease_seconds=lease_seconds, skew_millis=skew_millis):
        raise SessionBusy("another runner has it", session_id=head.session_id, status=head.status)
    lease = LeaseState(
        owner=owner,
        fencing_token=head.lease.fencing_token + 1,
        expires_at=millis(now) + int(lease_seconds * 1000),
        claims=head.lease.claims + 1,
        run=Run(
            id=runner_id(owner),
            kind=runner,
            claimed_at=iso(now),
            asked_at=head.handoff.asked_at if head.handoff else None,
        ),
    )
    claimed = tallied(_waited(head, now), runs=1)
    return replace(claimed, status="running", runner=runner, handoff=None, lease=lease)


def _waited(head: Head, now: datetime) -> Head:
    """Of the time on its way, the delay that it was given was for money in flight, and the rest for a runner."""
    if (handoff := head.handoff) is None:
        return head
    waited = millis_between(datetime.fromisoformat(handoff.asked_at), now)
    money = min(waited, handoff.delay_seconds * 1000)
    return tallied(head, queue_ms=waited - money, money_ms=money)


def is_held(head: Head, now: datetime, *, lease_seconds: float, skew_millis: int) -> bool:
    """A runner has it, or may believe so by its own clock. One whose clock is hours ahead may lose it: if it is gone,
    it would be waited for as long."""
    left_millis = head.lease.expires_at - millis(now)
    return head.lease.owner is not None and -skew_millis <= left_millis <= (lease_seconds + OFF_SECONDS) * 1000


def extend(head: Head, now: datetime, *, lease_seconds: float) -> Head:
    """The lease runs on from now."""
    expires_at = millis(now) + int(lease_seconds * 1000)
    return replace(head, lease=replace(head.lease, expires_at=expires_at))


def narrow(head: Head, now: datetime, granted: tuple[str, ...], by: Literal["policy", "agent"] = "policy") -> Change:
    """Policy has become stricter, or the agent has lost tools: the session has fewer of them from now on."""
    removed = [name for name in head.granted_tools if name not in granted]
    why = {"by": by} if by == "agent" else {}
    record = record_of(head, now, "grant", tools=list(granted), removed=removed, role=head.role, **why)
    return Change(replace(head, granted_tools=granted), audit=(record,))


def lose_contents(head: Head, now: datetime, lost: Sequence[str]) -> Change:
    """Contents of these items are gone from the store, more than was known. Their session goes on without them."""
    record = record_of(head, now, "content_lost", items=list(lost[:50]), count=len(lost))
    return Change(replace(head, lost=len(lost)), audit=(record,))


def take_prompt(head: Head, text: str, new_salt: Callable[[], str]) -> Change:
    """The system prompt of this turn. Where it is another one than the last call was sent, what that call read says
    nothing about what the next one reads."""
    name = prompt_name(text, salt_of(head.prompt) or new_salt())
    account = head.account if name == head.prompt else replace(head.account, context_tokens=0)
    after = replace(head, prompt=name, turn=replace(head.turn, prompted=True), account=account)
    return Change(after, prompt=text)


def take_up_unbegun(head: Head, now: datetime) -> Change:
    """The open calls are about to run here. It is written before any does: if this runner dies now, nobody can know
    any more which of them began. Nothing has come of the turn yet, so the runner still counts as one that may be lost.
    """
    return written(replace(head, unbegun=False), now, claims=head.lease.claims)


def begin_call(
    head: Head, now: datetime, results: Sequence[Entry], reserved: Reserved, *, first_attempt: bool, window: int = 0
) -> Change:
    """The write before a model call: the input, the iteration, the money. A call that has only begun is no progress: it
    may be the very thing that kills its runners, so they are counted on unless results were written with it.

    Args:
        window: tokens that a request may have; 0 where nobody knows.
    """
    head = tallied(head, money_ms=reserved.waited_ms)
    turn = replace(head.turn, iterations=head.turn.iterations + first_attempt, put_backs=0)
    account = replace(head.account, calls=reserved.reservation.call, pending=reserved.reservation)
    claims = 0 if results else head.lease.claims
    after = replace(head, turn=turn, account=account, window=window or head.window)
    return written(after, now, *results, claims=claims, reserved=reserved)


def answer(
    head: Head,
    now: datetime,
    entries: Sequence[Entry],
    resolved: Resolved,
    usage: Usage,
    *,
    breakers: Breakers,
    nudged: bool,
    took_millis: int,
) -> Change:
    """The write after a model call: the answer (the first of the entries) and the money settled. What no entry has told
    the cost of so far, this one does."""
    head = _called(head, now, resolved)
    first, *others = entries
    first = replace(
        telling(head, first, resolved.spent_nanousd, resolved.in_doubt_nanousd),
        call=resolved.reservation.call,
        attempts=head.turn.attempts + 1 if head.turn.attempts else None,
    )
    account = replace(_paid(head.account, resolved, usage), context_tokens=usage.read_tokens)
    after = replace(
        head,
        steps=head.steps + 1,
        account=account,
        turn=replace(head.turn, attempts=0, breakers=breakers, nudged=nudged),
        step_millis=(*head.step_millis, took_millis)[-MAX_STEP_TIMES:],
    )
    return written(after, now, first, *others, resolved=resolved)


def see_results(
    head: Head, *, breakers: Breakers, nudged: bool, took_millis: int | None, flags: Sequence[Flag]
) -> Head:
    """What the results of a step change, before they are written.

    Args:
        took_millis: the whole step, calls included; ``None`` where this runner saw only a part of it.
    """
    head = flag(head, flags)
    return replace(
        head,
        turn=replace(head.turn, breakers=breakers, nudged=nudged),
        step_millis=head.step_millis if took_millis is None else (*head.step_millis[:-1], took_millis),
    )


def flag(head: Head, flags: Sequence[Flag]) -> Head:
    """Results, or calls, of this turn look suspicious."""
    if not flags:
        return head
    return replace(tallied(head, flags=len(flags)), flags=(*head.flags, *flags)[-MAX_FLAGS:])


def repair(head: Head, now: datetime, left_out: Sequence[LeftOut], reason: str) -> Change:
    """The model API refused something of the conversation: it is left out of requests from now on. Where no block is
    named, that is the container."""
    entry = Entry(type="repair", at=iso(now), left_out=tuple(left_out), reason=reason)
    places = [{"seq": mark.seq, "index": mark.index} for mark in left_out]
    record = record_of(head, now, "repair", left_out=places)
    after = replace(head, repairs=head.repairs + 1, left_out=head.left_out + len(left_out))
    return written(after, now, entry, records=(record,))


def clear(head: Head, now: datetime, entry: Entry, results: Sequence[Entry] = ()) -> Change:
    """Something is left out of requests from now on, to save room, without a call of the model."""
    record = record_of(head, now, "compaction", left_out=len(entry.left_out), summary=False)
    after = replace(head, left_out=head.left_out + len(entry.left_out))
    return written(after, now, *results, entry, records=(record,))


def summarize(head: Head, now: datetime, entry: Entry, resolved: Resolved, usage: Usage) -> Change:
    """A summary takes the place of what it was made of; the money of the call that wrote it is settled.

    It is no step, and belongs to the iteration of the call that it makes room for.
    """
    head = _called(head, now, resolved)
    entry = telling(head, entry, resolved.spent_nanousd, resolved.in_doubt_nanousd)
    # At the time of its record, by which the two are known to be one.
    entry = replace(entry, call=resolved.reservation.call, at=iso(now))
    record = record_of(head, now, "compaction", left_out=len(entry.left_out), summary=True, model=entry.model)
    after = replace(
        head,
        account=_paid(head.account, resolved, usage),
        turn=replace(head.turn, attempts=max(head.turn.attempts, 1)),
        left_out=head.left_out + len(entry.left_out),
    )
    return written(after, now, entry, records=(record,), resolved=resolved)


def _called(head: Head, now: datetime, resolved: Resolved) -> Head:
    """A call of this runner has ended, one way or another."""
    return tallied(head, model_ms=millis_between(datetime.fromisoformat(resolved.reservation.at), now))


def _paid(account: Account, resolved: Resolved, usage: Usage) -> Account:
    """A call brought something, whose entry tells what it cost, and all that no entry has told so far."""
    return replace(told(booked(account, resolved)), usage=account.usage + usage)


def booked(account: Account, resolved: Resolved) -> Account:
    """What the call cost is part of the totals; no entry tells it yet."""
    return replace(
        account,
        pending=None,
        cost_nanousd=account.cost_nanousd + resolved.spent_nanousd,
        in_doubt_nanousd=account.in_doubt_nanousd + resolved.in_doubt_nanousd,
    )


def fail_attempt(head: Head, now: datetime, resolved: Resolved, *, asked: bool) -> Change:
    """An attempt brought no answer, and its money is settled, voided or in doubt.

    Args:
        asked: false where the provider was left in peace. That uses up no attempt, or a session would wait for the
            provider until it has none left. It still is the beginning of this call: the next one is no new iteration.
    """
    head = tallied(_called(head, now, resolved), retries=int(asked))
    attempts = head.turn.attempts + 1 if asked else max(head.turn.attempts, 1)
    return book(replace(head, turn=replace(head.turn, attempts=attempts)), now, resolved, claims=0)


def fall_back(head: Head, model: str) -> Head:
    """Another model answers for the rest of the turn."""
    return replace(head, turn=replace(head.turn, model=model))


def miss_attempt(head: Head, *, asked: bool) -> Head:
    """An attempt failed before anything was written for it."""
    return tallied(replace(head, turn=replace(head.turn, attempts=head.turn.attempts + asked)), retries=int(asked))


def doubt(head: Head, now: datetime, why: str) -> Change | None:
    """Money that was set aside for a call of which nothing is known counts in full. The call is made again, which is no
    new iteration. ``None`` where no money is set aside."""
    if (resolved := doubted(head, why)) is None:
        return None
    return book(without_the_call(head), now, resolved, claims=head.lease.claims)


def doubted(head: Head, why: str) -> Resolved | None:
    """Nobody knows what became of the call in flight; ``None`` where there is none."""
    if (pending := head.account.pending) is None:
        return None
    return Resolved(pending, "in_doubt", pending.amount_nanousd, {"error": why})


def without_the_call(head: Head) -> Head:
    """The call in flight is made again, which is no new iteration."""
    if head.account.pending is None or head.turn.attempts:
        return head
    return replace(head, turn=replace(head.turn, iterations=max(0, head.turn.iterations - 1)))


def book(head: Head, now: datetime, resolved: Resolved, *, claims: int) -> Change:
    """Settle a reservation that no answer came of; the next entry tells its cost."""
    account = replace(
        booked(head.account, resolved),
        untold_nanousd=head.account.untold_nanousd + resolved.spent_nanousd,
        untold_in_doubt_nanousd=head.account.untold_in_doubt_nanousd + resolved.in_doubt_nanousd,
    )
    return written(replace(head, account=account), now, claims=claims, resolved=resolved)


def put_back(head: Head) -> Head:
    """Only money in flight is in the way: the session waits for it, counted, on its way to the next runner."""
    return replace(head, turn=replace(head.turn, put_backs=head.turn.put_backs + 1))
