"""How a session's state changes: what each transition keeps and what it begins anew."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from tests.support.heads import head
from turnkeeper.core.errors import SessionEnded
from turnkeeper.core.lifecycle import taking
from turnkeeper.core.session import Breakers, Stop
from turnkeeper.core.stops import resumable

NOW = datetime(2026, 3, 2, 9, 30, tzinfo=UTC)


@pytest.mark.parametrize("status", ["idle", "running", "queued", "completed", "failed", "cancelled", "erased"])
def test_only_what_was_stopped_can_go_on(status: Any) -> None:
    assert not resumable(head(status=status))
    if status not in ("running", "queued"):
        with pytest.raises(SessionEnded):
            taking.go_on(head(status=status), NOW)


@pytest.mark.parametrize("reason", ["repetition", "error_streak"])
def test_an_explicit_word_forgets_what_the_breakers_had_against_it(reason: Any) -> None:
    stopped = head(status="stopped", stop=Stop(reason=reason), breakers=Breakers(window=("a",), error_streak=9))
    again = taking.go_on(stopped, NOW).head
    assert (again.status, again.stop, again.turn.breakers) == ("running", None, Breakers())


def test_other_stops_leave_the_breakers_and_what_was_used() -> None:
    breakers = Breakers(window=("a", "a"))
    stopped = head(
        status="stopped", stop=Stop(reason="cost_cap"), breakers=breakers, iterations=7, attempts=3, cost_nanousd=5
    )
    again = taking.go_on(stopped, NOW).head
    assert (again.turn.breakers, again.turn.iterations, again.account.cost_nanousd, again.turn.attempts) == (
        breakers,
        7,
        5,
        0,
    )
