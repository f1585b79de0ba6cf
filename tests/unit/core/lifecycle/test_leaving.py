"""How a runner, an operator or a user lets go of a session: what it leaves behind, and what it says of it."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, get_args

import pytest

from tests.support.heads import head, reservation
from turnkeeper.core.ledger import iso
from turnkeeper.core.lifecycle import leaving, losing
from turnkeeper.core.lifecycle.change import Change, Resolved, record_of
from turnkeeper.core.session import Breakers, Entry, Flag, Handoff, Stop, StopReason
from turnkeeper.core.stops import STOPS, status_of

NOW = datetime(2026, 3, 2, 11, 0, tzinfo=UTC)
RESULTS = (Entry(type="tool_results", at=iso(NOW)),)


def held(**fields: Any) -> Any:
    """A session that a runner of Lambda holds."""
    return head(**{"owner": "me", "fencing_token": 4, "claims": 2, "runner": "lambda", "last_seq": 5, **fields})


# ---- handing off ----


@pytest.mark.parametrize(
    ("placement", "status", "to"),
    [("auto", "queued", "queue"), ("background", "queued", "queue"), ("interactive", "running", "function")],
)
def test_a_handoff_goes_to_the_worker_unless_the_agent_is_to_stay_interactive(
    placement: Any, status: str, to: str
) -> None:
    change = leaving.hand_off(held(placement=placement, untold_nanousd=7), NOW, RESULTS, delay_seconds=15)
    after = change.head
    assert (after.status, after.handoff) == (status, Handoff(to=to, at=iso(NOW), sends=1, delay_seconds=15))
    assert (after.lease.owner, after.lease.fencing_token, after.lease.claims) == (None, 4, 0)
    assert (after.unbegun, after.account.untold_nanousd, after.stop) == (False, 0, None)
    results, entry = change.entries
    assert (results.seq, results.type, results.cost_nanousd) == (6, "tool_results", 0)
    assert (entry.seq, entry.type, entry.status, entry.stop) == (7, "status", status, None)
    assert (entry.runner, entry.cost_nanousd, entry.at) == ("lambda", 7, iso(NOW))


@pytest.mark.parametrize("unbegun", [True, False])
def test_with_calls_open_the_results_come_next_in_the_transcript(unbegun: bool) -> None:
    change = leaving.hand_off(held(untold_nanousd=7), NOW, (), open_calls=True, unbegun=unbegun)
    assert change.entries == ()
    assert (change.head.unbegun, change.head.status, change.head.lease.owner) == (unbegun, "queued", None)
    assert change.head.account.untold_nanousd == 7, "there is no entry yet that could tell it"


def test_who_takes_over_has_nothing_that_is_unbegun_unless_it_is_said_anew() -> None:
    assert leaving.hand_off(held(unbegun=True), NOW, ()).head.unbegun is False


# ---- coming to rest ----


@pytest.mark.parametrize("reason", get_args(StopReason))
def test_a_turn_that_ends_rests_and_is_on_the_audit_trail_where_its_row_says_so(reason: StopReason) -> None:
    stop = Stop(reason=reason, detail={"tool": "pay", "arguments": {"card": "1"}, "reason": "another"})
    before = held(handoff=Handoff(to="queue", at="then"), put_backs=3, untold_nanousd=7, iterations=2)
    change = leaving.rest(before, NOW, RESULTS, stop, actor="bob")
    after = change.head
    assert (after.status, after.stop, after.handoff) == (status_of(stop), stop, None)
    assert (after.lease.owner, after.lease.fencing_token, after.lease.claims) == (None, 4, 0)
    assert (after.turn.put_backs, after.turn.iterations, after.account.untold_nanousd) == (0, 2, 0)
    results, entry = change.entries
    assert (results.seq, results.type) == (6, "tool_results")
    assert (entry.seq, entry.type, entry.status, entry.stop) == (7, "status", after.status, stop)
    assert (entry.runner, entry.cost_nanousd) == ("lambda", 7)
    # Arguments are contents, and the reason is the row's own.
    expected = [(STOPS[reason].audit, "bob", {"reason": reason, "tool": "pay"})] if STOPS[reason].audit else []
    assert [(record.kind, record.actor, record.detail) for record in change.audit] == expected


def test_who_asked_is_left_open_where_nobody_did() -> None:
    [record] = leaving.rest(held(), NOW, (), Stop(reason="cost_cap")).audit
    assert (record.actor, record.runner, record.user_id) == (None, "lambda", "ann")


def test_a_change_may_end_the_turn_with_itself() -> None:
    before = held(last_seq=6)
    written = Entry(seq=6, type="assistant", at=iso(NOW))
    resolved = Resolved(reservation(), "settled", 1)
    earlier = record_of(before, NOW, "grant")
    change = Change(before, (written,), (earlier,), resolved=resolved)
    ended = leaving.ending(change, NOW, Stop(reason="repetition"))
    assert [(entry.seq, entry.type) for entry in ended.entries] == [(6, "assistant"), (7, "status")]
    assert [record.kind for record in ended.audit] == ["grant", "breaker_trip"]
    assert (ended.head.status, ended.head.last_seq, ended.resolved) == ("stopped", 7, resolved)


# ---- cancelling ----


def test_a_cancel_is_asked_for_and_names_who_asked_first() -> None:
    before = held()
    asked = leaving.request_cancel(before, "bob")
    assert asked == replace(before, turn=replace(before.turn, cancel_requested=True, cancel_actor="bob"))
    assert leaving.request_cancel(asked, None).turn.cancel_actor == "bob"
    assert leaving.request_cancel(asked, "carol").turn.cancel_actor == "carol"


def test_what_nobody_runs_is_cancelled_at_once() -> None:
    before = head(
        status="queued", handoff=Handoff(to="queue", at="then"), last_seq=5, runner="lambda", untold_nanousd=7
    )
    change = leaving.cancel(before, NOW, "bob")
    assert (change.head.status, change.head.stop, change.head.handoff) == ("cancelled", Stop(reason="cancelled"), None)
    [entry] = change.entries
    assert (entry.seq, entry.type, entry.status, entry.runner) == (6, "status", "cancelled", None)
    assert (entry.stop, entry.cost_nanousd) == (Stop(reason="cancelled"), 7)
    [record] = change.audit
    assert (record.kind, record.actor, record.detail) == ("cancel", "bob", {"reason": "cancelled"})


# ---- money that was left ----


def test_money_left_behind_at_rest_counts_in_full_and_changes_nothing_else() -> None:
    stop = Stop(reason="internal_error")
    before = head(
        status="stopped",
        stop=stop,
        pending=reservation(amount_nanousd=40),
        iterations=3,
        claims=2,
        last_seq=5,
        runner="fargate",
        cost_nanousd=60,
        untold_nanousd=5,
    )
    change = leaving.settle_left_behind(before, NOW)
    assert change is not None
    assert (change.head.turn, change.head.lease.owner, change.head.status) == (before.turn, None, "stopped")
    assert change.head.stop == stop
    account = change.head.account
    assert (account.cost_nanousd, account.untold_nanousd, account.pending) == (100, 0, None)
    [entry] = change.entries
    assert (entry.seq, entry.type, entry.status, entry.stop) == (6, "status", "stopped", stop)
    assert (entry.cost_nanousd, entry.runner) == (45, "fargate")
    pending = reservation(amount_nanousd=40)
    assert change.resolved == Resolved(pending, "in_doubt", 40, {"error": "left behind at rest"})
    assert change.audit == ()


def test_where_none_was_left_nothing_is_written() -> None:
    assert leaving.settle_left_behind(head(status="stopped"), NOW) is None


# ---- erasing ----


def test_an_erasure_takes_the_session_from_its_runner_and_books_what_its_call_may_cost() -> None:
    before = held(
        pending=reservation(amount_nanousd=40),
        cost_nanousd=60,
        metadata={"order": "1"},
        flags=(Flag(seq=1, tool_use_id="t", tool="fetch", score=9),),
        handoff=Handoff(to="queue", at="then"),
        stop=Stop(reason="cost_cap", detail={"a": "content"}),
        breakers=Breakers(window=("a",)),
        put_backs=3,
        iterations=2,
        expires_at=99,
    )
    open_call = record_of(before, NOW, "tool_call", name="x")
    change = leaving.erase(before, NOW, "bob", (open_call,))
    after = change.head
    assert (after.status, after.stop, after.metadata, after.flags, after.handoff) == ("erased", None, {}, (), None)
    assert (after.lease.owner, after.lease.fencing_token, after.lease.expires_at) == (None, 5, 99)
    assert (after.turn.cancel_requested, after.turn.breakers, after.turn.put_backs) == (True, Breakers(), 0)
    assert after.turn.iterations == 2
    assert (after.account.cost_nanousd, after.account.untold_nanousd, after.account.pending) == (100, 0, None)
    [entry] = change.entries
    assert (entry.seq, entry.type, entry.status, entry.stop) == (6, "status", "erased", None)
    assert (entry.cost_nanousd, entry.runner) == (40, None)
    pending = reservation(amount_nanousd=40)
    assert change.resolved == Resolved(pending, "in_doubt", 40, {"error": "the session was erased"})
    earlier, record = change.audit
    assert earlier is open_call
    assert (record.kind, record.actor, record.detail) == ("erase", "bob", {"status": "running"})


def test_an_erasure_of_what_rests_books_nothing() -> None:
    change = leaving.erase(head(status="idle", fencing_token=4), NOW, "bob", ())
    assert (change.resolved, change.head.status, change.head.lease.fencing_token) == (None, "erased", 5)
    assert [record.detail for record in change.audit] == [{"status": "idle"}]


# ---- lost on the way ----


@pytest.mark.parametrize(("placement", "to"), [("auto", "queue"), ("background", "queue"), ("interactive", "function")])
def test_a_handoff_that_seems_lost_is_sent_again_and_counted(placement: Any, to: str) -> None:
    lost = Handoff(to="function", at="then", sends=2, delay_seconds=15)
    before = head(placement=placement, handoff=lost, claims=3, last_seq=5, fencing_token=4)
    change = leaving.send_again(before, NOW)
    assert change.head.handoff == Handoff(to=to, at=iso(NOW), sends=3, delay_seconds=0, since="then")
    assert (change.head.lease.claims, change.head.lease.fencing_token, change.head.last_seq) == (3, 4, 5)
    assert (change.entries, change.audit, change.head.updated_at) == ((), (), iso(NOW))


def test_a_dead_runners_session_is_taken_from_it() -> None:
    after = losing.send_on(held(), NOW, lease_seconds=60).head
    assert (after.lease.owner, after.lease.claims) == (None, 2)
    assert after.handoff == Handoff(to="queue", at=iso(NOW), sends=1)
