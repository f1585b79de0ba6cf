"""The worker tells how many of its slots are free, so that turns are offered to it, and asks for another worker before
none is."""

from __future__ import annotations

import logging
from collections.abc import Callable

from turnkeeper.ports import Clock, Wakes
from turnkeeper.runtime.store.workers import SILENT_SECONDS, Workers

logger = logging.getLogger(__name__)

#: How often it is looked whether there is something to tell; what is told of slots is at most that old.
LOOK_SECONDS = 1.0
#: It is told again although nothing has changed: twice may fail before the worker counts as gone.
AGAIN_SECONDS = SILENT_SECONDS / 3
#: While all workers together have fewer slots free than this share of one task's, another one is asked for.
SPARE_SHARE = 0.25


class Announcing:
    """``look`` at it every second. Never raises."""

    def __init__(
        self,
        workers: Workers,
        clock: Clock,
        *,
        name: str,
        slots: int,
        free: Callable[[], int],
        wakes: Wakes | None,
        processes: int = 1,
    ) -> None:
        """``wakes``: who is asked for another task; ``None``: nobody. A task has so many ``processes``, of so many
        ``slots``, that each tell of themselves."""
        self._workers = workers
        self._clock = clock
        self._name = name
        self._free = free
        self._wakes = wakes
        self._processes = processes
        self._spare = slots * processes * SPARE_SHARE
        self._told: int | None = None
        self._told_at = clock.monotonic()

    def look(self) -> None:
        """Tell how many slots are free, where that is news or was told a while ago."""
        free, now = self._free(), self._clock.monotonic()
        if free == self._told and now - self._told_at < AGAIN_SECONDS:
            return
        try:
            self._workers.tell(self._name, free)
            self._told, self._told_at = free, now
            self._grow(free)
        except Exception as error:  # noqa: BLE001 - it is looked at again in a second, and turns go on without it
            logger.warning("nobody could be told of free slots: %s: %s", type(error).__name__, error)

    def _grow(self, free: int) -> None:
        if self._wakes is None or free >= self._spare:
            return
        told = self._workers.told()
        if sum(worker.free for worker in told) < self._spare:
            self._wakes.at_least(-(-len(told) // self._processes) + 1)
