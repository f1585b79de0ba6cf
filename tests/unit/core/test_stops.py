"""Why a turn ends, and what follows from it: every reason has its row, and everything else is read from that."""

from __future__ import annotations

from typing import Any, get_args

import pytest

from tests.support.heads import head
from turnkeeper.core.agent import Limits
from turnkeeper.core.errors import CostCapExceeded, TenantPaused, TurnkeeperError, UnpricedModel
from turnkeeper.core.session import RESTING, Status, Stop, StopReason
from turnkeeper.core.stops import STATUSES, STOPS, documentation, refusal_of, resumable, status_of, stops_again

REASONS: tuple[StopReason, ...] = get_args(StopReason)
ALL_STATUSES: tuple[Status, ...] = get_args(Status)
#: Of these the session's own user may let a turn go on.
RESUMABLE = {
    *("cost_cap", "paused", "iteration_limit", "repetition", "error_streak", "deadline", "refusal", "max_tokens"),
    *("context_window", "provider_error", "internal_error"),
}


def stopped(reason: Any, detail: dict[str, Any] | None = None, **fields: Any) -> Any:
    return head(status="stopped", stop=Stop(reason=reason, detail=detail or {}), **fields)


# ---- the table ----


def test_every_reason_has_a_row_and_every_status_its_words() -> None:
    assert tuple(STOPS) == REASONS
    assert tuple(STATUSES) == ALL_STATUSES
    rows = [line.split(" | ") for line in documentation().splitlines() if line.startswith("| `")]
    named = [row[0].strip("| `") for row in rows]
    assert named == [*ALL_STATUSES, *REASONS]
    assert all(cell.strip() for row in rows for cell in row[:3]), "a status or a reason says nothing"


@pytest.mark.parametrize("reason", REASONS)
def test_a_session_that_stops_rests_and_only_a_stopped_one_has_a_way_on(reason: StopReason) -> None:
    row = STOPS[reason]
    assert set(row.statuses) <= RESTING - {"erased"}
    assert (row.goes_on_by != "nobody") == (row.statuses == ("stopped",))
    assert (row.goes_on_by == "user") == (reason in RESUMABLE)
    # What only matters to a turn that goes on is said of no other.
    assert row.goes_on_by != "nobody" or not (row.needs_iterations or row.restarts_clock or row.forgets_breakers)


def test_what_going_on_changes() -> None:
    assert {reason for reason in REASONS if STOPS[reason].needs_iterations} == {"iteration_limit"}
    assert {reason for reason in REASONS if STOPS[reason].restarts_clock} == {"deadline"}
    assert {reason for reason in REASONS if STOPS[reason].forgets_breakers} == {"repetition", "error_streak"}


# ---- how a session rests ----


@pytest.mark.parametrize("reason", REASONS)
def test_a_session_rests_as_its_row_says(reason: StopReason) -> None:
    assert status_of(Stop(reason=reason)) == STOPS[reason].statuses[0]
    failed = status_of(Stop(reason=reason, detail={"status": "failed"}))
    assert failed == ("failed" if reason == "end_task" else STOPS[reason].statuses[0])


@pytest.mark.parametrize(
    ("word", "status"),
    [
        *((word, "failed") for word in ("failed", "failure", "error", "aborted", "impossible", "gave_up", "blocked")),
        *((word, "failed") for word in ("FAILED", " failed\n", "Blocked")),
        *((word, "completed") for word in ("completed", "done", "", "not failed", "unfailed", None, 0)),
    ],
)
def test_a_task_has_failed_where_the_model_says_so_in_one_word(word: Any, status: Status) -> None:
    assert status_of(Stop(reason="end_task", detail={"status": word})) == status


# ---- who may let it go on ----


@pytest.mark.parametrize("reason", REASONS)
def test_only_a_stopped_session_goes_on(reason: StopReason) -> None:
    assert resumable(stopped(reason)) == (reason in RESUMABLE)
    assert resumable(stopped(reason), "operator") == (reason in RESUMABLE)
    for status in set(ALL_STATUSES) - {"stopped"}:
        assert not resumable(head(status=status, stop=Stop(reason=reason)))
        assert not resumable(head(status=status, stop=Stop(reason=reason)), "operator")


def test_a_stop_without_a_reason_goes_on() -> None:
    """As sessions were written before there were reasons."""
    assert resumable(head(status="stopped"))
    assert not resumable(head(status="idle"))


def test_what_only_an_operator_may_let_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(STOPS, "refusal", STOPS["refusal"]._replace(goes_on_by="operator"))
    assert not resumable(stopped("refusal"))
    assert resumable(stopped("refusal"), "operator")


# ---- whether it would stop again ----


@pytest.mark.parametrize(
    ("iterations", "own", "asked", "again"),
    [
        (5, 5, None, True),
        (6, 5, None, True),
        (4, 5, None, False),
        (5, 5, 5, True),
        (5, 5, 6, False),
        (5, 9, 5, True),
        (5, 9, 1, True),
    ],
)
def test_a_spent_limit_stops_it_again_unless_it_is_raised(
    iterations: int, own: int, asked: int | None, again: bool
) -> None:
    session = stopped("iteration_limit", iterations=iterations, limits=Limits(max_iterations=own))
    assert stops_again(session, asked) is again


@pytest.mark.parametrize("reason", [reason for reason in REASONS if reason != "iteration_limit"])
def test_other_reasons_do_not_ask_for_iterations(reason: StopReason) -> None:
    assert not stops_again(stopped(reason, iterations=25))
    assert not stops_again(stopped(reason, iterations=25), 1)


def test_what_was_not_stopped_does_not_stop_again() -> None:
    assert not stops_again(head(iterations=25))


# ---- what the caller is answered ----


@pytest.mark.parametrize(
    ("reason", "error"), [("cost_cap", CostCapExceeded), ("paused", TenantPaused), ("end_turn", None)]
)
def test_a_turn_that_never_began_is_refused_with_the_error_of_its_reason(
    reason: StopReason, error: type[TurnkeeperError] | None
) -> None:
    assert refusal_of(stopped(reason)) is error
    assert refusal_of(stopped(reason, iterations=1)) is None, "it is an answer once a call was begun"
    assert refusal_of(head(status="idle", stop=Stop(reason=reason))) is None


def test_only_caps_and_pauses_refuse() -> None:
    assert {reason for reason in REASONS if refusal_of(stopped(reason))} == {"cost_cap", "paused"}
    assert refusal_of(head(status="stopped")) is None


def test_a_model_without_a_price_is_refused_by_its_code() -> None:
    unpriced = {"code": UnpricedModel.code}
    assert refusal_of(stopped("internal_error", unpriced)) is UnpricedModel
    assert refusal_of(stopped("internal_error", unpriced, iterations=1)) is None
    assert refusal_of(stopped("internal_error", {"code": "another"})) is None
