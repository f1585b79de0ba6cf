"""Which runner a turn begins on, where its agent leaves that open (`placement="auto"`).

For ``latency`` it is the turn Lambda. For ``economy`` it is offered on the queue first, as long as a worker has a slot
free: its session costs a twentieth there. Whoever offers looks whether it is claimed, and starts the Lambda where it
is not, or not soon enough. The session's head knows nothing of offers: it is on its way to the Lambda, as ever. So
whatever dies, the handoff is due and the sweep sends it, and where both come the lease decides (docs/decisions/0143).
"""

from __future__ import annotations

import logging
import threading
from dataclasses import dataclass

from turnkeeper.core.continuation import continuation_of
from turnkeeper.core.errors import TurnkeeperError
from turnkeeper.core.session import Head
from turnkeeper.ports import Clock, Queue
from turnkeeper.runtime.dispatch import Dispatch
from turnkeeper.runtime.jobs import continue_body
from turnkeeper.runtime.store.sessions import Sessions
from turnkeeper.runtime.store.workers import Told, Workers

logger = logging.getLogger(__name__)

#: A worker that has not claimed the turn by then, from when it began to be offered, is not waited for.
CLAIM_SECONDS = 0.08
_LOOK_SECONDS = 0.02
#: What workers tell is read again after this long.
_KNOWN_SECONDS = 1.0


class Fleet:
    """The workers as they told of themselves at most a second ago. Safe to share between threads; never raises: of a
    table that does not answer nothing is known, and so nobody is offered anything."""

    def __init__(self, workers: Workers, clock: Clock) -> None:
        self._workers = workers
        self._clock = clock
        self._lock = threading.Lock()
        self._known: list[Told] | None = None
        self._free = 0
        self._read_at = float("-inf")

    def take_slot(self) -> bool:
        """One of the slots that are free, as far as this process knows; whether there is one."""
        self._look()
        with self._lock:
            self._free -= 1
            return self._free >= 0

    def is_gone(self) -> bool:
        """No worker lives. (Where nobody can tell, one does.)"""
        self._look()
        return self._known == []

    def _look(self) -> None:
        """Without the lock while it reads: others go on with what was known."""
        now = self._clock.monotonic()
        with self._lock:
            if now - self._read_at < _KNOWN_SECONDS:
                return
            self._read_at = now
        try:
            known: list[Told] | None = self._workers.told()
        except TurnkeeperError as error:
            logger.warning("nobody knows which workers live: %s", error)
            known = None
        with self._lock:
            self._known = known
            self._free = sum(told.free for told in known or ())


@dataclass(eq=False, repr=False)
class Placing:
    """Asks for the runner that a turn begins on."""

    dispatch: Dispatch
    #: Takes offers. It wakes nobody: they are for workers that are there.
    offers: Queue
    fleet: Fleet
    sessions: Sessions
    clock: Clock
    economy: bool = False

    def send(self, head: Head) -> Head | None:
        """Ask for the runner that ``head.handoff`` names, or for a worker in its place. The head as it was left where
        the turn was run before this returns (:meth:`turnkeeper.ports.Turns.start`).

        Raises:
            Unavailable: nobody took the request.
        """
        if not self._may_offer(head):
            return self.dispatch.send(head)
        began = self.clock.monotonic()
        offered = self._offer(head)
        if offered and self._is_claimed(head, began + CLAIM_SECONDS):
            return None
        try:
            return self.dispatch.send(head)
        except TurnkeeperError as error:
            if not offered:
                raise
            logger.warning("session %s: only a worker was asked: %s", head.session_id, error)
            return None

    def _may_offer(self, head: Head) -> bool:
        to_function = head.handoff is not None and head.handoff.to == "function" and self.dispatch.turns is not None
        return self.economy and to_function and head.placement == "auto" and self.fleet.take_slot()

    def _offer(self, head: Head) -> bool:
        try:
            self.offers.send(continue_body(self.dispatch.tokens.sign(continuation_of(head))), group=head.tenant_id)
        except Exception as error:  # noqa: BLE001 - what is wrong with the queue is in nobody's way here
            logger.warning("session %s could not be offered: %s: %s", head.session_id, type(error).__name__, error)
            return False
        return True

    def _is_claimed(self, head: Head, until: float) -> bool:
        """By whomever: then nobody needs to be asked any more."""
        while (left := until - self.clock.monotonic()) > 0:
            self.clock.sleep(min(_LOOK_SECONDS, left))
            try:
                now = self.sessions.head(head.tenant_id, head.session_id)
            except TurnkeeperError:
                return False
            if now.lease.fencing_token > head.lease.fencing_token or now.handoff != head.handoff:
                return True
        return False
