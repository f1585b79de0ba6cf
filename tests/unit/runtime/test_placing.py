"""Whom a new turn is offered to, and when the turn Lambda is started for it."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from tests.support.kit import WHO, MemoryKit
from turnkeeper.core.errors import Unavailable
from turnkeeper.core.session import Head
from turnkeeper.runtime.intake import NewSession
from turnkeeper.runtime.placing import CLAIM_SECONDS
from turnkeeper.runtime.store.workers import SILENT_SECONDS, Workers
from turnkeeper.testing.clock import ManualClock
from turnkeeper.testing.memory_queue import MemoryQueue


class Front(MemoryKit):
    """A kit in memory in which time passes only where somebody waits."""

    def __init__(self, placement: str = "economy") -> None:
        self.time = ManualClock()
        super().__init__(clock=self.time, runner="none", auto_placement=placement)

    def begin(self, agent: str = "plain", placement: str | None = None) -> Head:
        return self.intake.create(WHO, NewSession(agent, "[[say hi]]", {}, placement))  # type: ignore[arg-type]

    def asked(self) -> tuple[int, int]:
        """How often the queue was, and the turn Lambda."""
        return len(self.queue.bodies()), len(self.turns.started)


@dataclass
class ClaimingQueue(MemoryQueue):
    """Whose worker is at once there."""

    front: Front | None = None

    def send(self, body: str, *, group: str, delay_seconds: int = 0) -> None:
        super().send(body, group=group, delay_seconds=delay_seconds)
        assert self.front is not None
        self.front.sessions.claim(*self.front.session_of(body), "a worker", "fargate")


@pytest.mark.parametrize(
    ("placement", "free", "agent", "asked"),
    [
        ("economy", 1, "plain", (1, 1)),
        ("economy", 0, "plain", (0, 1)),
        ("economy", 1, "quick", (0, 1)),
        ("economy", 1, "slow", (1, 0)),
        ("latency", 1, "plain", (0, 1)),
    ],
)
def test_who_is_asked(placement: str, free: int, agent: str, asked: tuple[int, int]) -> None:
    front = Front(placement)
    front.workers.tell("a worker", free)
    front.placing.send(front.begin(agent))
    assert front.asked() == asked
    waited = CLAIM_SECONDS if asked == (1, 1) else 0.0
    assert front.time.monotonic() == pytest.approx(waited)


def test_a_turn_that_is_claimed_is_nobody_elses() -> None:
    front = Front()
    vars(front)["queue"] = ClaimingQueue(front.time, front=front)
    front.workers.tell("a worker", 1)
    front.placing.send(front.begin())
    assert front.asked() == (1, 0)
    assert front.time.monotonic() < CLAIM_SECONDS


def test_no_more_is_offered_than_is_free_and_old_words_do_not_count() -> None:
    front = Front()
    front.workers.tell("one", 1)
    front.workers.tell("two", 1)
    heads = [front.begin() for _ in range(4)]
    for head in heads[:3]:
        front.placing.send(head)
    assert front.asked() == (2, 3), "within a second, two are known to be free"
    front.time.advance(SILENT_SECONDS + 1)
    assert front.fleet.is_gone()
    front.placing.send(heads[3])
    assert front.asked() == (2, 4)


@pytest.mark.parametrize("ahead", [-3_600, 3_600])
def test_a_worker_whose_clock_is_off_is_offered_nothing_and_no_ghost_of_it_is(ahead: float) -> None:
    front = Front()
    off = ManualClock()
    off.advance(3_600 + ahead)
    front.time.advance(3_600)
    Workers(front.table, off).tell("a worker", 8)
    assert front.fleet.is_gone()
    front.placing.send(front.begin())
    assert front.asked() == (0, 1)


class Away:
    def __getattr__(self, name: str) -> object:
        def fails(*_: object, **__: object) -> None:
            raise Unavailable(f"{name} is out of reach")

        return fails


def test_what_is_out_of_reach_is_in_nobodys_way() -> None:
    front = Front()
    front.workers.tell("a worker", 5)
    vars(front)["queue"] = Away()
    front.placing.send(front.begin())
    assert len(front.turns.started) == 1, "the queue was away"

    front = Front()
    front.workers.tell("a worker", 5)
    vars(front)["turns"] = Away()
    front.placing.send(front.begin())
    assert len(front.queue.bodies()) == 1, "the Lambda was away: the worker was asked all the same"

    front = Front()
    vars(front)["turns"] = Away()
    with pytest.raises(Unavailable):
        front.placing.send(front.begin())


def test_who_cannot_read_what_workers_tell_offers_nothing_and_gives_up_on_nobody() -> None:
    front = Front()
    vars(front.workers)["table"] = Away()
    assert not front.fleet.take_slot()
    assert not front.fleet.is_gone()
