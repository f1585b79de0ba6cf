"""Messages in hand. While this process lives they stay invisible to others; each is let go in one of three ways."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from fargate_worker.reading import Work
from turnkeeper.core.errors import TurnkeeperError
from turnkeeper.ports import Message, Queue

logger = logging.getLogger(__name__)

#: The queue gives a message out this often; the next time it is a dead letter.
MAX_RECEIVES = 3
#: SQS lets a message be held 12 hours from its receive. Before that, a new one takes its place.
LONGEST_HOLD_SECONDS = 11 * 3600.0


@dataclass(eq=False)
class Held:
    """One message in hand."""

    message: Message
    since: float = field(default_factory=time.monotonic)
    extended_at: float = field(default_factory=time.monotonic)
    #: Known once it was read.
    work: Work | None = None


class Holding:
    """Keeps what is in hand invisible from a thread of its own, and lets go of it.

    The visibility is longer than a lease: when a runner died, the lease has ended by the time that its message is seen
    again. It is extended here and not by the lease's heartbeat, so that what waits without a lease is kept as well.
    """

    def __init__(self, queue: Queue, *, lease_seconds: float, fresh_body: Callable[[Work], str]) -> None:
        self.visibility_seconds = min(int(lease_seconds * 4 / 3) + 6, 43_200)
        self._queue = queue
        self._fresh_body = fresh_body
        self._held: set[Held] = set()
        self._lock = threading.Lock()
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._keep, name="holding", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        self._closed.set()

    def take(self, message: Message) -> Held:
        held = Held(message)
        with self._lock:
            self._held.add(held)
        return held

    def all(self) -> list[Held]:
        with self._lock:
            return list(self._held)

    # ---- letting go ----

    def delete(self, held: Held) -> None:
        """Its session is at rest, or a later message carries it on. Where the queue cannot be reached it comes again,
        and is found to be done."""
        self._drop(held)
        self._try("deleted", held, lambda: self._queue.delete(held.message))

    def reject(self, held: Held, error_code: str, detail: str) -> None:
        self._drop(held)
        logger.warning("message %s is rejected: %s: %s", held.message.message_id, error_code, detail)
        self._try(
            "rejected", held, lambda: self._queue.reject(held.message, error_code=error_code, detail=detail[:1000])
        )

    def give_back(self, held: Held, delay_seconds: int = 0, *, innocent: bool = True) -> None:
        """Others may have it, after a while. One that can do nothing for it (``innocent``) and was given out often is
        sent anew instead, so that drains and outages never make it a dead letter."""
        self._drop(held)
        message = held.message
        if innocent and message.receive_count >= MAX_RECEIVES - 1:
            self._try("sent anew", held, lambda: self._send_anew(held, message.body, delay_seconds))
        else:
            self._try("given back", held, lambda: self._queue.extend(message, delay_seconds))

    def start_over(self, held: Held) -> None:
        """The runners before died with it, which is no fault of the message: a new one takes its place, seen again when
        this one would have been. A session that is itself what kills them is ended by its own count."""
        self._drop(held)
        body = self._fresh_body(held.work) if held.work is not None else held.message.body
        self._try("started over", held, lambda: self._send_anew(held, body, min(self.visibility_seconds, 900)))

    def _send_anew(self, held: Held, body: str, delay_seconds: int = 0) -> None:
        """Sent before it is deleted: a crash in between doubles it, and a double does no harm."""
        group = held.message.group or (held.work.tenant_id if held.work else "unknown")
        self._queue.send(body, group=group, delay_seconds=delay_seconds)
        self._queue.delete(held.message)

    def _drop(self, held: Held) -> None:
        with self._lock:
            self._held.discard(held)

    def _try(self, what: str, held: Held, act: Callable[[], object]) -> None:
        try:
            act()
        except Exception as error:  # noqa: BLE001 - then its visibility ends by itself, and it comes again
            logger.warning("message %s could not be %s: %s", held.message.message_id, what, error)

    # ---- keeping ----

    def _keep(self) -> None:
        while not self._closed.wait(min(1.0, self.visibility_seconds / 10)):
            for held in self.all():
                now = time.monotonic()
                if now - held.extended_at >= self.visibility_seconds / 3:
                    self._extend(held, now)

    def _extend(self, held: Held, now: float) -> None:
        try:
            if now - held.since > LONGEST_HOLD_SECONDS and held.work is not None:
                # It carries the session on from here; whoever receives it finds the lease and follows.
                self._send_anew(held, self._fresh_body(held.work))
                self._drop(held)
                return
            self._queue.extend(held.message, self.visibility_seconds)
            held.extended_at = now
        except TurnkeeperError as error:
            logger.warning("message %s could not be extended: %s", held.message.message_id, error)
        except Exception:
            logger.exception("message %s could not be extended", held.message.message_id)
