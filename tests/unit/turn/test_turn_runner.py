"""The turn Lambda: what it makes of an event, how much time it gives the turn, and how it ends."""

from __future__ import annotations

from typing import Any

import pytest

from functions.turn.handler import TurnRunner
from tests.support.kit import WHO, MemoryKit
from turnkeeper.core.errors import LeaseLost
from turnkeeper.core.session import Head
from turnkeeper.runtime.intake import NewSession
from turnkeeper.table import StoreBusy


def created(kit: MemoryKit, agent: str = "plain") -> tuple[Head, dict[str, Any]]:
    head = kit.intake.create(WHO, NewSession(agent=agent, input="[[say hello]]", metadata={}))
    return head, {"tenant_id": head.tenant_id, "session_id": head.session_id}


def test_an_event_runs_its_session() -> None:
    kit = MemoryKit(runner="none")
    _, event = created(kit)
    assert TurnRunner(kit).run(event, 900.0) == {"outcome": "ran", "status": "idle"}
    assert TurnRunner(kit).run(event, 900.0) == {"outcome": "session_ended"}


def test_an_event_for_a_session_that_another_runner_has() -> None:
    kit = MemoryKit(runner="none")
    head, event = created(kit)
    kit.sessions.claim(head.tenant_id, head.session_id, "another", "fargate")
    assert TurnRunner(kit).run(event, 900.0) == {"outcome": "session_busy"}


@pytest.mark.parametrize("event", [{}, {"tenant_id": "acme"}, {"tenant_id": 1, "session_id": []}])
def test_an_event_that_is_none(event: dict[str, Any]) -> None:
    assert TurnRunner(MemoryKit(runner="none")).run(event, 900.0) == {"outcome": "invalid"}


def test_a_session_that_is_not_there() -> None:
    event = {"tenant_id": "acme", "session_id": "ses_x"}
    assert TurnRunner(MemoryKit(runner="none")).run(event, 900.0) == {"outcome": "session_not_found"}


@pytest.mark.parametrize(
    ("settings", "left", "turn_seconds"),
    [(840, 900, 840), (840, 60, 45), (5, 900, 5), (840, 10, 0)],
)
def test_the_time_is_that_of_the_settings_and_never_more_than_there_is(
    settings: float, left: float, turn_seconds: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    kit = MemoryKit(runner="none", turn_seconds=settings)
    head, event = created(kit)
    given: list[Any] = []
    monkeypatch.setattr(kit.engine, "run", lambda *arguments: given.append(arguments[2]) or head)
    TurnRunner(kit).run(event, left)
    assert (given[0].runner, given[0].turn_seconds, given[0].hard_seconds) == ("lambda", turn_seconds, left)


def test_without_time_it_hands_off() -> None:
    kit = MemoryKit(runner="none")
    _, event = created(kit)
    assert TurnRunner(kit).run(event, 10.0) == {"outcome": "ran", "status": "queued"}
    assert kit.work() == 1


def test_a_lost_lease_is_no_failure_and_a_busy_table_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    kit = MemoryKit(runner="none")
    _, event = created(kit)

    def raises(error: Exception) -> Any:
        def run(*_: Any) -> Any:
            raise error

        return run

    monkeypatch.setattr(kit.engine, "run", raises(LeaseLost("gone")))
    assert TurnRunner(kit).run(event, 900.0) == {"outcome": "lease_lost"}
    monkeypatch.setattr(kit.engine, "run", raises(StoreBusy("busy")))
    with pytest.raises(StoreBusy):
        TurnRunner(kit).run(event, 900.0)
