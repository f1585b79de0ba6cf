"""Seeing that this task was replaced by another deployment.

A deployment ends when the last task of the one before is gone. ECS stops those, but not one that is protected, and
while the queue is busy a task that goes on receiving is protected for ever: the deployment would hang, and with it all
scaling in.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from fargate_worker.threads import Spawn, in_thread, repeated
from turnkeeper.ports import Clock

logger = logging.getLogger(__name__)

LOOK_SECONDS = 60.0
#: Seen so often in a row: what runs for a minute has passed its first health checks.
_SIGHTINGS = 2


class Retiring:
    """Looks every minute. A look that fails counts for nothing: the task goes on working."""

    def __init__(self, is_replaced: Callable[[], bool], clock: Clock, spawn: Spawn = in_thread) -> None:
        """``is_replaced`` asks whether another deployment has taken over; it may raise anything."""
        self._is_replaced = is_replaced
        self._clock = clock
        self._spawn = spawn
        self._sightings = 0

    @property
    def due(self) -> bool:
        """The task has been replaced; this does not become false again."""
        return self._sightings >= _SIGHTINGS

    def start(self) -> None:
        self._spawn("retiring", repeated(self.look, seconds=LOOK_SECONDS, clock=self._clock, until=lambda: self.due))

    def look(self) -> None:
        """Look once. Never raises."""
        try:
            replaced = self._is_replaced()
        except Exception as error:  # noqa: BLE001 - whatever it is, it must not disturb what runs
            logger.warning("nobody says whether this task was replaced: %s: %s", type(error).__name__, error)
            return
        if not self.due:
            self._sightings = self._sightings + 1 if replaced else 0
