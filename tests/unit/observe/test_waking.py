"""The stream as a second way to wake the worker."""

from __future__ import annotations

from typing import Any

import pytest

from functions.observe import handler as module
from functions.observe.waking import SWEPT_SECONDS
from tests.support.kit import WHO, MemoryKit
from tests.unit.observe.conftest import Stream
from turnkeeper.adapters.ecs import EcsWakes
from turnkeeper.core.late import late
from turnkeeper.runtime.intake import NewSession
from turnkeeper.runtime.world import Allowance
from turnkeeper.testing.clock import ManualClock
from turnkeeper.testing.recorders import RecordedWakes


class Observed:
    """A kit, and what the observer asked for when it was handed the changes since the last time."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.kit = MemoryKit(runner="none", clock=self.clock)
        self.wakes = RecordedWakes()
        vars(self.kit)["wakes"] = self.wakes
        self.stream = Stream(self.kit)

    def asked(self) -> list[int]:
        self.wakes.asked.clear()
        assert module.handler(self.stream.event(), None) == {"batchItemFailures": []}
        return list(self.wakes.asked)

    def session(self, agent: str) -> str:
        return self.kit.intake.create(WHO, NewSession(agent, "hi", {})).session_id


@pytest.fixture
def observed(monkeypatch: pytest.MonkeyPatch) -> Observed:
    observed = Observed()
    monkeypatch.setattr(module, "_kit", lambda: observed.kit)
    return observed


def test_a_session_on_its_way_to_the_worker_wakes_it_and_one_on_its_way_to_lambda_does_not(observed: Observed) -> None:
    session_id = observed.session("slow")
    assert observed.asked() == [1]
    observed.session("plain")
    assert observed.asked() == []
    observed.kit.engine.run("acme", session_id, Allowance(runner="fargate", draining=lambda: True))
    assert observed.asked() == [1], "handed on by a worker that stops"
    observed.kit.sessions.send_again(observed.kit.head(session_id))
    assert observed.asked() == [1]
    observed.kit.engine.run("acme", session_id, Allowance(runner="fargate"))
    assert observed.asked() == []


def test_another_change_of_a_session_that_waits_asks_nothing(observed: Observed) -> None:
    session_id = observed.session("slow")
    assert observed.asked() == [1]
    observed.kit.sessions.request_cancel(observed.kit.head(session_id), "ann")
    assert observed.stream.records
    assert observed.asked() == []


def test_a_stream_that_is_behind_wakes_nobody(observed: Observed) -> None:
    observed.session("slow")
    observed.clock.advance(SWEPT_SECONDS + 1)
    assert observed.asked() == []


def test_a_wake_that_fails_takes_nothing_with_it(observed: Observed, capsys: pytest.CaptureFixture[str]) -> None:
    def client() -> Any:
        raise TimeoutError

    wakes = EcsWakes(late(client), "Turnkeeper/worker", 10, observed.clock)
    vars(observed.kit)["wakes"] = wakes
    observed.session("slow")
    observed.kit.engine.run("acme", observed.session("plain"), Allowance(runner="lambda"))
    observed.asked()
    assert wakes.failures == 1
    assert '"turns"' in capsys.readouterr().out
