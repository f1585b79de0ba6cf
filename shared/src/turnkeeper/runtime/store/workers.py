"""What each worker tells of itself: that it lives, and how many of its slots are free. A hint, and never more: nothing
is decided by it that a lease does not decide again."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from turnkeeper.core.ledger import millis
from turnkeeper.ports import Clock
from turnkeeper.runtime.store import keys
from turnkeeper.table import Table, Update

#: A worker that said nothing for longer is gone; some seconds of that are for clocks that differ, either way.
SILENT_SECONDS = 10.0
#: Its item is for the table to take away after this long.
_KEPT = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class Told:
    """One worker's word."""

    worker: str
    free: int


@dataclass(frozen=True)
class Workers:
    table: Table
    clock: Clock

    def tell(self, worker: str, free: int) -> None:
        """Raises StoreBusy and Unavailable."""
        now = self.clock.now()
        said = {"free": free, "told_at": millis(now), "expires_at_epoch": int((now + _KEPT).timestamp())}
        self.table.update(Update(keys.worker_key(worker), set=said))

    def told(self) -> list[Told]:
        """The workers that live, as far as anybody knows. Raises StoreBusy."""
        now, silent = millis(self.clock.now()), int(SILENT_SECONDS * 1000)
        found = self.table.query_all(keys.WORKERS)
        # Of a clock that is ahead by more, nobody could tell for as long that its worker is gone.
        return [Told(item["sk"], item["free"]) for item in found if abs(now - item["told_at"]) <= silent]
