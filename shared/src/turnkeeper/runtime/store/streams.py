"""The item through which a runner tells how the entry to come stands, to whoever looks on.

Readers say in it until when somebody looks; only until then the runner writes the other half, the *tail*, and hears
with each write whether somebody still does. Nothing of it is kept: it is overwritten all the time, goes with its
session, and else after some minutes.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

from turnkeeper.core.canonical import json_text
from turnkeeper.core.deltas import Forming
from turnkeeper.core.ledger import millis
from turnkeeper.core.session import Head, Looked
from turnkeeper.ports import Clock
from turnkeeper.runtime.store import keys
from turnkeeper.table import AnyOf, Cond, ConditionFailed, Item, Table, Update

#: A look is good for so long; whoever looks on looks again in time.
LOOK_SECONDS = 30
#: What a tail may have as JSON, before it is compressed.
MOST_BYTES = 16_000
_COMPRESS_FROM = 700
_KEPT_SECONDS = 600


@dataclass(frozen=True, slots=True)
class Seen:
    """A session as a reader finds it: the items of its head and of its stream."""

    head: Item | None
    stream: Item | None


class Streams:
    def __init__(self, table: Table, clock: Clock) -> None:
        self._table = table
        self._clock = clock

    # ---- readers ----

    def look(self, tenant_id: str, session_id: str, *, anew: bool) -> None:
        """Somebody looks on for the next ``LOOK_SECONDS``.

        Args:
            anew: and has seen nothing yet of the entry to come: the runner tells it from its beginning once more.
        """
        now = self._clock.now()
        until = now + timedelta(seconds=LOOK_SECONDS)
        self._table.update(
            Update(
                keys.stream_key(tenant_id, session_id),
                set={"looked_until": millis(until), "expires_at_epoch": int(until.timestamp()) + _KEPT_SECONDS},
                add={"readers": 1} if anew else {},
            )
        )

    def see(self, sessions: Sequence[tuple[str, str]]) -> list[Seen]:
        """Heads and streams of many sessions, in one read."""
        wanted = [key for each in sessions for key in (keys.head_key(*each), keys.stream_key(*each))]
        found = {(item["pk"], item["sk"]): item for item in self._table.batch_get(wanted)}
        items = iter(found.get((key.pk, key.sk)) for key in wanted)
        return [Seen(head, stream) for head, stream in zip(items, items, strict=True)]

    # ---- the runner ----

    def tell(self, head: Head, tail: bytes) -> Looked:
        """Write the tail, where somebody looks and no later runner has the session. Who looks on, either way."""
        token = head.lease.fencing_token
        try:
            item = self._table.update(
                Update(
                    keys.stream_key(head.tenant_id, head.session_id),
                    set={"tail": tail, "fencing_token": token},
                    conditions=(
                        Cond("looked_until", ">", millis(self._clock.now())),
                        AnyOf((Cond("fencing_token", "absent"), Cond("fencing_token", "<=", token))),
                    ),
                )
            )
        except ConditionFailed as failed:
            item = failed.failures.get(0) or {}
            return Looked() if item.get("fencing_token", 0) > token else Looked.of(item)
        return Looked.of(item)


def tail_of(forming: Forming) -> tuple[bytes, int]:
    """As the item has it, and how large it is before it is compressed."""
    raw = json_text(forming.dump()).encode()
    return (zlib.compress(raw, 1) if len(raw) >= _COMPRESS_FROM else raw), len(raw)


def forming_of(item: Item | None) -> Forming | None:
    """What an item's tail says; ``None`` where there is none, or a later version wrote it otherwise."""
    data = (item or {}).get("tail")
    if not data:
        return None
    try:
        return Forming.read(json.loads(zlib.decompress(data) if data[:1] == b"\x78" else data))
    except (zlib.error, ValueError, TypeError, KeyError):
        return None
