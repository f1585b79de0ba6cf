"""ECS task protection: while a session runs, scaling in does not end this task."""

from __future__ import annotations

import json
import logging
import urllib.request
from collections.abc import Callable
from http.client import HTTPException

from fargate_worker.threads import Spawn, in_thread, repeated
from turnkeeper.ports import Clock

logger = logging.getLogger(__name__)

EXPIRES_MINUTES = 60
_REFRESH_SECONDS = EXPIRES_MINUTES * 60 / 2
#: Nothing has to run for this long before protection is given back: the next job often follows at once.
_SETTLE_SECONDS = 5.0
_RETRY_SECONDS = 10.0
_LOOK_SECONDS = 0.5


class TaskProtection:
    """Asks the ECS agent for protection while ``busy`` says so. A request that fails is logged and tried again; it
    never disturbs a session."""

    def __init__(self, agent_uri: str, busy: Callable[[], bool], clock: Clock, spawn: Spawn = in_thread) -> None:
        self._url = f"{agent_uri.rstrip('/')}/task-protection/v1/state"
        self._busy = busy
        self._clock = clock
        self._spawn = spawn
        self._protected = False
        self._asked_at = 0.0
        self._failed_at: float | None = None
        self._busy_at = 0.0
        self._closed = False

    def start(self) -> None:
        self._spawn(
            "protection",
            repeated(self.look, seconds=_LOOK_SECONDS, clock=self._clock, until=lambda: self._closed),
        )

    def close(self) -> None:
        self._closed = True

    def look(self) -> None:
        """Ask for what is wanted now, where that is not what was asked for already."""
        now = self._clock.monotonic()
        if self._failed_at is not None and now - self._failed_at < _RETRY_SECONDS:
            return
        if self._busy():
            self._busy_at = now
            if not self._protected or now - self._asked_at > _REFRESH_SECONDS:
                self._ask(True, now)
        elif self._protected and now - self._busy_at > _SETTLE_SECONDS:
            self._ask(False, now)

    def _ask(self, enabled: bool, now: float) -> None:
        wanted: dict[str, object] = {"ProtectionEnabled": enabled}
        if enabled:
            wanted["ExpiresInMinutes"] = EXPIRES_MINUTES
        try:
            self._put(wanted)
        except (OSError, HTTPException, ValueError) as error:
            self._failed_at = now
            logger.warning("task protection could not be set to %s: %s", enabled, error)
            return
        self._protected, self._asked_at, self._failed_at = enabled, now, None

    def _put(self, wanted: dict[str, object]) -> None:
        request = urllib.request.Request(  # noqa: S310 - the agent's address comes from ECS
            self._url,
            data=json.dumps(wanted).encode(),
            headers={"Content-Type": "application/json"},
            method="PUT",
        )
        with urllib.request.urlopen(request, timeout=5) as answer:  # noqa: S310
            outcome = json.loads(answer.read() or b"{}")
        if isinstance(outcome, dict) and (refused := outcome.get("failure") or outcome.get("error")):
            raise ValueError(f"refused: {refused}")
