"""Takes messages off the queue and has their sessions carried on, many beside each other, until it is told to stop.

What is done with a message is decided in ``carrying``, ``holding`` and ``following``; here are the slots, and the
threads that drive the others.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from fargate_worker.announcing import LOOK_SECONDS, Announcing
from fargate_worker.carrying import RETRY_SECONDS, Carrier
from fargate_worker.following import Followers
from fargate_worker.holding import Held, Holding
from fargate_worker.reading import Reader, Work
from fargate_worker.stopping import Stopping
from fargate_worker.threads import Spawn, in_thread, repeated
from turnkeeper.core.continuation import continuation_of
from turnkeeper.ports import Clock, Message, Queue, Tokens, Wakes
from turnkeeper.runtime.engine import Engine
from turnkeeper.runtime.jobs import continue_body
from turnkeeper.runtime.store.sessions import Sessions
from turnkeeper.runtime.store.workers import Workers
from turnkeeper.runtime.world import Allowance

logger = logging.getLogger(__name__)

MAX_BACKOFF_SECONDS = 30.0
#: How long a task that was replaced waits for its sessions' next safe points: for longer than a model call takes.
RETIRE_SECONDS = 900.0
#: How often somebody who waits for something in this process looks again.
LOOK_AGAIN_SECONDS = 0.1


@dataclass(frozen=True, slots=True)
class Options:
    #: Which worker it is, for people: its task, or its process.
    name: str = ""
    concurrency: int = 16
    #: How many processes its task has, each with about as many slots.
    processes: int = 1
    lease_seconds: float = 60.0
    #: From the signal to the end of the process.
    stop_seconds: float = 110.0
    poll_seconds: int = 5
    #: How often a followed session is looked at.
    look_seconds: float = 2.0


@dataclass(eq=False)
class Running:
    """A slot that is taken."""

    held: Held
    since: float


class Worker:
    """One process's share of the queue.

    ``start`` it, ``stop`` it once, then ``drain`` it: that returns when nothing runs any more, or when it is time to
    go. Instead of starting it, a test may call its steps: ``receive``, ``holding.keep``, ``followers.look`` and
    ``announcing.look``.
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
        workers: Workers,
        wakes: Wakes | None = None,
        spawn: Spawn = in_thread,
    ) -> None:
        """``wakes``: who is asked for another worker before no slot is free any more; ``None``: nobody."""
        self.options = options
        self.stopping = Stopping(clock, options.stop_seconds)
        self.holding = Holding(
            queue,
            clock,
            lease_seconds=options.lease_seconds,
            fresh_body=self._fresh_body,
        )
        self.followers = Followers(sessions, self.holding, clock)
        self.announcing = Announcing(
            workers,
            clock,
            name=options.name,
            slots=options.concurrency,
            free=self._free_slots,
            wakes=wakes,
            processes=options.processes,
        )
        allowance = Allowance(
            runner="fargate",
            name=options.name,
            draining=lambda: self.stopping.draining,
            expired=lambda: self.stopping.expired,
        )
        self._carrier = Carrier(engine, reader, self.holding, self.followers, self.stopping, allowance)
        self._sessions = sessions
        self._queue = queue
        self._tokens = tokens
        self._clock = clock
        self._spawn = spawn
        self._lock = threading.Lock()
        self._running: set[Running] = set()
        self._done = 0
        self._receives = self._gone = False
        self._alive_at = clock.monotonic()

    # ---- from start to end ----

    def start(self) -> None:
        self._receives = True
        self.announcing.look()
        steps = (
            ("announcing", self.announcing.look, LOOK_SECONDS),
            ("holding", self.holding.keep, self.holding.keep_seconds),
            ("following", self.followers.look, self.options.look_seconds),
        )
        for name, step, seconds in steps:
            self._spawn(name, repeated(step, seconds=seconds, clock=self._clock, until=lambda: self._gone))
        self._spawn("receive", self._receive_loop)

    def stop(self) -> None:
        """Receive no more and bring what runs to the next safe point. May be called at any moment, and again."""
        self.stopping.begin()

    def retire(self) -> None:
        """Receive no more, and hand on what runs, because another task has taken the place of this one. Nobody waits
        for it: a model call that runs is given the time that one takes. ``stop`` may still cut that short."""
        self.stopping.begin(RETIRE_SECONDS)
        self.followers.close()

    def is_retired(self) -> bool:
        """Whether nothing is left to wait for, after ``retire``."""
        return self.draining and (self.running() == 0 or self.stopping.expired)

    def drain(self) -> bool:
        """After ``stop``: hand everything back. True where every session came to a safe point in time; where not, its
        message is visible and its lease will end."""
        assert self.stopping.draining
        self.announcing.look()  # that nothing is free here any more
        self.followers.close()
        self._wait_while(lambda: self.running() > 0, self.stopping.seconds_to_go())
        # A long poll that is still open may bring messages, which are given back at once.
        self._wait_while(lambda: self._receives, min(self.stopping.seconds_to_go(), self.options.poll_seconds + 1.0))
        left_over = self.holding.all()
        for held in left_over:
            self.holding.give_back(held)
        self._gone = True
        return not left_over

    def _wait_while(self, holds: Callable[[], bool], seconds: float) -> None:
        until = self._clock.monotonic() + seconds
        while holds() and (left := until - self._clock.monotonic()) > 0:
            self._clock.sleep(min(left, LOOK_AGAIN_SECONDS))

    @property
    def draining(self) -> bool:
        return self.stopping.draining

    # ---- for those who watch ----

    def quiet_seconds(self) -> float:
        """Since the receive loop last showed that it is alive; nothing is expected of it while draining."""
        return 0.0 if self.draining else self._clock.monotonic() - self._alive_at

    def running(self) -> int:
        with self._lock:
            return len(self._running)

    def _free_slots(self) -> int:
        return 0 if self.draining else max(0, self.options.concurrency - self.running())

    def status(self) -> dict[str, Any]:
        now = self._clock.monotonic()
        with self._lock:
            running = sorted(self._running, key=lambda one: one.since)
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
                for one in running
            ],
            "following": len(self.followers),
            "done": done,
            "quiet_seconds": round(self.quiet_seconds(), 1),
        }

    def _fresh_body(self, work: Work) -> str | None:
        head = self._sessions.head(work.tenant_id, work.session_id)
        # A token of where a session stopped is the user's word that it shall go on, which nobody has given here.
        return None if head.resting else continue_body(self._tokens.sign(continuation_of(head)))

    # ---- receiving ----

    def receive(self) -> None:
        """Fill the slots that are free: with followed sessions that can be run now, then from the queue. Waits for
        messages as long as a poll does.

        Raises:
            TurnkeeperError: the queue cannot be reached.
        """
        while self.running() < self.options.concurrency and (follower := self.followers.next_ready()) is not None:
            self._begin(follower.held)
        free = self.options.concurrency - self.running()
        if free <= 0:
            self._clock.sleep(LOOK_AGAIN_SECONDS)
            return
        # What is followed waits for a slot too, and a poll keeps all that are free.
        wait = min(2, self.options.poll_seconds) if len(self.followers) else self.options.poll_seconds
        messages = self._queue.receive(
            most=min(free, 10), wait_seconds=wait, visibility_seconds=self.holding.visibility_seconds
        )
        for message in messages:
            self._take(message)

    def _take(self, message: Message) -> None:
        held = self.holding.take(message)
        if self.draining:
            self.holding.give_back(held)
        else:
            self._begin(held)

    def _receive_loop(self) -> None:
        failures = 0
        while not self.draining:
            self._alive_at = self._clock.monotonic()
            try:
                self.receive()
                failures = 0
            except Exception as error:  # noqa: BLE001 - the loop outlives everything but the process
                failures += 1
                pause = min(0.5 * 2 ** min(failures, 10), MAX_BACKOFF_SECONDS)
                logger.warning("nothing could be received, again in %.0f s: %s: %s", pause, type(error).__name__, error)
                self._wait_while(lambda: not self.draining, pause)
        self._receives = False

    # ---- slots ----

    def _begin(self, held: Held) -> None:
        running = Running(held, self._clock.monotonic())
        with self._lock:
            self._running.add(running)

        def run() -> None:
            try:
                self._carrier.carry_on(held)
            finally:
                self._end(running)

        try:
            self._spawn(held.message.message_id, run)
        except RuntimeError:  # No more threads to be had.
            self._end(running)
            self.holding.give_back(held, RETRY_SECONDS)

    def _end(self, running: Running) -> None:
        with self._lock:
            self._running.discard(running)
            self._done += 1
