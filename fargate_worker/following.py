"""Messages whose session another runner has: duplicates, and what is left of a lost lease.

They take no slot and are not given back: that would count as a receive each time, and make dead letters of them in the
end. They are kept in hand until the session rests, another message carries it on, or its runner turns out to be dead.
"""

from __future__ import annotations

import logging
import threading
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
from turnkeeper.telemetry import fields

logger = logging.getLogger(__name__)

#: A session that was handed off is left to the message that was sent for it, for so long.
GRACE_SECONDS = 10.0
#: More messages than these are not followed: a sender gone mad must not fill the memory.
MAX_FOLLOWERS = 500
CROWDED_SECONDS = 60
#: Where many are followed, their heads are read with this pause in between: the table is everybody's.
PAUSE_SECONDS = 0.02

Outlook = Literal["over", "take", "wait"]


def outlook(head: Head, turn: int | None, fencing_token: int, now: datetime) -> Outlook:
    """What becomes of a message whose session another runner had, under ``fencing_token``.

    ``over``: the message has nothing left to do. ``take``: no runner has the session, so it can be run for this
    message. ``wait``: neither is certain yet.
    """
    if head.resting or (turn is not None and head.turn.number > turn):
        return "over"
    if head.lease.owner is None:
        if head.handoff is None:
            return "take"
        sent = datetime.fromisoformat(head.handoff.at)
        return "take" if now >= sent + timedelta(seconds=head.handoff.delay_seconds + GRACE_SECONDS) else "wait"
    if head.lease.expires_at + SKEW_MILLIS < now.timestamp() * 1000:
        return "take"
    # A later claim was not made for this message. Where it comes to nothing, the session is due to the sweep.
    return "over" if head.lease.fencing_token > fencing_token else "wait"


@dataclass(eq=False)
class Follower:
    held: Held
    work: Work
    #: Of the claim that was in the way when the message was received.
    fencing_token: int


class Followers:
    """Looks at the heads of followed sessions whenever ``look`` is called."""

    def __init__(self, sessions: Sessions, holding: Holding, clock: Clock) -> None:
        self._sessions = sessions
        self._holding = holding
        self._clock = clock
        self._lock = threading.Lock()
        self._waiting: list[Follower] = []
        self._ready: deque[Follower] = deque()
        self._closed = False

    def __len__(self) -> int:
        with self._lock:
            return len(self._waiting) + len(self._ready)

    def follow(self, held: Held, work: Work) -> None:
        """Keep the message for as long as it may still be needed (see :func:`outlook`).

        Raises:
            TurnkeeperError: the session cannot be read.
        """
        head = self._sessions.head(work.tenant_id, work.session_id)
        with self._lock:
            follows = not self._closed and len(self._waiting) < MAX_FOLLOWERS
            if follows:
                self._waiting.append(Follower(held, work, head.lease.fencing_token))
        if not follows:
            self._holding.give_back(held, 0 if self._closed else CROWDED_SECONDS)

    def next_ready(self) -> Follower | None:
        """One whose session can be run now, for whoever has a slot free."""
        with self._lock:
            return self._ready.popleft() if self._ready else None

    def close(self) -> None:
        """Give all of them back."""
        with self._lock:
            self._closed = True
            followers = [*self._waiting, *self._ready]
            self._waiting.clear()
            self._ready.clear()
        for follower in followers:
            self._holding.give_back(follower.held)

    # ---- looking ----

    def look(self) -> None:
        """Look once at the session of each message that is followed. Never raises."""
        with self._lock:
            waiting = list(self._waiting)
        for follower in waiting:
            work = follower.work
            with fields.scope(tenant_id=work.tenant_id, session_id=work.session_id):
                try:
                    self._look_at(follower)
                except TurnkeeperError as error:
                    logger.warning("session %s could not be looked at: %s", work.session_id, error)
                except Exception:
                    logger.exception("session %s could not be looked at", work.session_id)
            if len(waiting) > 20:
                self._clock.sleep(PAUSE_SECONDS)

    def _look_at(self, follower: Follower) -> None:
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
                if self._leave(follower, ready=True):
                    logger.debug("session %s can be run now", work.session_id)
            case "wait":
                pass

    def _leave(self, follower: Follower, *, ready: bool = False) -> bool:
        """False where it was given back meanwhile."""
        with self._lock:
            if follower not in self._waiting:
                return False
            self._waiting.remove(follower)
            if ready:
                self._ready.append(follower)
            return True
