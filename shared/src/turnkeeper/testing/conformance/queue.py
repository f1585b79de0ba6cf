"""What a queue promises. The queue starts empty, its messages go to the dead letters after three receives."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

from turnkeeper.core.errors import InputTooLarge
from turnkeeper.ports import Message, Queue
from turnkeeper.testing.conformance._help import eventually, fails


class QueueConformance:
    queue: Queue
    #: How long a look at an empty queue takes: SQS itself needs a long poll to find all there is.
    wait_seconds = 1
    #: Lets time pass: sleeps, or moves a manual clock.
    sleep: Callable[[float], None]
    #: The dead letters that nobody took yet, as (body, error code or None).
    dead_letters: Callable[[], Sequence[tuple[str, str | None]]]
    #: Gives the dead letters back to the queue.
    redrive: Callable[[], int]

    def take(self, most: int = 1, visibility_seconds: int = 30) -> list[Message]:
        return self.queue.receive(most=most, wait_seconds=self.wait_seconds, visibility_seconds=visibility_seconds)

    def take_one(self, visibility_seconds: int = 30) -> Message:
        (message,) = self.take(visibility_seconds=visibility_seconds)
        return message

    def test_a_message_comes_back_as_it_was_sent(self) -> None:
        body = '{"text": "Grüße \\u0000 🙂"}\n'
        self.queue.send(body, group="acme")
        message = self.take_one()
        assert (message.body, message.group, message.receive_count) == (body, "acme", 1)

    def test_an_empty_queue_gives_nothing(self) -> None:
        assert self.take() == []
        assert self.queue.receive(most=10, wait_seconds=0, visibility_seconds=30) == []

    def test_a_deleted_message_does_not_come_again(self) -> None:
        self.queue.send("a", group="g")
        message = self.take_one(visibility_seconds=1)
        self.queue.delete(message)
        self.queue.delete(message)
        self.sleep(1.2)
        assert self.take() == []

    def test_a_message_that_is_not_deleted_comes_again(self) -> None:
        self.queue.send("a", group="g")
        first = self.take_one(visibility_seconds=1 + self.wait_seconds)
        assert self.take() == []
        self.sleep(1.2)
        second = self.take_one()
        assert (second.message_id, second.receive_count) == (first.message_id, 2)

    def test_an_extended_message_stays_away(self) -> None:
        self.queue.send("a", group="g")
        message = self.take_one(visibility_seconds=1)
        self.queue.extend(message, 60)
        self.sleep(1.2)
        assert self.take() == []
        self.queue.extend(message, 0)
        assert self.take_one().receive_count == 2

    def test_a_message_that_is_gone_is_no_error(self) -> None:
        self.queue.send("a", group="g")
        message = self.take_one()
        self.queue.delete(message)
        self.queue.extend(message, 10)
        self.queue.extend(message, 0)
        self.queue.delete(message)
        assert self.take() == []

    def test_many_are_received_at_most_ten_at_a_time(self) -> None:
        for n in range(12):
            self.queue.send(str(n), group=f"g{n % 3}")
        seen: list[str] = []
        while found := self.take(most=50):
            assert len(found) <= 10
            seen.extend(message.body for message in found)
        assert sorted(seen, key=int) == [str(n) for n in range(12)]

    def test_a_delayed_message_comes_later(self) -> None:
        self.queue.send("a", group="g", delay_seconds=1 + self.wait_seconds)
        assert self.take() == []
        self.sleep(1.2)
        assert self.take_one().body == "a"

    def test_the_backlog_is_what_waits_and_what_is_in_hand(self) -> None:
        assert self.queue.backlog() == 0
        for n in range(3):
            self.queue.send(str(n), group="g")
        self.queue.send("later", group="g", delay_seconds=900)
        eventually(self.queue.backlog, 3)
        taken = self.take_one()
        assert self.queue.backlog() == 3
        self.queue.delete(taken)
        eventually(self.queue.backlog, 2)

    def test_any_tenant_can_be_a_group(self) -> None:
        for group in ("with space", "ü", "x" * 200, "a/b:c@d"):
            self.queue.send(group, group=group)
        bodies = {message.body for _ in range(4) for message in self.take(most=10)}
        assert bodies == {"with space", "ü", "x" * 200, "a/b:c@d"}

    def test_a_body_has_a_limit(self) -> None:
        self.queue.send("x" * 1_048_576, group="g")
        assert len(self.take_one().body) == 1_048_576
        error = fails(InputTooLarge, lambda: self.queue.send("ü" * 600_000, group="g"))
        assert error.data["limit_bytes"] == 1_048_576

    def test_a_rejected_message_is_a_dead_letter_with_its_reason(self) -> None:
        self.queue.send("bad", group="g")
        message = self.take_one(visibility_seconds=1)
        self.queue.reject(message, error_code="unknown_schema", detail="two\nlines \u0001 " + "x" * 5000)
        assert list(self.dead_letters()) == [("bad", "unknown_schema")]
        self.sleep(1.2)
        assert self.take() == []

    def test_a_message_received_too_often_is_a_dead_letter(self) -> None:
        self.queue.send("poison", group="g")
        for count in range(1, 4):
            message = self.take_one()
            assert message.receive_count == count
            self.queue.extend(message, 0)
        assert self.take() == []
        expected: list[tuple[str, str | None]] = [("poison", None)]
        eventually(lambda: list(self.dead_letters()), expected)

    def test_dead_letters_go_back_as_they_were(self) -> None:
        for n in range(12):
            self.queue.send(f"body {n}", group="g")
        messages: list[Message] = []
        while found := self.take(most=10):
            messages.extend(found)
        for message in messages:
            self.queue.reject(message, error_code="c", detail="d")
        # A message sent in the millisecond of the redrive may count as one that failed again.
        self.sleep(0.01)
        assert self.redrive() == 12
        assert list(self.dead_letters()) == []
        again: list[Message] = []
        while found := self.take(most=10):
            again.extend(found)
        assert sorted(message.body for message in again) == sorted(f"body {n}" for n in range(12))
        assert {(message.group, message.receive_count) for message in again} == {("g", 1)}

    def test_no_message_is_given_to_two(self) -> None:
        bodies = {str(n) for n in range(40)}
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda body: self.queue.send(body, group="g"), bodies))
            takes = list(pool.map(lambda _: self.take(most=3), range(24)))
        seen = [message.body for found in takes for message in found]
        assert sorted(seen) == sorted(bodies)
