"""Messages in hand: what was received from the queue and is not yet done with.

While this process lives they stay invisible to others. Each leaves the hand in one of four ways: it is deleted,
rejected as a dead letter, given back to the queue, or replaced by a new message.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass

from fargate_worker.reading import Work
from turnkeeper.core.errors import TurnkeeperError
from turnkeeper.ports import Clock, Message, Queue

logger = logging.getLogger(__name__)

#: The queue gives a message out this often; the next time it is a dead letter.
MAX_RECEIVES = 3
#: SQS lets a message be held 12 hours from its receive. Before that, a new one takes its place.
MAX_HOLD_SECONDS = 11 * 3600.0
#: SQS delays a message by this at most.
MAX_DELAY_SECONDS = 900


@dataclass(eq=False)
class Held:
    """One message in hand; times are those of the monotonic clock."""

    message: Message
    since: float
    extended_at: float
    #: The session that it is for, once that was read.
    work: Work | None = None


class Holding:
    """Keeps what is in hand invisible, and lets go of it.

    The visibility is longer than a lease: when a runner died, the lease has ended by the time that its message is seen
    again. It is extended here and not by the lease's heartbeat, so that what waits without a lease is kept as well.

    Letting go of a message never raises. Where the queue is out of reach, its visibility ends by itself and it comes
    again. Letting go of what is not in hand any more does nothing.
    """

    def __init__(
        self, queue: Queue, clock: Clock, *, lease_seconds: float, fresh_body: Callable[[Work], str | None]
    ) -> None:
        """``fresh_body`` writes a message that carries on the session from where it is now; ``None`` where it rests."""
        self.visibility_seconds = min(int(lease_seconds * 4 / 3) + 6, 43_200)
        #: ``keep`` has to be called this often.
        self.keep_seconds = min(1.0, self.visibility_seconds / 10)
        self._queue = queue
        self._clock = clock
        self._fresh_body = fresh_body
        #: By receipt, in the order in which they were received.
        self._held: dict[str, Held] = {}
        self._lock = threading.Lock()

    def take(self, message: Message) -> Held:
        now = self._clock.monotonic()
        held = Held(message, since=now, extended_at=now)
        with self._lock:
            self._held[message.receipt] = held
        return held

    def all(self) -> list[Held]:
        with self._lock:
            return list(self._held.values())

    # ---- letting go ----

    def delete(self, held: Held) -> None:
        """Its session is at rest, or another message carries it on."""
        if self._drop(held):
            self._try("deleted", held, lambda: self._queue.delete(held.message))

    def reject(self, held: Held, error_code: str, detail: str) -> None:
        """It cannot be worked on, now or later."""
        if self._drop(held):
            logger.warning("message %s is rejected: %s: %s", held.message.message_id, error_code, detail)
            self._try(
                "rejected", held, lambda: self._queue.reject(held.message, error_code=error_code, detail=detail[:1000])
            )

    def give_back(self, held: Held, delay_seconds: int = 0, *, at_fault: bool = False) -> None:
        """Others may have it, after a while. Where the message is not ``at_fault`` and was given out almost as often as
        the queue allows, the same is sent as a new message, so that drains and outages never make a dead letter of
        it."""
        if not self._drop(held):
            return
        if held.message.receive_count >= MAX_RECEIVES - 1 and not at_fault:
            self._try("sent anew", held, lambda: self._send_anew(held, held.message.body, delay_seconds))
        else:
            self._try("given back", held, lambda: self._queue.extend(held.message, delay_seconds))

    def replace(self, held: Held, delay_seconds: int = 0) -> bool:
        """A new message, seen after a while, carries its session on from here. Where that one cannot be sent, or has
        nothing to carry on, this one stays in hand; whether it was replaced."""
        assert held.work is not None
        if held not in self.all():
            return False
        try:
            if (body := self._fresh_body(held.work)) is None:
                return False
            self._send_anew(held, body, min(delay_seconds, MAX_DELAY_SECONDS))
        except TurnkeeperError as error:
            logger.warning("message %s could not be replaced: %s", held.message.message_id, error)
            return False
        return self._drop(held)

    def _send_anew(self, held: Held, body: str, delay_seconds: int) -> None:
        """Sent before the old one is deleted: a crash in between doubles it, and a double does no harm."""
        group = held.message.group or (held.work.tenant_id if held.work else "unknown")
        self._queue.send(body, group=group, delay_seconds=delay_seconds)
        self._try("deleted", held, lambda: self._queue.delete(held.message))

    def _drop(self, held: Held) -> bool:
        """Whether it was in hand."""
        with self._lock:
            return self._held.pop(held.message.receipt, None) is not None

    def _try(self, what: str, held: Held, act: Callable[[], object]) -> None:
        try:
            act()
        except Exception as error:  # noqa: BLE001 - then its visibility ends by itself, and it comes again
            logger.warning("message %s could not be %s: %s", held.message.message_id, what, error)

    # ---- keeping ----

    def keep(self) -> None:
        """Extend the visibility of what is in hand, where it is time to. Never raises."""
        for held in self.all():
            if self._clock.monotonic() - held.extended_at >= self.visibility_seconds / 3:
                try:
                    self._extend(held)
                except TurnkeeperError as error:
                    logger.warning("message %s could not be extended: %s", held.message.message_id, error)
                except Exception:
                    logger.exception("message %s could not be extended", held.message.message_id)

    def _extend(self, held: Held) -> None:
        now = self._clock.monotonic()
        if now - held.since > MAX_HOLD_SECONDS and held.work is not None and self.replace(held):
            return  # Whoever receives the new one finds that the session runs here, and follows it.
        self._queue.extend(held.message, self.visibility_seconds)
        held.extended_at = now
