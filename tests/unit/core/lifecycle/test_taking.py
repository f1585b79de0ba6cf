"""How sessions come into being, take inputs, and go on where they stopped: what is kept and what begins anew."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.support.heads import head
from turnkeeper.core.agent import Limits
from turnkeeper.core.errors import SessionBusy, SessionEnded
from turnkeeper.core.ledger import iso
from turnkeeper.core.lifecycle import taking
from turnkeeper.core.session import Breakers, Handoff, Stop, TurnState
from turnkeeper.core.stops import resumable

NOW = datetime(2026, 3, 2, 11, 0, tzinfo=UTC)
INPUT = ({"type": "text", "text": "go"},)
#: Ways of a session that nothing can be said in, and in which somebody is at work.
CLOSED = ["completed", "failed", "cancelled", "erased"]
AT_WORK = ["running", "queued"]


def stopped(reason: Any = "cost_cap", **fields: Any) -> Any:
    return head(status="stopped", stop=Stop(reason=reason), **fields)


# ---- new sessions ----


@pytest.mark.parametrize(
    ("placement", "status", "to"),
    [("auto", "running", "function"), ("interactive", "running", "function"), ("background", "queued", "queue")],
)
def test_a_session_is_created_on_its_way_to_a_runner(placement: Any, status: str, to: str) -> None:
    change = taking.create(head(placement=placement, version="v1", granted_tools=("add", "fail")), NOW, INPUT)
    after = change.head
    assert (after.status, after.handoff) == (status, Handoff(to=to, at=iso(NOW), sends=1, delay_seconds=0))
    assert (after.last_seq, after.updated_at, after.lease.owner) == (1, iso(NOW), None)
    [entry] = change.entries
    assert (entry.seq, entry.type, entry.content, entry.at, entry.by_kit) == (1, "user", INPUT, iso(NOW), False)
    created, grant = change.audit
    assert (created.kind, created.detail) == (
        "session_created",
        {"agent": "plain", "version": "v1", "placement": placement, "role": "user"},
    )
    assert (grant.kind, grant.detail) == ("grant", {"tools": ["add", "fail"], "role": "user"})
    assert {(record.user_id, record.actor, record.at) for record in change.audit} == {("ann", None, NOW)}
    assert (change.plan, change.reserved, change.resolved) == (None, None, None)


# ---- the next input ----


def test_an_input_begins_a_turn_anew_and_keeps_what_the_session_is() -> None:
    before = head(
        status="stopped",
        stop=Stop(reason="repetition"),
        last_seq=7,
        number=3,
        iterations=9,
        attempts=2,
        breakers=Breakers(window=("a",)),
        nudged=True,
        put_backs=4,
        cancel_requested=True,
        cancel_actor="bob",
        claims=5,
        cost_nanousd=70,
        steps=6,
    )
    change = taking.begin_turn(before, NOW, INPUT)
    assert change.head.turn == TurnState(number=4, seq=8, started_at=iso(NOW))
    assert (change.head.status, change.head.stop, change.head.lease.claims) == ("running", None, 0)
    assert (change.head.account, change.head.steps) == (before.account, before.steps)
    assert [(entry.seq, entry.type, entry.content) for entry in change.entries] == [(8, "user", INPUT)]
    assert change.head.last_seq == 8
    assert change.head.handoff == Handoff(to="function", at=iso(NOW))
    assert change.audit == ()


@pytest.mark.parametrize("status", CLOSED)
def test_nothing_is_said_in_a_session_that_has_ended(status: Any) -> None:
    with pytest.raises(SessionEnded) as refused:
        taking.begin_turn(head(status=status), NOW, INPUT)
    assert refused.value.data == {"session_id": "ses_1", "status": status}


@pytest.mark.parametrize("status", AT_WORK)
def test_nothing_is_said_while_a_turn_runs(status: Any) -> None:
    with pytest.raises(SessionBusy) as refused:
        taking.begin_turn(head(status=status), NOW, INPUT)
    assert refused.value.data == {"session_id": "ses_1", "status": status}


@pytest.mark.parametrize("begin", ["begin_turn", "go_on"])
def test_a_turn_in_the_hands_of_another_role_says_whose(begin: str) -> None:
    before = stopped(number=2)
    arguments: tuple[Any, ...] = (INPUT,) if begin == "begin_turn" else ()
    change = getattr(taking, begin)(before, NOW, *arguments, role="reader", actor="bob")
    assert change.head.turn.role == "reader"
    assert change.head.role == "user", "the session keeps its own"
    [record] = change.audit
    assert (record.kind, record.user_id, record.actor) == ("grant", "ann", "bob")
    assert record.detail == {"turn": 3 if begin == "begin_turn" else 2, "role": "reader"}


def narrowed(status: Any, **fields: Any) -> Any:
    """A session whose turn is in the hands of a reader."""
    turn = taking.begin_turn(head(status="idle"), NOW, INPUT, role="reader", actor="bob").head.turn
    return head(status=status, turn=turn, **fields)


@pytest.mark.parametrize("role", ["user", None])
def test_the_next_input_of_the_session_itself_has_its_own_role_again(role: str | None) -> None:
    change = taking.begin_turn(narrowed("idle"), NOW, INPUT, role=role, actor="ann")
    assert change.head.turn.role is None
    [record] = change.audit
    assert (record.actor, record.detail) == ("ann", {"turn": 3, "role": "user"})


def test_a_turn_that_goes_on_in_the_same_hands_is_not_recorded() -> None:
    before = narrowed("stopped", stop=Stop(reason="cost_cap"))
    for role in ("reader", None):
        change = taking.go_on(before, NOW, role=role, actor="carol")
        assert (change.head.turn.role, change.audit) == ("reader", ())
    change = taking.begin_turn(before, NOW, INPUT, role="reader", actor="carol")
    assert (change.head.turn.role, change.audit) == ("reader", ())


# ---- going on ----


@pytest.mark.parametrize("status", ["idle", *AT_WORK, *CLOSED])
def test_only_what_was_stopped_can_go_on(status: Any) -> None:
    assert not resumable(head(status=status))
    with pytest.raises(SessionBusy if status in AT_WORK else SessionEnded):
        taking.go_on(head(status=status), NOW)


@pytest.mark.parametrize("reason", ["repetition", "error_streak"])
def test_an_explicit_word_forgets_what_the_breakers_had_against_it(reason: Any) -> None:
    again = taking.go_on(stopped(reason, breakers=Breakers(window=("a",), error_streak=9)), NOW).head
    assert (again.status, again.stop, again.turn.breakers) == ("running", None, Breakers())
    assert again.turn.started_at == iso(NOW)


def test_other_stops_leave_the_breakers_and_what_was_used() -> None:
    breakers = Breakers(window=("a", "a"))
    before = stopped(
        breakers=breakers, iterations=7, attempts=3, cost_nanousd=5, nudged=True, number=2, seq=4, cancel_requested=True
    )
    again = taking.go_on(before, NOW).head
    assert (again.turn.breakers, again.turn.iterations, again.account.cost_nanousd) == (breakers, 7, 5)
    assert (again.turn.number, again.turn.seq, again.turn.started_at, again.turn.nudged) == (2, 4, iso(NOW), True)
    assert (again.turn.attempts, again.turn.cancel_requested, again.turn.cancel_actor) == (0, False, None)
    assert (again.limits, again.flags_cleared_seq) == (before.limits, 0)


def test_a_spent_clock_begins_anew() -> None:
    assert taking.go_on(stopped("deadline"), NOW).head.turn.started_at == iso(NOW)


@pytest.mark.parametrize("reason", ["cost_cap", "paused", "provider_error", "iteration_limit", "repetition"])
@pytest.mark.parametrize("days", [0, 1, 30])
def test_rest_does_not_run_the_clock(reason: Any, days: int) -> None:
    """A cap that resets the next day, a pause that is lifted after a month: the turn has the time left that it had."""
    rested = NOW - timedelta(days=days)
    used = timedelta(minutes=7)
    before = stopped(reason, started_at=iso(rested - used), updated_at=iso(rested))
    again = taking.go_on(before, NOW, max_iterations=100).head
    assert again.turn.started_at == iso(NOW - used)


def test_a_stop_of_which_no_reason_is_known_goes_on() -> None:
    again = taking.go_on(head(status="stopped", breakers=Breakers(error_streak=2)), NOW).head
    assert (again.status, again.turn.breakers, again.turn.started_at) == ("running", Breakers(error_streak=2), iso(NOW))


def test_going_on_without_more_writes_no_entry_and_no_record() -> None:
    change = taking.go_on(stopped(last_seq=5, claims=3), NOW)
    assert (change.entries, change.audit) == ((), ())
    assert (change.head.last_seq, change.head.lease.claims, change.head.updated_at) == (5, 0, iso(NOW))
    assert change.head.handoff == Handoff(to="function", at=iso(NOW))


def test_what_the_kit_says_beside_it_is_an_entry_of_its_own() -> None:
    [entry] = taking.go_on(stopped(last_seq=5), NOW, note="Go on.").entries
    assert (entry.seq, entry.type, entry.by_kit, entry.at) == (6, "user", True, iso(NOW))
    assert entry.content == ({"type": "text", "text": "Go on."},)


@pytest.mark.parametrize("operator", ["operator:eve", None])
def test_a_raised_limit_and_cleared_flags_are_recorded(operator: str | None) -> None:
    before = stopped("iteration_limit", last_seq=5, limits=Limits(max_iterations=3, max_seconds=60))
    change = taking.go_on(before, NOW, operator=operator, max_iterations=9, clear_flags=True, note="Go on.")
    assert change.head.limits == Limits(max_iterations=9, max_seconds=60)
    assert change.head.flags_cleared_seq == 5, "what comes after may be flagged again"
    [record] = change.audit
    assert (record.kind, record.actor, record.user_id) == ("operator_action", operator, "ann")
    assert record.detail == {"action": "resume", "max_iterations": 9, "before": 3, "clear_flags": True, "up_to_seq": 5}


def test_each_of_them_alone_is_recorded() -> None:
    details = [
        change.audit[0].detail
        for change in (
            taking.go_on(stopped(), NOW, operator="operator:eve"),
            taking.go_on(stopped(), NOW, max_iterations=9),
            taking.go_on(stopped(last_seq=2), NOW, clear_flags=True),
        )
    ]
    assert details == [
        {"action": "resume"},
        {"action": "resume", "max_iterations": 9, "before": 25},
        {"action": "resume", "clear_flags": True, "up_to_seq": 2},
    ]


def test_a_narrower_hand_and_an_operators_word_are_two_records() -> None:
    change = taking.go_on(stopped(), NOW, role="reader", actor="bob", max_iterations=9)
    assert [(record.kind, record.actor) for record in change.audit] == [("grant", "bob"), ("operator_action", None)]


# ---- flags ----


@pytest.mark.parametrize("status", ["idle", "stopped"])
def test_flags_are_cleared_where_the_session_may_be_spoken_to(status: Any) -> None:
    before = head(status=status, last_seq=5, stop=Stop(reason="end_turn"), number=2)
    change = taking.clear_flags(before, NOW, "operator:eve")
    assert (change.head.flags_cleared_seq, change.head.status, change.head.stop) == (5, status, before.stop)
    assert (change.head.turn, change.head.handoff, change.entries) == (before.turn, None, ())
    [record] = change.audit
    assert (record.kind, record.actor) == ("operator_action", "operator:eve")
    assert record.detail == {"action": "clear_flags", "clear_flags": True, "up_to_seq": 5}


@pytest.mark.parametrize("status", AT_WORK)
def test_flags_of_a_session_at_work_are_not_cleared(status: Any) -> None:
    with pytest.raises(SessionBusy, match="a turn is running") as refused:
        taking.clear_flags(head(status=status), NOW, "operator:eve")
    assert refused.value.data["status"] == status


@pytest.mark.parametrize("status", CLOSED)
def test_flags_of_a_session_that_has_ended_are_not_cleared(status: Any) -> None:
    with pytest.raises(SessionEnded, match=f"the session is {status}"):
        taking.clear_flags(head(status=status), NOW, "operator:eve")
