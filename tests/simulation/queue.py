"""The queue as the simulated world has it: sends get lost or doubled, and every call may fail."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import TYPE_CHECKING

from fargate_worker.holding import MAX_RECEIVES
from tests.simulation.custody import Custody
from tests.support.scheduler import ScheduledClock, Task
from turnkeeper.core.errors import Unavailable
from turnkeeper.ports import Message
from turnkeeper.testing.memory_queue import DeadLetter, MemoryQueue

if TYPE_CHECKING:
    from tests.simulation.world import Simulation


class SimulatedQueue:
    """A :class:`turnkeeper.ports.Queue`."""

    def __init__(self, simulation: Simulation) -> None:
        self._scheduler = simulation.scheduler
        self._custody = Custody(simulation)
        self.session_taken_over = self._custody.session_taken_over
        self.process_ends = self._custody.process_ends
        self.clock = ScheduledClock(self._scheduler, exact=True)
        self._memory = MemoryQueue(self.clock, max_receive_count=MAX_RECEIVES, order=Random(simulation.seed + 1))
        self._polls: list[Task] = []
        #: What the workers keep a message invisible with; anything else gives it back.
        self._visibility_seconds = 0
        #: Sessions a request for which the queue took and lost.
        self._lost: set[str] = set()
        self._letters_seen = 0

    # ---- the port ----

    def send(self, body: str, *, group: str, delay_seconds: int = 0) -> None:
        copies = self._scheduler.random.choices([0, 1, 2], [0.03, 0.9, 0.07])[0]
        if not copies and (work := self._custody.read(body)) is not None:
            self._lost.add(work.session_id)
        self._send(body, group, delay_seconds, copies)

    def send_safely(self, body: str, *, group: str) -> None:
        """As a client sends a job: where the queue takes it, it is there, once or twice."""
        self._send(body, group, 0, self._scheduler.random.choice([1, 1, 1, 2]))

    def _send(self, body: str, group: str, delay_seconds: int, copies: int) -> None:
        def send() -> None:
            for _ in range(copies):
                self._memory.send(body, group=group, delay_seconds=delay_seconds)
            self._wake_polls()

        self._call("send", send, body=body)

    def receive(self, *, most: int, wait_seconds: int, visibility_seconds: int) -> list[Message]:
        self._visibility_seconds = visibility_seconds
        self._scheduler.effect("before receive")
        messages = self._poll(most, self._scheduler.now + wait_seconds)
        for letter in self.dead_letters[self._letters_seen :]:
            if letter.error_code is None:
                self._custody.used_up(letter)
        self._letters_seen = len(self.dead_letters)
        assert self._scheduler.current is not None
        for message in messages:
            self._custody.received(message, self._scheduler.current.process)
        self._scheduler.effect(f"received {[message.message_id for message in messages]}")
        return messages

    def _poll(self, most: int, until: float) -> list[Message]:
        task = self._scheduler.current
        assert task is not None
        while True:
            messages = self._memory.receive(most=most, wait_seconds=0, visibility_seconds=self._visibility_seconds)
            now = self._scheduler.now
            if messages or now >= until:
                return messages
            self._polls.append(task)
            try:
                self._scheduler.nap(min(until, now + max(self.seconds_until_visible(), 0.01)))
            finally:
                self._polls.remove(task)

    def extend(self, message: Message, visibility_seconds: int) -> None:
        def extend() -> None:
            self._memory.extend(message, visibility_seconds)
            if visibility_seconds != self._visibility_seconds:
                self._custody.let_go(message)
                self._wake_polls()

        self._call(f"extend {message.message_id} {visibility_seconds}", extend, message)

    def delete(self, message: Message) -> None:
        def delete() -> None:
            self._memory.delete(message)
            self._custody.deleted(message, self.bodies(), self._lost)
            self._custody.let_go(message)

        self._call(f"delete {message.message_id}", delete, message)

    def reject(self, message: Message, *, error_code: str, detail: str) -> None:
        def reject() -> None:
            self._memory.reject(message, error_code=error_code, detail=detail)
            self._custody.let_go(message)

        self._call(f"reject {message.message_id} {error_code}", reject, message)

    def backlog(self) -> int:
        return self._memory.backlog()

    def _call(
        self, what: str, act: Callable[[], None], message: Message | None = None, body: str | None = None
    ) -> None:
        """A call that may fail before it is done, or after."""
        scheduler = self._scheduler
        scheduler.effect(f"before {what}")
        refused = scheduler.random.random() < scheduler.faults.refused
        if not refused:
            act()
            scheduler.effect(f"after {what}")
        if refused or scheduler.random.random() < scheduler.faults.lost_answer:
            self._custody.call_failed(message=message, body=body)
            raise Unavailable("simulated")

    def _wake_polls(self) -> None:
        for task in self._polls:
            self._scheduler.wake(task)

    # ---- seen from outside ----

    def bodies(self) -> list[str]:
        """What is on the queue, visible or not."""
        return self._memory.bodies()

    @property
    def dead_letters(self) -> list[DeadLetter]:
        return self._memory.dead_letters

    def seconds_until_visible(self) -> float:
        """Until the next message can be received; 0 or less where there is one now."""
        at = self._memory.next_visible_at()
        return 1e9 if at is None else (at - self.clock.now()).total_seconds()

    def redrive_used_up(self) -> int:
        """As an operator does: messages that runners took along when they died get another chance. How many."""
        letters = self.dead_letters
        used_up = [letter for letter in letters if letter.error_code is None]
        letters[:] = [letter for letter in letters if letter.error_code is not None]
        for letter in used_up:
            self._memory.send(letter.body, group=letter.group or "")
        self._letters_seen = len(letters)
        return len(used_up)
