"""Which traces were sent: one item for each time that a turn came to rest."""

from __future__ import annotations

from datetime import datetime

from turnkeeper.core.ledger import iso
from turnkeeper.core.session import Head
from turnkeeper.runtime.store import keys
from turnkeeper.table import ABSENT, ConditionFailed, Put, Table


class Traced:
    def __init__(self, table: Table) -> None:
        self._table = table

    def is_sent(self, head: Head) -> bool:
        """Whether the trace of what ended with this head was sent."""
        return self._table.get(keys.traced_key(head.tenant_id, head.session_id, head.last_seq)) is not None

    def note_sent(self, head: Head, now: datetime) -> bool:
        """Write down that it was; whether nobody had."""
        key = keys.traced_key(head.tenant_id, head.session_id, head.last_seq)
        try:
            self._table.write([Put(key, {"turn": head.turn.number, "at": iso(now)}, (ABSENT,))])
        except ConditionFailed:
            return False
        return True
