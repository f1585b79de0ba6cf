"""What a runner does with a session while it holds it: each step's count, money and time."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.support.heads import head, reservation, reserved
from turnkeeper.core.errors import SessionBusy, SessionEnded
from turnkeeper.core.ledger import iso
from turnkeeper.core.lifecycle import leaving, running
from turnkeeper.core.lifecycle.change import Resolved
from turnkeeper.core.session import Breakers, Entry, Flag, Handoff, LeaseState, LeftOut, Run, Stop, Tally
from turnkeeper.core.usage import Usage

NOW = datetime(2026, 3, 2, 11, 0, tzinfo=UTC)
THEN = iso(NOW - timedelta(seconds=90))
MILLIS = int(NOW.timestamp() * 1000)
RESULTS = (Entry(type="tool_results", at=iso(NOW)),)
BREAKERS = Breakers(window=("a",), error_streak=1)


def a_flag(number: int) -> Flag:
    return Flag(seq=number, tool_use_id=f"toolu_{number}", tool="fetch", score=1)


# ---- leases ----


def claim(before: Any, now: datetime = NOW, runner: Any = "fargate") -> Any:
    return running.claim(before, now, "me", runner, lease_seconds=30, skew_millis=3_000)


@pytest.mark.parametrize("status", ["running", "queued"])
def test_a_claim_takes_the_session_with_a_new_fencing_token(status: Any) -> None:
    before = head(status=status, fencing_token=4, claims=2, handoff=Handoff(to="queue", at=THEN), iterations=3)
    after = claim(before)
    run = Run(id="me", kind="fargate", claimed_at=iso(NOW), asked_at=THEN)
    assert after.lease == LeaseState(owner="me", fencing_token=5, expires_at=MILLIS + 30_000, claims=3, run=run)
    assert (after.status, after.runner, after.handoff) == ("running", "fargate", None)
    turn = replace(before.turn, tally=Tally(queue_ms=90_000, runs=1))
    assert (after.turn, after.updated_at) == (turn, before.updated_at)


def test_what_was_waited_for_on_the_way_counts_apart_however_often_it_was_sent() -> None:
    sent_again = Handoff(to="queue", at=iso(NOW), since=THEN, sends=2, delay_seconds=15)
    assert claim(head(handoff=sent_again)).turn.tally == Tally(queue_ms=75_000, money_ms=15_000, runs=1)
    early = Handoff(to="queue", at=iso(NOW), delay_seconds=15)
    assert claim(head(handoff=early)).turn.tally == Tally(runs=1)


def test_the_first_entry_behind_a_claim_tells_of_it_and_no_other() -> None:
    claimed = claim(head(status="queued", handoff=Handoff(to="queue", at=THEN)))
    stopped = leaving.rest(claimed, NOW, (), Stop(reason="paused"))
    assert [entry.run for entry in stopped.entries] == [claimed.lease.run]
    assert stopped.head.lease.run is None
    handed = leaving.hand_off(claimed, NOW, (Entry(type="tool_results", at=iso(NOW)),))
    assert [entry.run for entry in handed.entries] == [claimed.lease.run, None]


@pytest.mark.parametrize("status", ["idle", "completed", "stopped", "failed", "cancelled", "erased"])
def test_a_session_at_rest_is_not_claimed(status: Any) -> None:
    with pytest.raises(SessionEnded) as refused:
        claim(head(status=status))
    assert refused.value.data["status"] == status


@pytest.mark.parametrize(("since_its_end", "free"), [(-1, False), (0, False), (3_000, False), (3_001, True)])
def test_a_lease_holds_until_every_clock_says_that_it_ended(since_its_end: int, free: bool) -> None:
    before = head(owner="another", fencing_token=1, expires_at=MILLIS - since_its_end)
    if free:
        assert claim(before).lease.owner == "me"
        return
    with pytest.raises(SessionBusy) as refused:
        claim(before)
    assert refused.value.data == {"session_id": "ses_1", "status": "running"}


def test_a_lease_that_was_let_go_of_holds_nobody_up() -> None:
    assert claim(head(owner=None, expires_at=MILLIS + 60_000)).lease.owner == "me"


def test_a_lease_runs_on_from_now() -> None:
    before = head(owner="me", fencing_token=3, expires_at=MILLIS, claims=2)
    after = running.extend(before, NOW + timedelta(seconds=1), lease_seconds=2.5)
    assert after == replace(before, lease=replace(before.lease, expires_at=MILLIS + 3_500))


# ---- before a call ----


def test_a_stricter_policy_takes_tools_away_and_says_which() -> None:
    before = head(granted_tools=("a", "b", "c"), last_seq=4, claims=2)
    change = running.narrow(before, NOW, ("a", "c"))
    assert change.head == replace(before, granted_tools=("a", "c"))
    [record] = change.audit
    assert (record.kind, record.detail) == ("grant", {"tools": ["a", "c"], "removed": ["b"], "role": "user"})
    assert change.entries == ()


def test_calls_that_are_taken_up_may_still_kill_their_runner() -> None:
    change = running.take_up_unbegun(head(unbegun=True, claims=3), NOW)
    assert (change.head.unbegun, change.head.lease.claims, change.entries) == (False, 3, ())


@pytest.mark.parametrize(("first_attempt", "iterations"), [(True, 6), (False, 5)])
def test_a_call_is_counted_once_however_often_it_is_attempted(first_attempt: bool, iterations: int) -> None:
    before = head(iterations=5, attempts=1, put_backs=3, calls=8, claims=4, cost_nanousd=70)
    change = running.begin_call(before, NOW, (), reserved(9), first_attempt=first_attempt)
    after = change.head
    assert (after.turn.iterations, after.turn.attempts, after.turn.put_backs) == (iterations, 1, 0)
    assert (after.account.calls, after.account.pending, after.account.cost_nanousd) == (9, reservation(9), 70)
    assert after.lease.claims == 4, "a call that has only begun is no progress"
    assert (change.reserved, change.resolved, change.entries) == (reserved(9), None, ())


def test_results_that_are_written_with_a_call_are_progress() -> None:
    change = running.begin_call(head(claims=4, last_seq=2), NOW, RESULTS, reserved(), first_attempt=True)
    assert (change.head.lease.claims, change.head.last_seq) == (0, 3)
    assert [(entry.seq, entry.type) for entry in change.entries] == [(3, "tool_results")]


# ---- after a call ----


def answered(before: Any, *others: Entry, spent: int = 30, took_millis: int = 900) -> Any:
    entries = (Entry(type="assistant", at=iso(NOW)), *others)
    return running.answer(
        before,
        NOW,
        entries,
        Resolved(reservation(), "settled", spent),
        Usage(input_tokens=1, output_tokens=2, cache_read_input_tokens=4, cache_creation_input_tokens=8),
        breakers=BREAKERS,
        nudged=True,
        took_millis=took_millis,
    )


def test_an_answer_is_booked_and_tells_all_that_was_not_told_yet() -> None:
    before = head(
        last_seq=2,
        steps=3,
        iterations=4,
        cost_nanousd=100,
        untold_nanousd=20,
        pending=reservation(),
        usage=Usage(input_tokens=100),
        claims=2,
        step_millis=(1, 2),
    )
    change = answered(before, Entry(type="user", at=iso(NOW), by_kit=True))
    first, note = change.entries
    assert (first.seq, first.type, first.cost_nanousd, first.attempts) == (3, "assistant", 50, None)
    assert (note.seq, note.cost_nanousd) == (4, 0)
    account = change.head.account
    assert (account.cost_nanousd, account.untold_nanousd, account.pending) == (130, 0, None)
    assert (account.usage.input_tokens, account.usage.output_tokens, account.context_tokens) == (101, 2, 13)
    assert (change.head.steps, change.head.step_millis, change.head.lease.claims) == (4, (1, 2, 900), 0)
    turn = change.head.turn
    assert (turn.breakers, turn.nudged, turn.iterations, turn.attempts) == (BREAKERS, True, 4, 0)
    assert change.resolved == Resolved(reservation(), "settled", 30)


def test_an_answer_says_which_attempt_it_was() -> None:
    change = answered(head(attempts=2, pending=reservation()))
    assert (change.entries[0].attempts, change.head.turn.attempts) == (3, 0)


def test_only_the_latest_step_times_are_remembered() -> None:
    before = head(step_millis=tuple(range(running.MAX_STEP_TIMES)), pending=reservation())
    assert answered(before).head.step_millis == (*range(1, running.MAX_STEP_TIMES), 900)


@pytest.mark.parametrize(("took_millis", "step_millis"), [(1_500, (1, 1_500)), (None, (1, 900))])
def test_results_complete_the_steps_time_where_this_runner_saw_all_of_it(
    took_millis: int | None, step_millis: tuple[int, ...]
) -> None:
    before = head(step_millis=(1, 900), flags=(a_flag(1),), iterations=2)
    after = running.see_results(before, breakers=BREAKERS, nudged=True, took_millis=took_millis, flags=(a_flag(2),))
    assert (after.step_millis, after.flags) == (step_millis, (a_flag(1), a_flag(2)))
    assert (after.turn.breakers, after.turn.nudged, after.turn.iterations) == (BREAKERS, True, 2)


def test_only_the_latest_flags_are_remembered() -> None:
    before = head(flags=tuple(map(a_flag, range(running.MAX_FLAGS))))
    after = running.flag(before, (a_flag(98), a_flag(99)))
    assert after.flags == (*map(a_flag, range(2, running.MAX_FLAGS)), a_flag(98), a_flag(99))


# ---- what brought no answer ----


@pytest.mark.parametrize(("attempts", "asked", "after"), [(0, True, 1), (2, True, 3), (0, False, 1), (2, False, 2)])
def test_a_failed_attempt_counts_where_the_provider_was_asked(attempts: int, asked: bool, after: int) -> None:
    """Where it was not, the next one still is an attempt at the same call."""
    before = head(attempts=attempts, iterations=1, pending=reservation(), claims=3, cost_nanousd=10, untold_nanousd=5)
    resolved = Resolved(reservation(), "in_doubt", 100, {"error": "cut"})
    change = running.fail_attempt(before, NOW, resolved, asked=asked)
    assert (change.head.turn.attempts, change.head.turn.iterations, change.head.lease.claims) == (after, 1, 0)
    account = change.head.account
    assert (account.cost_nanousd, account.untold_nanousd, account.pending) == (110, 105, None)
    assert (change.resolved, change.entries) == (resolved, ())


@pytest.mark.parametrize(("asked", "attempts"), [(True, 3), (False, 2)])
def test_an_attempt_that_was_missed_counts_where_it_was_asked_for(asked: bool, attempts: int) -> None:
    before = head(attempts=2, iterations=1)
    turn = replace(before.turn, attempts=attempts, tally=Tally(retries=int(asked)))
    assert running.miss_attempt(before, asked=asked) == replace(before, turn=turn)


@pytest.mark.parametrize(("iterations", "attempts", "after"), [(3, 0, 2), (0, 0, 0), (1, 0, 0), (3, 1, 3)])
def test_a_call_of_which_nothing_is_known_counts_in_full_and_is_no_new_iteration(
    iterations: int, attempts: int, after: int
) -> None:
    """A further attempt was no new iteration to begin with, so there is none to give back."""
    before = head(iterations=iterations, attempts=attempts, pending=reservation(amount_nanousd=40), claims=3)
    change = running.doubt(before, NOW, "the runner was lost")
    assert change is not None
    assert (change.head.turn.iterations, change.head.turn.attempts, change.head.lease.claims) == (after, attempts, 3)
    assert (change.head.account.cost_nanousd, change.head.account.untold_nanousd) == (40, 40)
    pending = reservation(amount_nanousd=40)
    assert change.resolved == Resolved(pending, "in_doubt", 40, {"error": "the runner was lost"})


def test_where_no_money_is_set_aside_there_is_nothing_to_doubt() -> None:
    assert running.doubt(head(iterations=3), NOW, "why") is None


def test_a_booking_keeps_the_claims_that_it_is_told() -> None:
    resolved = Resolved(reservation(), "voided", 0)
    change = running.book(head(pending=reservation(), claims=5), NOW, resolved, claims=2)
    assert (change.head.lease.claims, change.head.account.pending, change.head.updated_at) == (2, None, iso(NOW))


def test_a_session_that_is_put_back_is_counted() -> None:
    before = head(put_backs=2, iterations=1)
    assert running.put_back(before) == replace(before, turn=replace(before.turn, put_backs=3))


# ---- room is made ----

MARKS = (LeftOut(2, None, "summarized"), LeftOut(1, 0, "left out"))


def test_a_summary_is_booked_and_belongs_to_the_iteration_that_it_makes_room_for() -> None:
    before = head(
        last_seq=4, steps=3, iterations=4, cost_nanousd=100, untold_nanousd=20, pending=reservation(), claims=2
    )
    entry = Entry(type="compaction", at=iso(NOW), left_out=MARKS, model="m")
    resolved = Resolved(reservation(), "settled", 30)
    change = running.summarize(before, NOW, entry, resolved, Usage(input_tokens=7))
    [written] = change.entries
    assert (written.seq, written.type, written.cost_nanousd, written.left_out) == (5, "compaction", 50, MARKS)
    account = change.head.account
    assert (account.cost_nanousd, account.untold_nanousd, account.pending) == (130, 0, None)
    assert account.usage.input_tokens == 7
    assert (change.head.steps, change.head.turn.iterations, change.head.turn.attempts) == (3, 4, 1)
    assert (change.head.left_out, change.head.lease.claims, change.resolved) == (2, 0, resolved)
    [record] = change.audit
    assert (record.kind, record.detail) == ("compaction", {"left_out": 2, "summary": True, "model": "m"})
    again = running.summarize(head(attempts=3, pending=reservation()), NOW, entry, resolved, Usage())
    assert again.head.turn.attempts == 3


def test_a_summary_and_its_record_are_of_one_time_however_long_it_took_between_them() -> None:
    entry = Entry(type="compaction", at=iso(NOW - timedelta(milliseconds=1)), left_out=MARKS, model="m")
    change = running.summarize(head(pending=reservation()), NOW, entry, Resolved(reservation(), "settled", 1), Usage())
    assert [each.at for each in change.entries] == [iso(record.at) for record in change.audit] == [iso(NOW)]


def test_old_results_are_left_out_behind_those_that_wait() -> None:
    entry = Entry(type="compaction", at=iso(NOW), left_out=MARKS)
    change = running.clear(head(last_seq=4, cost_nanousd=100), NOW, entry, RESULTS)
    assert [(each.seq, each.type) for each in change.entries] == [(5, "tool_results"), (6, "compaction")]
    assert (change.head.account.cost_nanousd, change.head.left_out, change.resolved) == (100, 2, None)
    assert [record.detail for record in change.audit] == [{"left_out": 2, "summary": False}]


def test_a_head_remembers_the_window_as_it_was_last_known() -> None:
    known = running.begin_call(head(), NOW, (), reserved(), first_attempt=True, window=200_000)
    assert known.head.window == 200_000
    later = running.begin_call(known.head, NOW, (), reserved(), first_attempt=True)
    assert later.head.window == 200_000
