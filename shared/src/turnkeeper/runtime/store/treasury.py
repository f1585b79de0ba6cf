"""Admission: a call is let through only by a conditional write that holds in all scopes at once.

The caller's own write (the input, the iteration, the lease check) carries the reservation, so the common case costs no
round trip of its own. Only where a condition fails does the treasury look at the counters: it moves budget between
shards, asks for less, waits for money in flight, or refuses.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Generic, TypeVar

from turnkeeper.core.errors import CostCapExceeded, TenantPaused, TurnkeeperError
from turnkeeper.core.ledger import (
    Counter,
    Move,
    ScopeState,
    Shard,
    affordable_tokens,
    bound_nanousd,
    day_of,
    iso,
    month_of,
    moves_into,
    refusing_scope,
    resets_at,
    useful_tokens,
)
from turnkeeper.core.policy import Caps, Terms, task_cap
from turnkeeper.core.session import Head, Reservation
from turnkeeper.ports import Clock, Cond, ConditionFailed, Ids, Item, Rates, Table, Update
from turnkeeper.runtime.store import counters, keys
from turnkeeper.runtime.store.tenants import Tenants

T = TypeVar("T")


class CountersRefused(TurnkeeperError):
    """The write was sound but for some counters. ``items`` are those, as they stood."""

    code = "counters_refused"

    def __init__(self, items: Mapping[Counter, Item | None]) -> None:
        super().__init__("a counter does not admit the reservation")
        self.items = dict(items)


@dataclass(slots=True)
class Want:
    """What a call asks for. ``input_tokens`` is a cheap upper bound; ``count`` asks the provider for a closer one,
    and is called once, only when the cheap one does not fit."""

    rates: Rates
    input_tokens: int
    max_tokens: int
    count: Callable[[], int] | None = None

    def amount(self, max_tokens: int) -> int:
        rates = self.rates
        return bound_nanousd(
            self.input_tokens, max_tokens, rates.input_nanousd, rates.output_nanousd, rates.fixed_nanousd
        )

    def affordable(self, budget: int) -> int:
        rates = self.rates
        return affordable_tokens(
            budget, self.input_tokens, rates.input_nanousd, rates.output_nanousd, rates.fixed_nanousd
        )

    @property
    def least(self) -> int:
        """What the smallest call worth making may cost."""
        return self.amount(useful_tokens(self.max_tokens))

    def look_closer(self) -> bool:
        """Replace the cheap bound by the provider's count, once. True where that made it smaller."""
        if self.count is None:
            return False
        before, self.input_tokens = self.input_tokens, min(self.input_tokens, self.count())
        self.count = None
        return self.input_tokens < before


class Treasury:
    def __init__(self, table: Table, tenants: Tenants, clock: Clock, ids: Ids) -> None:
        self._table = table
        self._tenants = tenants
        self._clock = clock
        self._ids = ids

    def admit(
        self,
        head: Head,
        terms: Terms,
        want: Want,
        *,
        wait_seconds: float,
        write: Callable[[Reservation, Caps], T],
    ) -> T:
        """Reserve in every scope with the caller's write; what the write returns.

        Args:
            write: commits the reservation with everything it belongs to; raises CountersRefused.
            wait_seconds: how long it may wait for money in flight.

        Raises:
            CostCapExceeded: a cap does not admit even the smallest useful call; ``contended`` says whether only
                money in flight stands in the way.
            TenantPaused: the kill switch is on.
        """
        return _Admission(self, head, terms, want, wait_seconds=wait_seconds, write=write).run()

    # What an admission does to the world; here, so that it shares the ports.

    def now(self) -> datetime:
        return self._clock.now()

    def monotonic(self) -> float:
        return self._clock.monotonic()

    def pause(self, attempt: int) -> None:
        """Wait a little, longer each time, never two waiters in step."""
        self._clock.sleep((0.05 + 0.95 * self._ids.jitter()) * min(0.1 * 2**attempt, 2.0))

    def refresh(self, tenant_id: str) -> Terms:
        return self._tenants.terms(tenant_id)

    def lay_out(self, terms: Terms) -> None:
        self._tenants.lay_out(terms)

    def shards(self, terms: Terms, month: str) -> list[Shard]:
        return self._tenants.shards(terms.tenant.tenant_id, month, terms.tenant.shards_high)

    def move(self, tenant_id: str, month: str, move: Move, caps: Caps) -> bool:
        """Move budget between two shards; False where the source has it no more."""
        same = Cond("caps", "=", caps.fingerprint)
        take = Update(
            keys.shard_key(tenant_id, month, move.source),
            add={"share": -move.amount, "remaining": -move.amount},
            conditions=(same, Cond("remaining", ">=", move.amount)),
        )
        give = Update(
            keys.shard_key(tenant_id, month, move.target),
            add={"share": move.amount, "remaining": move.amount},
            conditions=(same, Cond("closed", "=", False)),
        )
        try:
            self._table.write([take, give])
        except ConditionFailed:
            return False
        return True

    def states(self, head: Head, terms: Terms) -> list[ScopeState]:
        """Every scope as it stands, for reports: the session's task, its user's day and month, the tenant's month."""
        now = self._clock.now()
        day, month = Counter("user_daily", day_of(now)), Counter("user_monthly", month_of(now))
        own = task_cap(terms.caps, head.limits)
        return [
            ScopeState("task", own, head.cost_nanousd, head.reserved_nanousd),
            *self.user_states(head.tenant_id, head.user_id, terms, (day, month)),
            self.tenant_state(terms),
        ]

    def user_states(
        self, tenant_id: str, user_id: str, terms: Terms, names: tuple[Counter, ...] | None = None
    ) -> list[ScopeState]:
        now = self._clock.now()
        names = names or (Counter("user_daily", day_of(now)), Counter("user_monthly", month_of(now)))
        return [
            counters.user_state(
                name.scope,
                self._table.get(keys.counter_key(tenant_id, user_id, name)),
                terms.caps,
                resets_at(name.scope, now),
            )
            for name in names
        ]

    def tenant_state(self, terms: Terms) -> ScopeState:
        now = self._clock.now()
        shards = self.shards(terms, month_of(now))
        return ScopeState(
            "tenant_monthly",
            terms.caps.tenant_monthly,
            sum(shard.spent for shard in shards),
            sum(shard.reserved for shard in shards),
            resets_at("tenant_monthly", now),
        )


