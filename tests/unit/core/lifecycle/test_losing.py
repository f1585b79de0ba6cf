"""What is told of a runner that is gone."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.support.heads import head, reservation
from turnkeeper.core.errors import SessionBusy, SessionEnded
from turnkeeper.core.ledger import iso
from turnkeeper.core.lifecycle import losing
from turnkeeper.core.lost_runners import OpenCall, owner_of, runner_id
from turnkeeper.core.session import Run

NOW = datetime(2026, 3, 2, 11, 0, tzinfo=UTC)
HEARD = NOW - timedelta(seconds=75)
CALLS = (OpenCall(tool_use_id="t1", tool="pay"),)


def dead(**fields: Any) -> Any:
    given = {
        "owner": "task-7/secret",
        "fencing_token": 3,
        "claims": 2,
        "expires_at": int(HEARD.timestamp() * 1000) + 60_000,
        "runner": "fargate",
        "last_seq": 4,
        "iterations": 2,
    }
    return head(**{**given, **fields})


def taken_over(before: Any) -> Any:
    return losing.take_over(before, NOW, "req-9/token", "lambda", lease_seconds=60, skew_millis=3_000, open_calls=CALLS)


def test_the_next_runner_says_whom_it_took_the_session_from() -> None:
    change = taken_over(dead())
    [entry] = change.entries
    assert (entry.seq, entry.type, entry.runner, entry.at) == (5, "runner_lost", "fargate", iso(NOW))
    assert entry.lost_runner is not None
    assert entry.lost_runner.model_dump() == {
        "id": "task-7",
        "claimed_at": None,
        "last_heard_at": iso(HEARD),
        "taken_over_by": "lambda",
        "taken_over_by_id": "req-9",
        "open_calls": ({"tool_use_id": "t1", "tool": "pay"},),
    }
    assert (entry.cost_nanousd, entry.in_doubt_nanousd, change.resolved) == (0, 0, None)
    lease = change.head.lease
    assert (lease.owner, lease.fencing_token, lease.claims, change.head.runner) == ("req-9/token", 4, 3, "lambda")
    assert (change.head.last_seq, change.head.turn.iterations) == (5, 2)
    assert entry.run == Run(id="req-9", kind="lambda", claimed_at=iso(NOW))


def test_a_runner_that_left_no_entry_is_told_with_its_claim() -> None:
    run = Run(id="task-7", kind="fargate", claimed_at=iso(HEARD), asked_at="before")
    [told] = taken_over(dead(run=run)).entries
    assert (told.lost_runner.claimed_at, told.run.id) == (iso(HEARD), "req-9")
    sent_on = losing.send_on(dead(run=run), NOW, lease_seconds=60)
    assert (sent_on.entries[0].run, sent_on.head.lease.run) == (run, None)


@pytest.mark.parametrize("take", [taken_over, lambda before: losing.send_on(before, NOW, lease_seconds=60)])
def test_its_call_counts_in_full_and_is_told_at_once(take: Any) -> None:
    before = dead(pending=reservation(call=3, amount_nanousd=700), calls=3, untold_nanousd=50, cost_nanousd=150)
    change = take(before)
    [entry] = change.entries
    assert (entry.cost_nanousd, entry.in_doubt_nanousd) == (700, 700)
    assert change.resolved is not None
    assert (change.resolved.resolution, change.resolved.spent_nanousd) == ("in_doubt", 700)
    account = change.head.account
    assert (account.cost_nanousd, account.in_doubt_nanousd, account.pending) == (850, 700, None)
    assert (account.untold_nanousd, account.untold_in_doubt_nanousd) == (50, 0), "what it spent before is not its loss"
    assert change.head.turn.iterations == 1, "the call is made again, which is no new iteration"


def test_the_sweep_takes_a_session_for_whoever_comes() -> None:
    change = losing.send_on(dead(), NOW, lease_seconds=60, open_calls=CALLS)
    [entry] = change.entries
    assert entry.lost_runner is not None
    assert (entry.lost_runner.taken_over_by, entry.lost_runner.taken_over_by_id) == ("sweep", None)
    assert (change.head.lease.owner, change.head.lease.claims, change.head.status) == (None, 2, "queued")
    assert change.head.handoff is not None


def test_calls_that_had_not_begun_were_not_made() -> None:
    [entry] = taken_over(dead(unbegun=True)).entries
    assert entry.lost_runner is not None
    assert entry.lost_runner.open_calls == ()


def test_nothing_is_taken_from_a_runner_that_lives_or_a_session_at_rest() -> None:
    with pytest.raises(SessionBusy):
        taken_over(dead(expires_at=int(NOW.timestamp() * 1000) - 2_000))
    with pytest.raises(SessionEnded):
        taken_over(dead(status="idle"))


@pytest.mark.parametrize(
    ("owner", "known"),
    [("task-7/secret", "task-7"), (owner_of("", "0123456789abcdef"), "0123456789ab"), ("a/b/c", "a/b"), ("", "")],
)
def test_a_lease_tells_which_process_has_it_and_not_its_secret(owner: str, known: str) -> None:
    assert runner_id(owner) == known


def test_a_long_name_leaves_the_token_whole() -> None:
    assert owner_of("x" * 500, "token") == "x" * 80 + "/token"
