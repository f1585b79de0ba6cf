"""One of several processes does what must not be done twice over: whoever holds a lease in the table."""

from __future__ import annotations

import logging
from datetime import timedelta

from turnkeeper.core.ledger import iso
from turnkeeper.ports import Clock
from turnkeeper.table import ABSENT, AnyOf, Cond, ConditionFailed, Key, Table, Update

logger = logging.getLogger(__name__)

LEASE_SECONDS = 15.0
#: ``keep`` has to be called this often.
KEEP_SECONDS = LEASE_SECONDS / 5
#: No clock that is right writes a lease that ends later than this.
_LONGEST_SECONDS = 3600.0


class Leadership:
    """A lease on one kind of work. Its holder stops believing in it a third before others may take it, so that clocks
    may differ by that. Two may still overlap where a process is frozen: the work must bear being done twice."""

    def __init__(self, table: Table, clock: Clock, *, work: str, owner: str) -> None:
        self._table = table
        self._clock = clock
        self._key = Key("LEADER", work)
        self._owner = owner
        self._believed_until = 0.0

    @property
    def held(self) -> bool:
        return self._clock.monotonic() < self._believed_until

    def keep(self) -> bool:
        """Take the lease where nobody has it, extend one that is held; whether it is held. Never raises."""
        began, now = self._clock.monotonic(), self._clock.now()
        # Or its clock was wrong by hours when it was written: if its holder is gone, nobody would lead for as long.
        strange = Cond("expires_at", ">", iso(now + timedelta(seconds=_LONGEST_SECONDS)))
        free = (ABSENT, Cond("owner", "=", self._owner), Cond("expires_at", "<", iso(now)), strange)
        ends = iso(now + timedelta(seconds=LEASE_SECONDS))
        change = Update(self._key, set={"owner": self._owner, "expires_at": ends}, conditions=(AnyOf(free),))
        before = self.held
        try:
            self._table.update(change)
        except ConditionFailed:
            self._believed_until = 0.0
        except Exception as error:  # noqa: BLE001 - what was held ends by itself
            logger.warning("the lease on %s cannot be kept: %s", self._key.sk, error)
        else:
            self._believed_until = began + LEASE_SECONDS * 2 / 3
        if self.held != before:
            logger.info("%s: %s", self._key.sk, "done here from now on" if self.held else "no longer done here")
        return self.held

    def give_up(self) -> None:
        """Let another have it at once. Never raises."""
        if not self.held:
            return
        self._believed_until = 0.0
        mine = (Cond("owner", "=", self._owner),)
        try:
            self._table.update(Update(self._key, set={"expires_at": ""}, conditions=mine))
        except Exception as error:  # noqa: BLE001 - it ends by itself
            logger.warning("the lease on %s could not be given up: %s", self._key.sk, error)