def home_shard(session_id: str, shards: int) -> int:
    return int.from_bytes(hashlib.sha256(session_id.encode()).digest()[:4]) % shards


class _Admission(Generic[T]):
    """One call on its way through the gate."""

    def __init__(
        self,
        treasury: Treasury,
        head: Head,
        terms: Terms,
        want: Want,
        *,
        wait_seconds: float,
        write: Callable[[Reservation, Caps], T],
    ) -> None:
        self.treasury = treasury
        self.head = head
        self.terms = terms
        self.want = want
        self.write = write
        self.give_up_at = treasury.monotonic() + wait_seconds
        self.asked = want.max_tokens
        self.waits = 0
        self.repairs = 0

    def run(self) -> T:
        if self.terms.tenant.paused:
            self.terms = self.treasury.refresh(self.head.tenant_id)
            self.stop_if_paused()
        while True:
            self.fit_task()
            reservation = self.reservation()
            try:
                return self.write(reservation, self.terms.caps)
            except CountersRefused as refused:
                self.react(reservation, refused.items)

    def reservation(self) -> Reservation:
        now = self.treasury.now()
        return Reservation(
            call=self.head.calls + 1,
            amount_nanousd=self.want.amount(self.asked),
            model=self.want.rates.model,
            max_tokens=self.asked,
            day=day_of(now),
            month=month_of(now),
            shard=home_shard(self.head.session_id, self.terms.tenant.shards),
            at=iso(now),
        )

    def fit_task(self) -> None:
        """The task's own cap: only this runner spends from it, so what the head says is exact."""
        cap = task_cap(self.terms.caps, self.head.limits)
        self.fit([ScopeState("task", cap, self.head.cost_nanousd, self.head.reserved_nanousd)])

    def react(self, reservation: Reservation, items: Mapping[Counter, Item | None]) -> None:
        """Make the next try differ from the one that was refused, or raise."""
        states: list[ScopeState] = []
        for counter, item in items.items():
            if counter.scope == "tenant_monthly":
                if self.repair(item):
                    return
                states.append(self.treasury.tenant_state(self.terms))
            else:
                resets = resets_at(counter.scope, self.treasury.now())
                states.append(counters.user_state(counter.scope, item, self.terms.caps, resets))
        fits = self.fit(states)
        if fits and any(state.scope == "tenant_monthly" for state in states):
            self.bring_budget(reservation)

    def fit(self, states: list[ScopeState]) -> bool:
        """Ask for what these scopes afford; wait where that is nothing useful, or raise. False after waiting."""
        available = [state.available for state in states if state.available is not None]
        if not available:
            return True
        budget = min(available)
        if self.want.amount(self.asked) <= budget:
            return True
        if self.want.look_closer():
            return self.fit(states)
        affordable = self.want.affordable(budget)
        if affordable >= useful_tokens(self.want.max_tokens):
            self.asked = min(affordable, self.want.max_tokens)
            return True
        refusal = refusing_scope(states, self.want.least)
        assert refusal is not None
        state, contended = refusal
        if contended and self.treasury.monotonic() < self.give_up_at:
            self.treasury.pause(self.waits)
            self.waits += 1
            self.asked = self.want.max_tokens
            return False
        raise CostCapExceeded(
            scope=state.scope,
            limit_nanousd=state.cap or 0,
            spent_nanousd=state.spent,
            reserved_nanousd=state.reserved,
            needed_nanousd=self.want.least,
            contended=contended,
            resets_at=state.resets_at,
        )

    def repair(self, item: Item | None) -> bool:
        """Where the shard was refused for its terms rather than its money, bring both up to date. True if so."""
        caps = self.terms.caps
        current = item is not None and item["caps"] == caps.fingerprint
        if current and item is not None and not item["paused"] and not item["closed"]:
            return False
        self.terms = self.treasury.refresh(self.head.tenant_id)
        self.stop_if_paused()
        closed_in_red = current and item is not None and item["closed"]
        if closed_in_red:
            state = self.treasury.tenant_state(self.terms)
            if (state.available or 0) <= 0:
                self.fit([state])
                return True
        self.treasury.lay_out(self.terms)
        self.repairs += 1
        if self.repairs > 1:
            self.treasury.pause(min(self.repairs, 4))
        return True

    def bring_budget(self, reservation: Reservation) -> None:
        """Move what this shard lacks from the others."""
        shards = self.treasury.shards(self.terms, reservation.month)
        if not any(shard.index == reservation.shard for shard in shards):
            return
        for move in moves_into(shards, reservation.shard, self.want.amount(self.asked)):
            if not self.treasury.move(self.head.tenant_id, reservation.month, move, self.terms.caps):
                self.treasury.pause(self.waits)
                self.waits += 1
                return

    def stop_if_paused(self) -> None:
        if self.terms.tenant.paused:
            raise TenantPaused(f"tenant {self.head.tenant_id} is paused by its operator")


__all__ = ["CountersRefused", "Treasury", "Want", "home_shard"]
