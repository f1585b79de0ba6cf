"""What is written of a turn whose model calls another engine makes, through the gateway.

The money of each call is in the ledger before the session hears of it: the session's account is brought up to what the
ledger says, whenever something is written, so that every call is counted once however often a runner is lost.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

from turnkeeper.core.lifecycle.change import Change, telling, told, written
from turnkeeper.core.lifecycle.running import MAX_STEP_TIMES
from turnkeeper.core.session import Breakers, Entry, Head
from turnkeeper.core.usage import Usage


def caught_up(head: Head, *, spent_nanousd: int, in_doubt_nanousd: int) -> Head:
    """The account as the ledger says: what all of the session's calls have cost so far. What is new in it no entry has
    told yet. It never goes back: a call may be settled for less than it was doubted for, which the counters see and the
    entries do not."""
    account = head.account
    spent = max(0, spent_nanousd - account.cost_nanousd)
    doubt = min(spent, max(0, in_doubt_nanousd - account.in_doubt_nanousd))
    return replace(
        head,
        account=replace(
            account,
            cost_nanousd=account.cost_nanousd + spent,
            in_doubt_nanousd=account.in_doubt_nanousd + doubt,
            untold_nanousd=account.untold_nanousd + spent,
            untold_in_doubt_nanousd=account.untold_in_doubt_nanousd + doubt,
        ),
    )


def began(head: Head) -> Head:
    """One more model call of the turn."""
    return replace(head, turn=replace(head.turn, iterations=head.turn.iterations + 1))


def answered(
    head: Head, now: datetime, entry: Entry, *, used: Usage, read_tokens: int, breakers: Breakers, took_millis: int
) -> Change:
    """The model has answered: an entry, written before any tool that it asks for runs. It tells of every call since the
    entry before it, those of subagents among them, so that entries sum to the session.

    Args:
        used: by all calls of the session so far.
        read_tokens: by this one.
    """
    account = told(head.account)
    since = {name: max(0, getattr(used, name) - getattr(account.usage, name)) for name in Usage.model_fields}
    entry = replace(telling(head, entry), usage=since)
    after = replace(
        head,
        steps=head.steps + 1,
        account=replace(account, usage=account.usage + Usage(**since), context_tokens=read_tokens),
        turn=replace(head.turn, attempts=0, put_backs=0, breakers=breakers),
        step_millis=(*head.step_millis, took_millis)[-MAX_STEP_TIMES:],
    )
    return written(after, now, entry)


def saw_results(head: Head, now: datetime, results: Sequence[Entry]) -> Change:
    """Every call of the latest answer has its result."""
    return written(head, now, *results)


def was_told(head: Head, now: datetime, entry: Entry) -> Change:
    """The kit says something to the model. Nothing has come of the turn yet: a runner that is lost now still counts."""
    return written(head, now, entry, claims=head.lease.claims)
