"""Takes messages off the queue and runs their sessions, each in a thread of its own, until it is told to stop."""

from __future__ import annotations

import logging
import threading
import time
from dataclasses import dataclass, field
from typing import Any

from fargate_worker.following import Followers
from fargate_worker.holding import MAX_RECEIVES, Held, Holding
from fargate_worker.reading import Reader, Rejected, Work
from turnkeeper.core.continuation import continuation_of
from turnkeeper.core.errors import LeaseLost, SessionBusy, SessionEnded, SessionNotFound, Unavailable
from turnkeeper.ports import Clock, Message, Queue, StoreBusy, Tokens
from turnkeeper.runtime.engine import Engine
from turnkeeper.runtime.jobs import continue_body
from turnkeeper.runtime.store.sessions import Sessions
from turnkeeper.runtime.world import Allowance

logger = logging.getLogger(__name__)

#: A message that cannot be worked on now is seen again after this long.
RETRY_SECONDS = 15
FAILED_SECONDS = 30
LONGEST_BACKOFF_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class Options:
    concurrency: int = 16
    lease_seconds: float = 60.0
    #: From the signal to the end of the process.
    stop_seconds: float = 110.0
    poll_seconds: int = 5
    #: How often a followed session is looked at.
    look_seconds: float = 2.0

    @property
    def expire_seconds(self) -> float:
        """From the signal until what runs is not waited for any more; what is left is for writing that down."""
        return self.stop_seconds - min(10.0, 0.3 * self.stop_seconds)

    @property
    def leave_seconds(self) -> float:
        """From the signal until the process goes, whatever still hangs."""
        return self.stop_seconds - min(2.0, 0.1 * self.stop_seconds)


@dataclass(eq=False)
class Running:
    """A slot that is taken."""

    held: Held
    since: float = field(default_factory=time.monotonic)


