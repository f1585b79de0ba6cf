"""Purses: holders of money that have many calls in flight at a time, which a session's head has not.

A purse is a token of the gateway, or a session whose calls go through the gateway. What its task has spent and reserved
stands in an item of its own, which admits calls by a condition as every other counter does; each call is a record of
its ledger, written in one transaction with the counters of every scope, by the code that sessions use. A call that
nobody settles is due: the sweep asks whether the process that made it still lives, and doubts it where not.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from turnkeeper.core.errors import LeaseLost, TurnkeeperError, Unavailable
from turnkeeper.core.ledger import Payer, Reservation, iso
from turnkeeper.core.lifecycle.change import Reserved, Resolved
from turnkeeper.core.policy import Terms
from turnkeeper.core.scopes import SCOPES
from turnkeeper.core.usage import Usage
from turnkeeper.ports import Clock
from turnkeeper.runtime.store import due, keys
from turnkeeper.runtime.store.changes import money_of
from turnkeeper.runtime.store.holders import Holder, Want
from turnkeeper.runtime.store.treasury import Admitted, CountersRefused, Treasury
from turnkeeper.table import Check, Cond, ConditionFailed, Item, Operation, Table, Update

logger = logging.getLogger(__name__)

#: One call may take this long; one that is pending for longer was forgotten, whoever lives.
CALL_SECONDS = 1_200.0
_FORGOTTEN_SECONDS = CALL_SECONDS + 600.0
#: A process may be late with its beat by this, as clocks may differ.
_SKEW_SECONDS = 3.0
#: What the sweep needs no more.
_DUE = ("due_shard", "due_at")


class _Taken(TurnkeeperError):
    """Another call was given the same number."""


@dataclass(frozen=True, slots=True)
class Purse:
    """Who pays for a call, and what has to hold for it to be made."""

    payer: Payer
    #: What the task may cost by its own word; the plan's may be tighter.
    task_limit: int | None = None
    #: Written with each reservation: that the lease still holds, for a session.
    checks: tuple[Check, ...] = ()

    @property
    def name(self) -> str:
        assert self.payer.purse is not None
        return self.payer.purse


@dataclass(frozen=True, slots=True)
class PurseCall:
    """A call that was admitted and has to be resolved."""

    payer: Payer
    reservation: Reservation
    admitted: Admitted | None = None


@dataclass(frozen=True, slots=True)
class Spent:
    """How a purse stands. In nano-dollars; ``spent`` is settled and in_doubt, and holds ``in_doubt``."""

    spent_nanousd: int = 0
    reserved_nanousd: int = 0
    in_doubt_nanousd: int = 0
    #: Calls that were resolved.
    calls: int = 0
    usage: Usage = field(default_factory=Usage)

    @classmethod
    def of(cls, item: Mapping[str, Any]) -> Spent:
        return cls(
            int(item.get("spent", 0)),
            int(item.get("reserved", 0)),
            int(item.get("in_doubt", 0)),
            int(item.get("calls", 0)),
            Usage.of(dict(item)),
        )


class Purses:
    """``lease_seconds``: a process whose last beat is older than this is taken for dead."""

    def __init__(
        self, table: Table, treasury: Treasury, clock: Clock, *, lease_seconds: float, owner: str = "nobody"
    ) -> None:
        self._table = table
        self._treasury = treasury
        self._clock = clock
        self._owner = owner
        self._lease_seconds = lease_seconds
        self._lock = threading.Lock()
        #: Reservations that may have been written while the table was away, for calls that were not made.
        self._owed: deque[PurseCall] = deque()
        self._latest = 0

    # ---- calls ----

    def reserve(
        self,
        purse: Purse,
        terms: Terms,
        want: Want,
        *,
        detail: Callable[[Reservation], Mapping[str, Any]] = lambda _: {},
        wait_seconds: float = 0.0,
        stop: Callable[[], bool] = lambda: False,
    ) -> PurseCall:
        """Set money aside for one call, in every scope at once; :meth:`resolve` has to follow.

        Args:
            detail: what the ledger's record of the call keeps beside the reservation.

        Raises:
            CostCapExceeded, TenantPaused, Forbidden: see :meth:`Treasury.admit`.
            LeaseLost: one of the purse's checks does not hold.
            StoreBusy, Unavailable: nothing is reserved; what may have been is taken back.
        """
        while True:
            holder = Holder(purse.payer, purse.name, self._number(), purse.task_limit, None)
            tried: list[Reservation] = []

            def write(admitted: Admitted, tried: list[Reservation] = tried) -> PurseCall:
                tried.append(admitted.reservation)
                reserved = Reserved(
                    admitted.reservation,
                    admitted.caps,
                    want.rates.version,
                    admitted.waited_ms,
                    {**detail(admitted.reservation), **self._whose(purse), **self._due(purse)},
                )
                self._write(purse, reserved)
                return PurseCall(purse.payer, admitted.reservation, admitted)

            try:
                return self._treasury.admit(holder, terms, want, wait_seconds=wait_seconds, stop=stop, write=write)
            except _Taken:
                continue
            except Unavailable:
                # The answer to the write was lost. No call was made, so whatever it reserved is given back.
                for reservation in tried[-1:]:
                    self._give_back(PurseCall(purse.payer, reservation))
                raise

    def _write(self, purse: Purse, reserved: Reserved) -> None:
        money = money_of(purse.payer, purse.name, "", reserved, None)
        try:
            self._table.write([*money.operations, *purse.checks])
        except ConditionFailed as failed:
            if 0 in failed.failures:
                raise _Taken("another call has this number") from failed
            if any(index >= len(money.operations) for index in failed.failures):
                raise LeaseLost("the session is another runner's, or cancelled") from failed
            raise CountersRefused(money.counters, failed.failures) from failed

    def resolve(self, call: PurseCall, resolved: Resolved, usage: Usage | None = None) -> bool:
        """Settle, void or doubt a call, once. False where somebody did before: the sweep, which doubts it.

        Raises:
            StoreBusy, Unavailable: it may be tried again.
        """
        money = money_of(call.payer, call.payer.purse or "", iso(self._clock.now()), None, resolved)
        record, *moves = money.operations
        assert isinstance(record, Update)
        record = replace(record, conditions=(Cond("state", "=", "pending"),), remove=_DUE)
        try:
            self._table.write([record, *(self._tallied(call.payer, move, resolved, usage) for move in moves)])
        except ConditionFailed:
            return False
        return True

    def _tallied(self, payer: Payer, move: Operation, resolved: Resolved, usage: Usage | None) -> Operation:
        """The purse's own item also counts calls and tokens."""
        if not isinstance(move, Update) or payer.purse is None:
            return move
        if move.key != keys.purse_key(payer.tenant_id, payer.purse):
            return move
        tokens = {name: count for name, count in (usage or Usage()).model_dump().items() if count}
        doubt = {"in_doubt": resolved.in_doubt_nanousd} if resolved.in_doubt_nanousd else {}
        return replace(move, add={**move.add, "calls": 1, **doubt, **tokens})

    def _give_back(self, call: PurseCall) -> None:
        try:
            self.resolve(call, Resolved(call.reservation, "voided", 0, {"error": "no call was made"}))
        except TurnkeeperError as error:
            # The sweep would doubt it in full, though no call was made.
            logger.warning("call %d stays reserved until the table is back: %s", call.reservation.call, error)
            self._owed.append(call)

    def _number(self) -> int:
        """Microseconds since the epoch: in the order of calls, without an item that counts them."""
        with self._lock:
            self._latest = max(self._latest + 1, int(self._clock.now().timestamp() * 1_000_000))
            return self._latest

    @staticmethod
    def _whose(purse: Purse) -> Item:
        payer = purse.payer
        return {"user": payer.user_id, **({"agent": payer.agent} if payer.agent is not None else {})}

    def _due(self, purse: Purse) -> Item:
        due = self._clock.now() + timedelta(seconds=self._lease_seconds)
        return {"owner": self._owner, "due_shard": keys.calls_shard(purse.name), "due_at": iso(due)}

    # ---- how purses stand ----

    def spent(self, tenant_id: str, purse: str) -> Spent:
        return Spent.of(self._table.get(keys.purse_key(tenant_id, purse)) or {})

    def calls(self, tenant_id: str, purse: str, *, after: int = 0) -> list[Item]:
        """The purse's ledger, oldest first, behind the call of this number."""
        first = keys.call_key(tenant_id, purse, after + 1).sk
        return self._table.query_all(keys.session_pk(tenant_id, purse), first=first, last="CALL#~")

    # ---- processes that die ----

    def beat(self) -> None:
        """This process lives, and so do its calls, for the next ``lease_seconds``. What could not be given back before
        is now."""
        until = self._clock.now() + timedelta(seconds=self._lease_seconds)
        self._table.update(
            Update(
                keys.beat_key(self._owner),
                set={"alive_until": iso(until), "expires_at_epoch": int(until.timestamp()) + 86_400},
            )
        )
        for _ in range(len(self._owed)):
            with suppress(IndexError):  # Another thread was faster.
                self._give_back(self._owed.popleft())

    def due(self, now: datetime, shard: int) -> Iterator[Item]:
        """Records of calls in flight that are :func:`~turnkeeper.runtime.store.due.late`."""
        found = due.late(self._table, f"CALLS#{shard}", now, put_off_seconds=self._lease_seconds)
        return (item for item in found if item.get("state") == "pending")

    def left_behind(self, item: Item) -> bool:
        """Whether nobody will resolve the call any more."""
        now = self._clock.now()
        if datetime.fromisoformat(item["at"]) + timedelta(seconds=_FORGOTTEN_SECONDS) < now:
            return True
        beat = self._table.get(keys.beat_key(item.get("owner", "nobody")))
        if beat is None:
            return True
        alive_until = datetime.fromisoformat(beat["alive_until"])
        return not now - timedelta(seconds=_SKEW_SECONDS) <= alive_until <= due.far(now, self._lease_seconds)

    def doubt(self, item: Item) -> bool:
        """Nobody knows what became of the call: its full amount counts. False where it was resolved meanwhile."""
        call = purse_call_of(item)
        why = {"error": "the process that made the call is gone"}
        amount = call.reservation.amount_nanousd
        return self.resolve(call, Resolved(call.reservation, "in_doubt", amount, why))


def purse_call_of(item: Item) -> PurseCall:
    """A call as its record in the ledger says."""
    owner = keys.session_of_pk(item["pk"])
    assert owner is not None, "a call is in a ledger"
    tenant_id, purse = owner
    reservation = Reservation.model_validate({name: item[name] for name in Reservation.model_fields if name in item})
    counted_apart = any(SCOPES[scope].holder == "task" for scope in reservation.periods)
    payer = Payer(tenant_id, item["user"], item.get("agent"), purse if counted_apart else None)
    return PurseCall(payer, reservation)


__all__ = ["CALL_SECONDS", "Purse", "PurseCall", "Purses", "Spent", "purse_call_of"]
