"""Which ends of a turn, and which losses, on-call hears of, and what it is told: numbers, names and reasons, never
contents."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from functions.observe.records import Changed
from turnkeeper.core.session import Entry
from turnkeeper.core.stops import STOPS, told_detail
from turnkeeper.ports import Alerts
from turnkeeper.runtime.store import codec
from turnkeeper.table import Blobs


@dataclass(frozen=True)
class Alerting:
    alerts: Alerts
    blobs: Blobs

    def see(self, change: Changed) -> None:
        """Raises Unavailable where an entry's content cannot be had now, or nobody could be told."""
        if change.inserted and change.sk.startswith("AUDIT#") and change.new.get("kind") == "content_lost":
            subject = f"Contents of session {change.session_id} of tenant {change.tenant_id} are gone from the bucket"
            data = {"tenant_id": change.tenant_id, "session_id": change.session_id, "audit": change.sk}
            self.alerts.alert("content_lost", subject, data)
            return
        if not (change.inserted and change.sk.startswith("ENTRY#") and change.new["type"] == "status"):
            return
        entry = codec.entry_of(change.new, self.blobs)
        if entry.stop is None or (kind := STOPS[entry.stop.reason].alert) is None:
            return
        reason = entry.stop.reason
        subject = f"Session {change.session_id} of tenant {change.tenant_id} ended its turn: {reason}"
        self.alerts.alert(kind, subject, _told(change, entry))


def _told(change: Changed, entry: Entry) -> dict[str, Any]:
    assert entry.stop is not None
    detail = entry.stop.detail
    data = {
        "tenant_id": change.tenant_id,
        "session_id": change.session_id,
        "seq": entry.seq,
        "at": entry.at,
        "status": entry.status,
        "reason": entry.stop.reason,
        "runner": entry.runner,
        **told_detail(entry.stop),
    }
    # What was repeated, without what was said: the hash tells the same call again.
    if isinstance(arguments := detail.get("arguments"), dict):
        data["argument_names"] = sorted(map(str, arguments))[:50]
    if entry.stop.reason == "internal_error" and "error" in detail:
        data["error"] = detail["error"]  # The name of a type.
    return data
