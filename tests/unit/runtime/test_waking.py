from __future__ import annotations

import logging

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.kit import WHO, MemoryKit
from turnkeeper.core.errors import Unavailable
from turnkeeper.ports import Queue
from turnkeeper.runtime.intake import NewSession
from turnkeeper.runtime.waking import SOON_SECONDS, Capacity, WakingQueue, tasks_for
from turnkeeper.testing.clock import ManualClock
from turnkeeper.testing.memory_queue import MemoryQueue
from turnkeeper.testing.recorders import RecordedWakes


def test_each_message_wakes_a_task_unless_it_is_seen_much_later() -> None:
    wakes = RecordedWakes()
    queue: Queue = WakingQueue(MemoryQueue(ManualClock()), wakes)
    for delay_seconds in (0, SOON_SECONDS, SOON_SECONDS + 1, 900):
        queue.send("{}", group="acme", delay_seconds=delay_seconds)
    assert wakes.asked == [1, 1]
    assert queue.backlog() == 1


def test_a_message_that_could_not_be_sent_wakes_nobody() -> None:
    wakes = RecordedWakes()
    with pytest.raises(Exception, match="1 MiB"):
        WakingQueue(MemoryQueue(), wakes).send("x" * 2_000_000, group="acme")
    assert wakes.asked == []


def test_whatever_asks_for_the_worker_wakes_it() -> None:
    """A session that belongs on the worker, as the front door takes it in; and one that the turn Lambda hands off."""
    for agent, dispatched in (("slow", False), ("plain", True)):
        kit = MemoryKit(runner="none")
        wakes = RecordedWakes()
        vars(kit)["queue"] = WakingQueue(MemoryQueue(kit.clock), wakes)
        head = kit.intake.create(WHO, NewSession(agent=agent, input="[[say hello]]", metadata={}))
        if dispatched:
            vars(kit)["turns"] = None
        kit.dispatch.send(head)
        assert wakes.asked == [1]


@given(st.integers(1, 10_000), st.integers(1, 200))
def test_tasks_hold_the_backlog_and_none_is_needless(messages: int, slots: int) -> None:
    tasks = tasks_for(messages, slots)
    assert (tasks - 1) * slots < messages <= tasks * slots


def test_waiting_and_held_messages_are_counted_and_delayed_ones_are_not() -> None:
    wakes = RecordedWakes()
    clock = ManualClock()
    queue = MemoryQueue(clock)
    capacity = Capacity(queue, wakes, slots=1)
    capacity.look()
    assert wakes.asked == [], "an empty queue needs nobody"
    for _ in range(5):
        queue.send("{}", group="acme")
    queue.send("{}", group="acme", delay_seconds=300)
    queue.receive(most=2, wait_seconds=0, visibility_seconds=30)
    capacity.look()
    clock.advance(301)
    capacity.look()
    assert wakes.asked == [5, 6]
    queue.send("{}", group="acme")
    capacity.look()
    assert wakes.asked == [5, 6, 7]


def test_a_queue_out_of_reach_does_not_stop_the_sweep(caplog: pytest.LogCaptureFixture) -> None:
    class Gone(MemoryQueue):
        def backlog(self) -> int:
            raise Unavailable("SQS is out of reach")

    wakes = RecordedWakes()
    with caplog.at_level(logging.WARNING):
        Capacity(Gone(), wakes, slots=16).look()
    assert wakes.asked == []
    assert "backlog cannot be read" in caplog.text


def test_where_nobody_can_be_woken_nothing_is_asked() -> None:
    class Untouched(MemoryQueue):
        def backlog(self) -> int:
            raise AssertionError

    Capacity(Untouched(), None, slots=16).look()
