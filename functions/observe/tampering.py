"""Changes of audit records, which nothing of the kit makes: only an erasure takes their arguments away.

IAM cannot keep a role that may put items from putting one in an audit record's place (docs/decisions/0032). The stream
shows it all the same, within seconds and without anybody asking.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from turnkeeper.ports import Alerts
from turnkeeper.runtime.store import keys

KIND = "audit_tampering"
#: What an erasure takes away.
_ERASED = frozenset({"arguments_redacted", "arguments_salt"})


@dataclass(frozen=True)
class Guard:
    alerts: Alerts

    def see(self, record: Mapping[str, Any]) -> None:
        """Raises Unavailable where nobody could be told."""
        images = record["dynamodb"]
        old, new = images.get("OldImage"), images.get("NewImage")
        place = images.get("Keys") or old or new or {}
        pk, sk = _text(place.get("pk")), _text(place.get("sk"))
        if old is None or not sk.startswith("AUDIT#"):
            return
        changed = _changed(old, new)
        if not changed:
            return
        owner = keys.session_of_pk(pk)
        whose = f"session {owner[1]} of tenant {owner[0]}" if owner else f"the tenant's chain {pk}"
        what = "taken out" if new is None else "changed"
        data = {"pk": pk, "sk": sk, "what": what, "attributes": changed}
        self.alerts.alert(KIND, f"An audit record of {whose} was {what}", data)


def _changed(old: Mapping[str, Any], new: Mapping[str, Any] | None) -> list[str]:
    """Names of the attributes that are not what they were, but for those that an erasure takes away."""
    if new is None:
        return sorted(old)
    names = {name for name in old.keys() | new.keys() if old.get(name) != new.get(name)}
    return sorted(name for name in names if name not in _ERASED or name in new)


def _text(value: Any) -> str:
    return str(value.get("S", "")) if isinstance(value, Mapping) else ""
