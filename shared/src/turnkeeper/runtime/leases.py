"""Keeping a lease while a session runs: extended in time, given up by itself before it ends.

A runner may only believe in its lease up to a moment that it can tell by its own clock: the lease's length, counted
from before the write that took it, less a margin. Other runners wait a margin longer before they take it over.
"""

from __future__ import annotations

import contextvars
import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Protocol, Self

from turnkeeper.core.errors import LeaseLost
from turnkeeper.core.session import Head, Looked
from turnkeeper.ports import Clock
from turnkeeper.runtime.store.sessions import Sessions
from turnkeeper.runtime.threads import Threads

logger = logging.getLogger(__name__)

#: How often a runner looks whether a cancel was asked for, while a step takes its time.
CANCEL_POLL_SECONDS = 1.5


def beat_seconds(lease_seconds: float) -> float:
    """How often a lease of this length is beaten, at least."""
    return min(CANCEL_POLL_SECONDS, lease_seconds / 3)


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
        self.beat_seconds = beat_seconds(self._length)

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
        if self.due:
            self.renew()
        if not self._lost:
            with self._enduring():
                self.hear(*self._sessions.asked(self._head))

    @property
    def due(self) -> bool:
        """It is time to extend it."""
        return not self._lost and self._clock.monotonic() - self._renewed_at >= self._length / 3

    def renew(self) -> None:
        """Extend it now. Never raises."""
        with self._enduring():
            asked_at = self._clock.monotonic()
            self._sessions.extend(self._head)
            self._renewed_at = asked_at
            self._on_beat()

    def hear(self, cancel_requested: bool, looked: Looked) -> None:
        """What was seen of the session."""
        self._cancelled = self._cancelled or cancel_requested
        self._tell(looked)

    @contextmanager
    def _enduring(self) -> Iterator[None]:
        """Nothing may end the beats while the session runs."""
        try:
            yield
        except LeaseLost:
            self._lost = True
        except Exception as error:  # noqa: BLE001
            logger.warning("session %s: a beat failed: %s", self._head.session_id, type(error).__name__)


class KeptLease(HeldLease):
    """Kept by a :class:`LeaseKeeper`, from when it is entered until it is left."""

    def __init__(self, keeper: LeaseKeeper, head: Head, held_since: float, on_beat: Callable[[], None]) -> None:
        super().__init__(keeper.sessions, keeper.clock, head, held_since, on_beat)
        self._keeper = keeper
        self._renewing = threading.Lock()

    def __enter__(self) -> Self:
        # What is logged of it says which turn it is of.
        self._context = contextvars.copy_context()
        self._keeper.enter(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._keeper.leave(self)

    @property
    def head(self) -> Head:
        return self._head

    def renew(self) -> None:
        """At most once at a time."""
        if self._renewing.acquire(blocking=False):
            try:
                self._context.copy().run(super().renew)
            finally:
                self._renewing.release()

    def hear(self, cancel_requested: bool, looked: Looked) -> None:
        with self._enduring():
            self._context.copy().run(super().hear, cancel_requested, looked)


class LeaseKeeper:
    """Keeps all leases of a process with one thread, and one read for all of them at each beat.

    Each is extended by a write of its own, beside the others and the read: what the table does not answer holds up
    nothing else.
    """

    def __init__(self, sessions: Sessions, clock: Clock, threads: Threads) -> None:
        self.sessions = sessions
        self.clock = clock
        self.beat_seconds = beat_seconds(sessions.lease_seconds)
        self._threads = threads
        self._changed = threading.Condition()
        self._looking = threading.Lock()
        self._kept: dict[KeptLease, None] = {}
        self._thread: threading.Thread | None = None

    def keep(self, head: Head, held_since: float, on_beat: Callable[[], None]) -> KeptLease:
        """A lease that is kept once it is entered; see :class:`HeldLease`."""
        return KeptLease(self, head, held_since, on_beat)

    def enter(self, lease: KeptLease) -> None:
        """Raises RuntimeError where there is no thread to keep it."""
        with self._changed:
            # Not alive either in a process that was forked from the one that it was started in.
            if self._thread is None or not self._thread.is_alive():
                thread = threading.Thread(target=self._work, name="leases", daemon=True)
                thread.start()
                self._thread = thread
            # Last: what cannot be entered is never left.
            self._kept[lease] = None
            self._changed.notify()

    def leave(self, lease: KeptLease) -> None:
        with self._changed:
            self._kept.pop(lease, None)

    def _work(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._kept)
            time.sleep(self.beat_seconds)
            try:
                self.beat()
            except Exception as error:  # noqa: BLE001 - nothing may end the beats
                logger.warning("the leases of %d sessions could not be kept: %s", len(self._kept), error)

    def beat(self) -> None:
        """Have the leases extended for which it is time, and the session of each looked at, where the look before is
        done. Waits for neither, as long as there are threads."""
        for lease in self._held():
            if lease.due:
                self._beside(lease.renew)
        if self._looking.acquire(blocking=False):
            self._beside(self._look)

    def _beside(self, job: Callable[[], object]) -> None:
        """In a thread of its own; in this one, where no more are to be had: then what hangs holds up the others, and
        that is better than to lose them all."""
        try:
            self._threads.start(job)
        except RuntimeError:
            job()

    def look(self) -> None:
        """Look at the session of each lease, in one read.

        Raises:
            StoreBusy, Unavailable: it could not be read.
        """
        leases = self._held()
        for lease, seen in zip(leases, self.sessions.asked_all([lease.head for lease in leases]), strict=True):
            lease.hear(*seen)

    def _look(self) -> None:
        try:
            self.look()
        except Exception as error:  # noqa: BLE001 - it is looked at again at the next beat
            logger.warning("%d sessions could not be looked at: %s", len(self._kept), type(error).__name__)
        finally:
            self._looking.release()

    def _held(self) -> list[KeptLease]:
        with self._changed:
            return [lease for lease in self._kept if not lease.lost]
