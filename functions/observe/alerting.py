"""Which ends of a turn, and which losses, on-call hears of, and what it is told: numbers, names and reasons, never
contents."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from functions.observe.records import Changed
from turnkeeper.core.session import Entry
from turnkeeper.core.stops import STOPS
from turnkeeper.ports import Alerts, Blobs
from turnkeeper.runtime.store import codec

#: Of a stop's detail, what may be told.
_TOLD = frozenset(
    {
        *("iterations", "max_iterations", "elapsed_seconds", "max_seconds"),
        *("tool", "tools", "times", "call_hash", "steps"),
        *("scope", "limit_usd", "spent_usd", "reserved_usd", "needed_usd", "contended", "resets_at"),
        *("clamped_max_tokens", "wanted_max_tokens"),
        *("attempts", "status_code", "retry_after_seconds", "code"),
    }
)


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
        **{name: value for name, value in detail.items() if name in _TOLD},
    }
    # What was repeated, without what was said: the hash tells the same call again.
    if isinstance(arguments := detail.get("arguments"), dict):
        data["argument_names"] = sorted(map(str, arguments))[:50]
    if entry.stop.reason == "internal_error" and "error" in detail:
        data["error"] = detail["error"]  # The name of a type.
    return data
