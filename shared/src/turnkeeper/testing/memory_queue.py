"""The queue in memory: visibility, receive counts and dead letters by a clock that a test may hold."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from datetime import UTC, datetime
from random import Random

from turnkeeper.adapters.system import SystemClock
from turnkeeper.core.errors import InputTooLarge
from turnkeeper.ports import Clock, Message

MAX_MESSAGE_BYTES = 1024 * 1024
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class DeadLetter:
    message_id: str
    body: str
    group: str | None
    #: ``None`` where the queue itself moved it, after too many receives.
    error_code: str | None = None
    detail: str | None = None


@dataclass(slots=True)
class _Held:
    message_id: str
    body: str
    group: str
    visible_at: float
    receive_count: int = 0
    receipt: str | None = None


@dataclass
class MemoryQueue:
    """A :class:`turnkeeper.ports.Queue` in memory. A message received ``max_receive_count`` times goes to
    ``dead_letters`` instead of being received once more. With ``order`` messages come in an order of its choice."""

    clock: Clock = field(default_factory=SystemClock)
    max_receive_count: int = 3
    order: Random | None = None
    #: How often a receive that waits looks again.
    poll_seconds: float = 0.05
    dead_letters: list[DeadLetter] = field(default_factory=list)
    _held: dict[str, _Held] = field(default_factory=dict)
    _made: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def send(self, body: str, *, group: str, delay_seconds: int = 0) -> None:
        if len(body.encode()) > MAX_MESSAGE_BYTES:
            raise InputTooLarge("A job is at most 1 MiB.", limit_bytes=MAX_MESSAGE_BYTES)
        with self._lock:
            self._made += 1
            message_id = f"message-{self._made}"
            self._held[message_id] = _Held(message_id, body, group, visible_at=self._now() + delay_seconds)

    def receive(self, *, most: int, wait_seconds: int, visibility_seconds: int) -> list[Message]:
        until = self._now() + wait_seconds
        while True:
            with self._lock:
                messages = self._take(min(most, 10), visibility_seconds)
            left = until - self._now()
            if messages or left <= 0:
                return messages
            self.clock.sleep(min(self.poll_seconds, left))

    def extend(self, message: Message, visibility_seconds: int) -> None:
        with self._lock:
            if held := self._in_flight(message):
                held.visible_at = self._now() + visibility_seconds

    def delete(self, message: Message) -> None:
        with self._lock:
            # Only the latest receipt counts, as SQS does not promise more.
            held = self._held.get(message.message_id)
            if held and held.receipt == message.receipt:
                del self._held[message.message_id]

    def reject(self, message: Message, *, error_code: str, detail: str) -> None:
        with self._lock:
            self.dead_letters.append(DeadLetter(message.message_id, message.body, message.group, error_code, detail))
        self.delete(message)

    def backlog(self) -> int:
        with self._lock:
            now = self._now()
            return sum(held.visible_at <= now or held.receive_count > 0 for held in self._held.values())

    def redrive(self) -> int:
        """All dead letters back to the queue; how many."""
        with self._lock:
            letters = list(self.dead_letters)
            self.dead_letters.clear()
        for letter in letters:
            self.send(letter.body, group=letter.group or "")
        return len(letters)

    def bodies(self) -> list[str]:
        """What is on the queue, visible or not."""
        with self._lock:
            return [held.body for held in self._held.values()]

    def next_visible_at(self) -> datetime | None:
        """When the next message can be received: for a simulation that skips the time in which nothing happens."""
        with self._lock:
            times = [held.visible_at for held in self._held.values()]
        return datetime.fromtimestamp(min(times), UTC) if times else None

    # ---- inside the lock ----

    def _take(self, most: int, visibility_seconds: int) -> list[Message]:
        now = self._now()
        visible = [held for held in self._held.values() if held.visible_at <= now]
        if self.order:
            self.order.shuffle(visible)
        messages: list[Message] = []
        for held in visible:
            if len(messages) == most:
                break
            if held.receive_count >= self.max_receive_count:
                del self._held[held.message_id]
                self.dead_letters.append(DeadLetter(held.message_id, held.body, held.group))
                continue
            held.receive_count += 1
            held.receipt = f"{held.message_id}/{held.receive_count}"
            held.visible_at = now + visibility_seconds
            messages.append(Message(held.message_id, held.receipt, held.body, held.receive_count, held.group))
        return messages

    def _in_flight(self, message: Message) -> _Held | None:
        held = self._held.get(message.message_id)
        return held if held and held.receipt == message.receipt and held.visible_at > self._now() else None

    def _now(self) -> float:
        # Wall time, not monotonic: a simulation asks when the next message is due.
        return (self.clock.now() - _EPOCH).total_seconds()


class MemoryWords(MemoryQueue):
    """A :class:`turnkeeper.ports.Words` that what was told can be received from again."""

    def tell(self, body: str, *, group: str, delay_seconds: int = 0) -> None:
        self.send(body, group=group, delay_seconds=delay_seconds)
