"""Containers: where the provider runs code for a conversation, with the files that it leaves there.

An answer tells the container that it used, and until when that is kept. The next request names it, or the files are
lost, and a call that a program made from within waits for its result in vain.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from turnkeeper.core.session import Container, Entry


def container_told(raw: Any) -> Container | None:
    """What an answer says of its container; ``None`` where it says nothing, or nothing that can be used."""
    if not isinstance(raw, Mapping):
        return None
    name, until = raw.get("id"), raw.get("expires_at")
    if not isinstance(name, str) or not name or not isinstance(until, str) or _time(until) is None:
        return None
    return Container(name, until)


def container_of(entries: Sequence[Entry], sent: Collection[int], now: datetime) -> str | None:
    """The id of the container that the conversation is in; ``None`` where there is none, or none any more.

    That of the latest answer that is still part of the conversation counts, whichever model gave it: a container
    belongs to the account. A repair that leaves out no block says that the API refused the container.

    Args:
        sent: numbers of the entries that are sent.
    """
    for entry in reversed(entries):
        if entry.type == "repair" and not entry.left_out:
            return None
        if entry.container is not None and entry.seq in sent:
            until = _time(entry.container.expires_at)
            return entry.container.id if until is not None and now < until else None
    return None


def _time(text: str) -> datetime | None:
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        return None
    return time if time.tzinfo is not None else time.replace(tzinfo=UTC)