class Worker:
    """One process's share of the queue.

    ``start`` it, ``stop`` it once, then ``drain`` it: that returns when nothing runs any more, or when it is time to
    go.
    """

    def __init__(
        self,
        *,
        engine: Engine,
        reader: Reader,
        sessions: Sessions,
        queue: Queue,
        tokens: Tokens,
        clock: Clock,
        options: Options,
    ) -> None:
        self.options = options
        self._engine = engine
        self._reader = reader
        self._queue = queue
        self._holding = Holding(
            queue,
            lease_seconds=options.lease_seconds,
            fresh_body=lambda work: continue_body(
                tokens.sign(continuation_of(sessions.head(work.tenant_id, work.session_id)))
            ),
        )
        self._followers = Followers(sessions, self._holding, clock, look_seconds=options.look_seconds)
        self._allowance = Allowance(runner="fargate", draining=lambda: self.draining, expired=lambda: self.expired)
        self._running: set[Running] = set()
        self._changed = threading.Condition()
        self._stopped_at: float | None = None
        self._alive_at = time.monotonic()
        self._done = 0
        self._loop = threading.Thread(target=self._receive_loop, name="receive", daemon=True)

    # ---- from start to end ----

    def start(self) -> None:
        self._holding.start()
        self._followers.start()
        self._loop.start()

    def stop(self) -> None:
        """Receive no more and bring what runs to the next safe point. Only takes note, so that a signal's handler may
        call it at any moment, and again."""
        if self._stopped_at is None:
            self._stopped_at = time.monotonic()

    def drain(self) -> bool:
        """After ``stop``: hand everything back. True where every session came to a safe point in time; where not, its
        message is visible and its lease will end."""
        assert self._stopped_at is not None
        self._followers.close()
        leave_at = self._stopped_at + self.options.leave_seconds
        with self._changed:
            while self._running and (left := leave_at - time.monotonic()) > 0:
                self._changed.wait(min(left, 0.5))
        # A long poll that is still open may bring messages, which are given back at once.
        self._loop.join(max(0.0, min(leave_at - time.monotonic(), self.options.poll_seconds + 1.0)))
        self._holding.close()
        left_over = self._holding.all()
        for held in left_over:
            self._holding.give_back(held)
        return not left_over

    @property
    def draining(self) -> bool:
        return self._stopped_at is not None

    @property
    def expired(self) -> bool:
        return self._stopped_at is not None and time.monotonic() - self._stopped_at > self.options.expire_seconds

    # ---- for those who watch ----

    def quiet_seconds(self) -> float:
        """Since the receive loop last showed that it is alive; nothing is expected of it while draining."""
        return 0.0 if self.draining else time.monotonic() - self._alive_at

    def running(self) -> int:
        with self._changed:
            return len(self._running)

    def status(self) -> dict[str, Any]:
        now = time.monotonic()
        with self._changed:
            running = list(self._running)
            done = self._done
        return {
            "status": "draining" if self.draining else "running",
            "concurrency": self.options.concurrency,
            "running": [
                {
                    "tenant_id": one.held.work.tenant_id if one.held.work else None,
                    "session_id": one.held.work.session_id if one.held.work else None,
                    "seconds": round(now - one.since, 1),
                }
                for one in sorted(running, key=lambda one: one.since)
            ],
            "following": len(self._followers),
            "done": done,
        }

    # ---- receiving ----

    def _receive_loop(self) -> None:
        failures = 0
        while not self.draining:
            self._alive_at = time.monotonic()
            try:
                self._receive_once()
                failures = 0
            except Exception as error:  # noqa: BLE001 - the loop outlives everything but the process
                failures += 1
                pause = min(0.5 * 2**failures, LONGEST_BACKOFF_SECONDS)
                logger.warning("nothing could be received, again in %.0f s: %s: %s", pause, type(error).__name__, error)
                self._pause(pause)

    def _receive_once(self) -> None:
        self._start_ready()
        free = self.options.concurrency - self.running()
        if free <= 0:
            with self._changed:
                self._changed.wait(0.5)
            return
        # Whoever follows waits for a slot too: a poll keeps all that are free.
        wait = min(2, self.options.poll_seconds) if len(self._followers) else self.options.poll_seconds
        messages = self._queue.receive(
            most=min(free, 10), wait_seconds=wait, visibility_seconds=self._holding.visibility_seconds
        )
        for message in messages:
            self._begin(message)

    def _begin(self, message: Message) -> None:
        held = self._holding.take(message)
        if self.draining:
            self._holding.give_back(held)
        else:
            self._start(held)

    def _start_ready(self) -> None:
        while self.running() < self.options.concurrency and (follower := self._followers.next_ready()) is not None:
            self._start(follower.held)

    def _start(self, held: Held) -> None:
        running = Running(held)
        with self._changed:
            self._running.add(running)
        try:
            threading.Thread(target=self._run, args=(running,), name=held.message.message_id, daemon=True).start()
        except RuntimeError:  # No more threads to be had.
            self._end(running)
            self._holding.give_back(held, RETRY_SECONDS)

    def _pause(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while not self.draining and time.monotonic() < until:
            self._alive_at = time.monotonic()
            time.sleep(0.1)

    # ---- one session ----

    def _run(self, running: Running) -> None:
        held = running.held
        try:
            self._carry_on(held)
        except (StoreBusy, Unavailable) as error:
            logger.warning("message %s is put back: %s", held.message.message_id, error)
            self._holding.give_back(held, RETRY_SECONDS)
        except Exception as error:
            logger.exception("message %s failed", held.message.message_id)
            if held.message.receive_count >= MAX_RECEIVES:
                self._holding.reject(held, "internal_error", type(error).__name__)
            else:
                self._holding.give_back(held, FAILED_SECONDS, innocent=False)
        finally:
            self._end(running)

    def _end(self, running: Running) -> None:
        with self._changed:
            self._running.discard(running)
            self._done += 1
            self._changed.notify_all()

    def _carry_on(self, held: Held) -> None:
        try:
            work = held.work = held.work or self._reader.read(held.message)
        except Rejected as rejected:
            self._holding.reject(held, rejected.error_code, rejected.detail)
            return
        if self.draining:
            self._holding.give_back(held)
            return
        if held.message.receive_count >= MAX_RECEIVES and self._reader.was_cut_off(work):
            self._holding.start_over(held)
        try:
            self._run_session(work)
        except SessionEnded:
            self._holding.delete(held)
        except SessionNotFound as error:
            self._holding.reject(held, error.code, error.detail)
        except (SessionBusy, LeaseLost):
            self._follow(held, work)
        else:
            # At rest, or handed off and sent: the new message carries it on. Where it was handed off and could not be
            # sent, the engine raised: then this message, given back, carries it on (docs/decisions/0010).
            self._holding.delete(held)

    def _run_session(self, work: Work) -> None:
        try:
            self._engine.run(work.tenant_id, work.session_id, self._allowance)
        except SessionEnded:
            # Looked at only here: in the common case it runs, and nothing more is read for that.
            if not self._reader.resume(work):
                raise
            self._engine.run(work.tenant_id, work.session_id, self._allowance)

    def _follow(self, held: Held, work: Work) -> None:
        if self.draining:
            self._holding.give_back(held)
        else:
            self._followers.follow(held, work)
