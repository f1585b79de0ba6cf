"""How a message is kept in hand, and how it leaves the hand."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from fargate_worker.holding import MAX_HOLD_SECONDS, Holding
from fargate_worker.reading import Work
from turnkeeper.core.errors import Unavailable
from turnkeeper.ports import Message
from turnkeeper.testing.clock import ManualClock
from turnkeeper.testing.memory_queue import MemoryQueue


class Hand:
    """A holding with one message in hand, received for the nth time; ``fresh`` is what would carry its session on."""

    def __init__(self, receives: int = 1) -> None:
        self.clock = ManualClock()
        self.queue = MemoryQueue(self.clock)
        self.fresh: str | None = "fresh"
        self.holding = Holding(self.queue, self.clock, lease_seconds=60, fresh_body=lambda _: self.fresh)
        self.queue.send("old", group="acme")
        for _ in range(receives - 1):
            self.receive(0)
        [message] = self.receive(self.holding.visibility_seconds)
        self.held = self.holding.take(message)
        self.held.work = Work("acme", "ses_1")

    def receive(self, visibility_seconds: int = 1) -> list[Message]:
        return self.queue.receive(most=10, wait_seconds=0, visibility_seconds=visibility_seconds)

    def pass_time(self, seconds: float) -> None:
        until = self.clock.monotonic() + seconds
        while self.clock.monotonic() < until:
            self.clock.advance(10)
            self.holding.keep()

    def break_queue(self, monkeypatch: pytest.MonkeyPatch, *methods: str) -> None:
        def refuse(*_: Any, **__: Any) -> None:
            raise Unavailable("SQS is out of reach")

        for method in methods:
            monkeypatch.setattr(self.queue, method, refuse)


def test_what_is_in_hand_stays_invisible_and_what_is_not_comes_again() -> None:
    hand = Hand()
    hand.pass_time(600)
    assert hand.receive() == []
    hand.clock.advance(hand.holding.visibility_seconds + 1)
    assert len(hand.receive()) == 1


def test_an_extension_that_fails_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    hand = Hand()
    with monkeypatch.context() as outage:
        hand.break_queue(outage, "extend")
        hand.pass_time(70)
    hand.pass_time(100)
    assert hand.receive() == []


LETTING_GO: dict[str, Callable[[Hand], object]] = {
    "delete": lambda hand: hand.holding.delete(hand.held),
    "reject": lambda hand: hand.holding.reject(hand.held, "invalid_job", "why"),
    "give_back": lambda hand: hand.holding.give_back(hand.held),
    "replace": lambda hand: hand.holding.replace(hand.held),
}


@pytest.mark.parametrize("first", LETTING_GO)
@pytest.mark.parametrize("then", LETTING_GO)
def test_what_left_the_hand_is_not_touched_again(first: str, then: str) -> None:
    hand = Hand()
    LETTING_GO[first](hand)
    left = (hand.queue.bodies(), list(hand.queue.dead_letters))
    LETTING_GO[then](hand)
    assert (hand.queue.bodies(), hand.queue.dead_letters) == left
    assert hand.holding.all() == []
    hand.pass_time(60)
    assert (hand.queue.bodies(), hand.queue.dead_letters) == left


@pytest.mark.parametrize("act", ["delete", "reject", "give_back"])
@pytest.mark.parametrize("receives", [1, 2])
def test_letting_go_never_raises_and_what_could_not_be_let_go_comes_again(
    act: str, receives: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    hand = Hand(receives)
    with monkeypatch.context() as outage:
        hand.break_queue(outage, "send", "delete", "extend", "reject")
        LETTING_GO[act](hand)
    assert hand.holding.all() == []
    hand.clock.advance(hand.holding.visibility_seconds + 1)
    assert [message.body for message in hand.receive()] == ["old"]


@pytest.mark.parametrize("receives", [2, 3])
def test_what_is_given_back_often_begins_to_count_anew_unless_it_is_at_fault(receives: int) -> None:
    hand = Hand(receives)
    hand.holding.give_back(hand.held, 15)
    assert hand.receive() == []
    hand.clock.advance(15)
    [again] = hand.receive()
    assert (again.body, again.receive_count, again.group) == ("old", 1, "acme")
    hand = Hand(receives)
    hand.holding.give_back(hand.held, at_fault=True)
    assert [message.receive_count for message in hand.receive()] == ([3] if receives == 2 else [])


def test_a_replacement_is_seen_after_its_delay() -> None:
    hand = Hand()
    assert hand.holding.replace(hand.held, 86)
    assert hand.queue.bodies() == ["fresh"]
    assert hand.receive() == []
    hand.clock.advance(86)
    assert len(hand.receive()) == 1


def test_what_cannot_be_replaced_stays_in_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    hand = Hand()
    with monkeypatch.context() as outage:
        hand.break_queue(outage, "send")
        assert not hand.holding.replace(hand.held)
    hand.pass_time(600)
    assert (hand.receive(), hand.queue.bodies()) == ([], ["old"])


def test_a_session_at_rest_needs_no_new_message() -> None:
    """One that carried a token of where it stopped would have it go on, as if its user had said so."""
    hand = Hand()
    hand.fresh = None
    assert not hand.holding.replace(hand.held)
    assert hand.queue.bodies() == ["old"]
    assert hand.holding.all() == [hand.held]


def test_a_message_is_replaced_before_the_queue_would_take_it_away() -> None:
    hand = Hand()
    hand.pass_time(MAX_HOLD_SECONDS)
    assert hand.queue.bodies() == ["old"]
    hand.pass_time(60)
    assert hand.queue.bodies() == ["fresh"]
    assert hand.holding.all() == []
