"""Turns in the process that took their input: what the turn Lambda is on AWS, on a thread."""

from __future__ import annotations

import logging
import threading
from functools import cached_property

from fargate_worker.stopping import Stopping
from fargate_worker.threads import Spawn, in_thread
from functions.turn.handler import NOTHING_TO_DO, TurnRunner
from turnkeeper.bootstrap import Kit
from turnkeeper.runtime.dispatch import Dispatch
from turnkeeper.runtime.world import Allowance

logger = logging.getLogger(__name__)

#: How often somebody who waits for the last turn looks again.
_LOOK_AGAIN_SECONDS = 0.05


class InProcessTurns:
    """A :class:`turnkeeper.ports.Turns`, with a bounded number of threads.

    What finds none free, or comes while the process drains, goes onto the queue, where a worker takes it. A turn that
    outgrows ``turn_seconds`` moves there as it does from Lambda. What is lost with the process is found by the sweep.
    """

    def __init__(self, kit: Kit, *, slots: int, name: str = "", spawn: Spawn = in_thread) -> None:
        """``slots``: turns at a time. ``name``: which process it is, for people."""
        self._kit = kit
        self.slots = slots
        self._spawn = spawn
        self._stopping = Stopping(kit.clock, kit.settings.stop_seconds)
        self._allowance = Allowance(
            runner="lambda",
            name=name,
            turn_seconds=kit.settings.turn_seconds,
            draining=lambda: self._stopping.draining,
            expired=lambda: self._stopping.expired,
        )
        self._lock = threading.Lock()
        self._running = 0

    @cached_property
    def _runner(self) -> TurnRunner:
        return TurnRunner(self._kit)

    @cached_property
    def _elsewhere(self) -> Dispatch:
        return Dispatch(self._kit.queue, None, self._kit.tokens)

    def start(self, tenant_id: str, session_id: str) -> None:
        """Raises Unavailable where there is no thread for it and the queue cannot be reached."""
        with self._lock:
            has_room = self._running < self.slots and not self._stopping.draining
            self._running += has_room
        if not has_room:
            self._elsewhere.send(self._kit.sessions.head(tenant_id, session_id))
            return
        self._spawn(f"turn {session_id}", lambda: self._run(tenant_id, session_id))

    def running(self) -> int:
        with self._lock:
            return self._running

    def stop(self) -> None:
        """Begin none any more, and bring what runs to its next safe point. May be called again."""
        self._stopping.begin()

    def drain(self) -> bool:
        """After ``stop``: whether every turn came to a safe point in time. Where not, its lease ends by itself."""
        while self.running() and self._stopping.seconds_to_go() > 0:
            self._kit.clock.sleep(_LOOK_AGAIN_SECONDS)
        return not self.running()

    def _run(self, tenant_id: str, session_id: str) -> None:
        try:
            self._runner.run_session(tenant_id, session_id, self._allowance)
        except NOTHING_TO_DO:
            pass
        except Exception:
            # Lambda would try again; here the sweep does, since the handoff is written down.
            logger.exception("session %s could not be run", session_id)
        finally:
            with self._lock:
                self._running -= 1
