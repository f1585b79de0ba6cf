"""Messages whose session another runner has: duplicates, and what is left of a lost lease.

They take no slot and are not given back, which would count against them and make dead letters of them in the end. They
are kept until the session rests, or somebody else carries it on, or its runner turns out to be dead.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from fargate_worker.holding import Held, Holding
from fargate_worker.reading import Work
from turnkeeper.core.errors import SessionNotFound, TurnkeeperError
from turnkeeper.core.session import Head
from turnkeeper.ports import Clock
from turnkeeper.runtime.store.sessions import SKEW_MILLIS, Sessions

logger = logging.getLogger(__name__)

#: A session that was handed off is left to the message that was sent for it, for so long.
GRACE_SECONDS = 10.0
#: More than these are not kept: a sender gone mad must not fill the memory.
MOST = 500
CROWDED_SECONDS = 60

Outlook = Literal["over", "take", "wait"]


def outlook(head: Head, turn: int | None, fencing_token: int, now: datetime) -> Outlook:
    """What becomes of a message that follows ``fencing_token``'s runner."""
    if head.resting or (turn is not None and head.turn.number > turn):
        return "over"
    if head.lease.owner is None:
        if head.handoff is None:
            return "take"
        sent = datetime.fromisoformat(head.handoff.at)
        return "take" if now >= sent + timedelta(seconds=head.handoff.delay_seconds + GRACE_SECONDS) else "wait"
    if head.lease.expires_at + SKEW_MILLIS < now.timestamp() * 1000:
        return "take"
    # Who claimed it since has a message of its own, or the sweep behind it.
    return "over" if head.lease.fencing_token > fencing_token else "wait"


@dataclass(eq=False)
class Follower:
    held: Held
    work: Work
    fencing_token: int


class Followers:
    """Looks at the heads of followed sessions from a thread of its own."""

    def __init__(self, sessions: Sessions, holding: Holding, clock: Clock, *, look_seconds: float = 2.0) -> None:
        self._sessions = sessions
        self._holding = holding
        self._clock = clock
        self._look_seconds = look_seconds
        self._lock = threading.Lock()
        self._waiting: list[Follower] = []
        self._ready: deque[Follower] = deque()
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="following", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def __len__(self) -> int:
        with self._lock:
            return len(self._waiting) + len(self._ready)

    def follow(self, held: Held, work: Work) -> None:
        """Keep the message until its session comes to something.

        Raises:
            TurnkeeperError: the session cannot be read.
        """
        head = self._sessions.head(work.tenant_id, work.session_id)
        with self._lock:
            crowded = self._closed.is_set() or len(self._waiting) >= MOST
            if not crowded:
                self._waiting.append(Follower(held, work, head.lease.fencing_token))
        if crowded:
            self._holding.give_back(held, 0 if self._closed.is_set() else CROWDED_SECONDS)

    def next_ready(self) -> Follower | None:
        """One whose session can be run now, for whoever has a slot free."""
        with self._lock:
            return self._ready.popleft() if self._ready else None

    def close(self) -> None:
        """Give all of them back."""
        self._closed.set()
        with self._lock:
            followers = [*self._waiting, *self._ready]
            self._waiting.clear()
            self._ready.clear()
        for follower in followers:
            self._holding.give_back(follower.held)

    # ---- the watch ----

    def _watch(self) -> None:
        while not self._closed.wait(self._look_seconds):
            with self._lock:
                waiting = list(self._waiting)
            # At most fifty looks a second however many there are: they share one table with everybody.
            for follower in waiting:
                if self._closed.is_set():
                    return
                try:
                    self.look(follower)
                except TurnkeeperError as error:
                    logger.warning("session %s could not be looked at: %s", follower.work.session_id, error)
                except Exception:
                    logger.exception("session %s could not be looked at", follower.work.session_id)
                if len(waiting) > 20:
                    time.sleep(0.02)

    def look(self, follower: Follower) -> None:
        work = follower.work
        try:
            head = self._sessions.head(work.tenant_id, work.session_id)
        except SessionNotFound:
            if self._leave(follower):
                self._holding.reject(follower.held, "session_not_found", "the session is gone")
            return
        match outlook(head, work.turn, follower.fencing_token, self._clock.now()):
            case "over":
                if self._leave(follower):
                    self._holding.delete(follower.held)
            case "take":
                with self._lock:
                    if follower in self._waiting:
                        self._waiting.remove(follower)
                        self._ready.append(follower)
            case "wait":
                pass

    def _leave(self, follower: Follower) -> bool:
        """False where it was given back meanwhile."""
        with self._lock:
            if follower in self._waiting:
                self._waiting.remove(follower)
                return True
            return False
