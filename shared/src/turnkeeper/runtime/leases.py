"""Keeping a lease while a session runs: extended in time, given up by itself before it ends.

A runner may only believe in its lease up to a moment that it can tell by its own clock: the lease's length, counted
from before the write that took it, less a margin. Other runners wait a margin longer before they take it over.
"""

from __future__ import annotations

import contextvars
import logging
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Protocol, Self

from turnkeeper.core.errors import LeaseLost
from turnkeeper.core.session import Head, Looked
from turnkeeper.ports import Clock
from turnkeeper.runtime.store.sessions import Sessions

logger = logging.getLogger(__name__)

#: How often a runner looks whether a cancel was asked for, while a step takes its time.
CANCEL_POLL_SECONDS = 1.5


class Lease(Protocol):
    """A held lease, as the engine sees it."""

    def __enter__(self) -> Lease: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    @property
    def lost(self) -> bool:
        """Nothing may be written any more."""

    @property
    def cancelled(self) -> bool:
        """Somebody asked for the session to stop."""

    def on_look(self, tell: Callable[[Looked], None]) -> None:
        """Have it told, each time that the session is looked at anyway, who looks on."""


class HeldLease:
    """A lease that is kept for as long as somebody calls ``beat``, every ``beat_seconds``."""

    def __init__(
        self, sessions: Sessions, clock: Clock, head: Head, held_since: float, on_beat: Callable[[], None]
    ) -> None:
        self._sessions = sessions
        self._clock = clock
        self._head = head
        self._on_beat = on_beat
        self._length = sessions.lease_seconds
        self._renewed_at = held_since
        self._lost = False
        self._cancelled = head.turn.cancel_requested
        self._tell: Callable[[Looked], None] = lambda _: None
        self.beat_seconds = min(CANCEL_POLL_SECONDS, self._length / 3)

    @property
    def lost(self) -> bool:
        return self._lost or self._clock.monotonic() - self._renewed_at > self._length * 0.9

    @property
    def cancelled(self) -> bool:
        return self._cancelled

    def on_look(self, tell: Callable[[Looked], None]) -> None:
        self._tell = tell

    def beat(self) -> None:
        """Extend the lease every third of its length, and look whether a cancel was asked for. Never raises: what
        failed is tried again at the next beat, and the lease ends by itself when none succeeds."""
        if self._lost:
            return
        try:
            if self._clock.monotonic() - self._renewed_at >= self._length / 3:
                asked_at = self._clock.monotonic()
                self._sessions.extend(self._head)
                self._renewed_at = asked_at
                self._on_beat()
            cancel_requested, looked = self._sessions.asked(self._head)
            self._cancelled = self._cancelled or cancel_requested
            self._tell(looked)
        except LeaseLost:
            self._lost = True
        except Exception as error:  # noqa: BLE001 - nothing may end the beats while the session runs
            logger.warning("session %s: a beat failed: %s", self._head.session_id, type(error).__name__)


class LeaseThread(HeldLease):
    """Beats in a thread of its own, from when it is entered until it is left."""

    def __enter__(self) -> Self:
        self._left = threading.Event()
        context = contextvars.copy_context()
        name = f"lease-{self._head.session_id}"
        threading.Thread(target=context.run, args=(self._keep,), name=name, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._left.set()

    def _keep(self) -> None:
        while not self._left.wait(self.beat_seconds):
            self.beat()
