"""A session as it is read: all of it, and who looks on."""

from collections.abc import Mapping
from dataclasses import field
from datetime import datetime
from typing import Any, Self

from turnkeeper.core.session.entry import Entry
from turnkeeper.core.session.head import Head
from turnkeeper.core.session.spec import Plan, Spec
from turnkeeper.core.values import dataclass


@dataclass(frozen=True)
class Looked:
    """Until when somebody looks on as a session runs (milliseconds since the epoch), and how many have begun to."""

    until: int = 0
    readers: int = 0

    @classmethod
    def of(cls, item: Mapping[str, Any] | None) -> Self:
        """As a session's stream item says it."""
        item = item or {}
        return cls(item.get("looked_until", 0), item.get("readers", 0))

    def at(self, now: datetime) -> bool:
        return self.until > now.timestamp() * 1000


@dataclass(frozen=True, kw_only=True)
class Transcript:
    """Everything of one session as a resume reads it, in one query."""

    head: Head
    #: Of a session whose head names no version.
    spec: Spec | None = None
    entries: tuple[Entry, ...]
    plan: Plan | None = None
    #: Results that a tool call left behind before its step was written, by tool_use_id.
    early_results: dict[str, Any] = field(default_factory=dict)
    #: What of it was stored and is gone: sort keys of its items.
    lost: tuple[str, ...] = ()
    #: Who looks on.
    looked: Looked = Looked()
