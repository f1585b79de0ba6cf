"""A second way to wake the worker: whoever puts a session on the queue asks ECS for a task, and where that was lost,
the stream tells of the session a second later (docs/decisions/0084)."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime

from functions.observe.records import Changed
from turnkeeper.ports import Clock, Wakes
from turnkeeper.runtime.waking import SOON_SECONDS

#: The sweep has looked at a handoff that is older, more than once. A stream that is behind, or read from its beginning,
#: must not wake a worker for each session that ever was on its way.
SWEPT_SECONDS = 120


@dataclass(frozen=True)
class Waking:
    #: ``None`` where somebody else runs the worker.
    wakes: Wakes | None
    clock: Clock

    def see(self, change: Changed) -> None:
        """Ask for a task when a session is put on its way to the worker. Never raises."""
        if self.wakes is not None and change.sk == "HEAD" and self._is_on_its_way(change):
            self.wakes.at_least(1)

    def _is_on_its_way(self, change: Changed) -> bool:
        text = change.new.get("handoff")
        if text is None or (change.old is not None and change.old.get("handoff") == text):
            return False
        handoff = json.loads(text)
        is_soon = handoff["to"] == "queue" and handoff.get("delay_seconds", 0) <= SOON_SECONDS
        age = self.clock.now() - datetime.fromisoformat(handoff["at"])
        return is_soon and age.total_seconds() <= SWEPT_SECONDS
