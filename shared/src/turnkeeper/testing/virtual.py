"""A process in which no time passes by itself: tools run one after the other, and leases are kept by a clock that a
test holds in its hand."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Self, TypeVar

from turnkeeper.ports import Clock
from turnkeeper.runtime.leases import HeldLease
from turnkeeper.runtime.relaying import EVERY_SECONDS, Relay
from turnkeeper.runtime.threads import Done

T = TypeVar("T")


class VirtualParallel:
    """A :class:`turnkeeper.runtime.threads.Parallel`: jobs on the caller's thread, in their order, each within its
    time-out by the clock. One that took longer is given up on afterwards, though what it did is done, as with a thread
    that nobody waits for."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    def run_all(
        self,
        jobs: Sequence[Callable[[], T]],
        *,
        timeouts: Sequence[float],
        stop: Callable[[], bool],
        done: Callable[[int, Done[T], int], None],
    ) -> list[Done[T] | None]:
        outcomes: list[Done[T] | None] = [None] * len(jobs)
        for index, (job, timeout) in enumerate(zip(jobs, timeouts, strict=True)):
            if stop():
                break
            began = self._clock.monotonic()
            try:
                outcome: Done[T] = Done(value=job())
            except (Exception, SystemExit) as error:  # noqa: BLE001 - told to whoever waits; a crash is neither
                outcome = Done(error=error)
            if self._clock.monotonic() - began > timeout:
                continue
            outcomes[index] = outcome
            done(index, outcome, len(jobs) - index - 1)
        return outcomes


class VirtualLease(HeldLease):
    """A lease that beats whenever it is asked about: as one with a thread would have in the meantime."""

    @property
    def lost(self) -> bool:
        self.beat()
        return super().lost

    @property
    def cancelled(self) -> bool:
        self.beat()
        return super().cancelled

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None


class VirtualRelay(Relay):
    """Tells on the thread that has something new, where its time has come."""

    _told_at = float("-inf")

    def _wake(self) -> None:
        now = self._clock.monotonic()
        if now - self._told_at >= EVERY_SECONDS:
            self._told_at = now
            self.flush()
