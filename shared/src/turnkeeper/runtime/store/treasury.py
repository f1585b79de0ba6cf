"""Admission: a call is let through only by a conditional write that holds in all scopes at once.

The caller's own write (the input, the iteration, the lease check) carries the reservation, so the common case costs no
round trip of its own. Only where a condition fails does the treasury look at the counters: it moves budget between
shards, waits for money in flight, asks for less where money is spent, or refuses.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Generic, TypeVar

from turnkeeper.core.caps import Caps
from turnkeeper.core.errors import CostCapExceeded, Forbidden, TenantPaused, TurnkeeperError, Unavailable
from turnkeeper.core.ledger import (
    Amounts,
    Clamp,
    Counter,
    Move,
    Payer,
    Reservation,
    ScopeState,
    Shard,
    iso,
    moves_into,
    refusing_scope,
    useful_tokens,
)
from turnkeeper.core.policy import Terms
from turnkeeper.core.scopes import DAYS_IN_MONTHS, SCOPES, SHARDED, Scope
from turnkeeper.core.session import Head
from turnkeeper.ports import Clock, Ids
from turnkeeper.runtime.pauses import pause
from turnkeeper.runtime.store import counters, keys
from turnkeeper.runtime.store.holders import Holder, Want
from turnkeeper.runtime.store.tenants import Tenants
from turnkeeper.table import Cond, ConditionFailed, Item, Key, StoreBusy, Table, Update

T = TypeVar("T")

#: A call that has waited long enough still tries this often where others are faster, or change the terms.
_MAX_TRIES = 12


class CountersRefused(TurnkeeperError):
    """The write was sound but for some counters. ``items`` are those, as they stood."""

    code = "counters_refused"

    #: By counter, its item.
    items: dict[Counter, Item | None]

    def __init__(self, counted: Mapping[int, tuple[Counter, ...]], failures: Mapping[int, Item | None]) -> None:
        super().__init__("a counter does not admit the reservation")
        self.items = {counter: item for index, item in failures.items() for counter in counted[index]}


@dataclass(frozen=True, slots=True)
class Admitted:
    """What a call is let through with: the money, the terms that it was admitted under, and the cap that made it
    smaller than it wants to be, where one did."""

    reservation: Reservation
    terms: Terms
    #: Those of the terms, and what the holder's own task may cost.
    caps: Caps
    clamp: Clamp | None
    #: How long it waited for money in flight.
    waited_ms: int = 0


class Treasury:
    """``joins``: months are begun with their days in one item; not while a release runs that cannot read it."""

    def __init__(self, table: Table, tenants: Tenants, clock: Clock, ids: Ids, *, joins: bool = True) -> None:
        self.forms = counters.Forms(joins)
        self._table = table
        self._tenants = tenants
        self._clock = clock
        self._ids = ids

    def admit(
        self,
        holder: Holder,
        terms: Terms,
        want: Want,
        *,
        wait_seconds: float,
        or_less: bool = False,
        stop: Callable[[], bool] = lambda: False,
        write: Callable[[Admitted], T],
    ) -> T:
        """Reserve in every scope with the caller's write; what the write returns.

        Money that is spent makes the call smaller at once. Money in flight, which may be free soon, makes it wait.

        Args:
            terms: as they were last known; where they have changed since, the admission goes by the new ones.
            write: commits the reservation with everything it belongs to, under the terms it is given; raises
                CountersRefused.
            wait_seconds: how long it may wait for money in flight.
            or_less: after that wait, take what is left where it is useful, rather than be refused.
            stop: it is not to wait any longer, whatever time it has.

        Raises:
            CostCapExceeded: ``contended`` where only money in flight is in the way; else no useful call is admitted.
            Forbidden: the holder's purse was closed.
            TenantPaused: the kill switch is on.
            Unavailable: the terms keep changing under it.
        """
        give_up_at = self.monotonic() + wait_seconds
        return _Admission(self, holder, terms, want, give_up_at, or_less, stop, write).run()

    # What an admission does to the world; here, so that it shares the ports.

    def now(self) -> datetime:
        return self._clock.now()

    def monotonic(self) -> float:
        return self._clock.monotonic()

    def pause(self, attempt: int) -> None:
        pause(self._clock, self._ids, attempt)

    def one_of(self, shards: Sequence[Shard]) -> Shard:
        return shards[int(self._ids.jitter() * len(shards))]

    def refresh(self, tenant_id: str) -> Terms:
        return self._tenants.terms(tenant_id)

    def lay_out(self, terms: Terms) -> None:
        self._tenants.lay_out(terms)

    def move(self, tenant_id: str, period: str, move: Move, caps: Caps) -> bool:
        """Move budget between two shards; False where the source has it no more, or others write them all the time."""
        same = Cond("caps", "=", caps.fingerprint)
        take = Update(
            keys.shard_key(tenant_id, period, move.source),
            add={"share": -move.amount, "remaining": -move.amount},
            conditions=(same, Cond("remaining", ">=", move.amount)),
        )
        give = Update(
            keys.shard_key(tenant_id, period, move.target),
            add={"share": move.amount, "remaining": move.amount},
            conditions=(same, Cond("closed", "=", False)),
        )
        try:
            self._table.write([take, give])
        except (ConditionFailed, StoreBusy):
            return False
        return True

    # ---- how scopes stand ----

    def task_state(self, head: Head, terms: Terms) -> ScopeState:
        holder = Holder.of(head)
        return holder.task_state(holder.caps(terms))

    def states_of(self, head: Head, terms: Terms) -> list[ScopeState]:
        """All scopes that a call of the session has to fit in."""
        return [self.task_state(head, terms), *self.states(terms, head.user_id, [head.agent])]

    def shards(self, terms: Terms, period: str) -> tuple[list[Shard], ScopeState]:
        """The shards of a month, and how they stand together."""
        items = self._tenants.shard_items(terms, period)
        shards = list(map(counters.shard_of, items))
        amounts = [Amounts(shard.spent, shard.reserved) for shard in shards]
        return shards, counters.state_of(SHARDED.name, amounts, terms.caps, self._clock.now())

    def states(self, terms: Terms, user_id: str, agents: Sequence[str]) -> list[ScopeState]:
        """All scopes but tasks, for reports: the user's, the tenant's, and those of the agents, where they count."""
        now, caps, tenant_id = self._clock.now(), terms.caps, terms.tenant.tenant_id
        wanted = [
            (scope, Payer(tenant_id, user_id, agent))
            for scope, row in SCOPES.items()
            for agent in (agents if row.holder == "agent" else [None])
            if caps.counts(scope, agent)
        ]
        # A day is in an item of its own or in its month's, and nothing in the other.
        at = {
            (scope, payer, counter): keys.counter_key(payer, counter)
            for scope, payer in wanted
            if not SCOPES[scope].sharded
            for joined in {False, scope in DAYS_IN_MONTHS}
            for counter in [Counter(scope, caps.period(scope, now), joined=joined)]
        }
        found = {Key(item["pk"], item["sk"]): item for item in self._table.batch_get(list(set(at.values())))}

        def state(scope: Scope, payer: Payer) -> ScopeState:
            if SCOPES[scope].sharded:
                return self.shards(terms, caps.period(scope, now))[1]
            amounts = [counters.held(c, found.get(key)) for (s, p, c), key in at.items() if (s, p) == (scope, payer)]
            return counters.state_of(scope, amounts, caps, now, payer.agent)

        return [state(scope, payer) for scope, payer in wanted]


def home_shard(session_id: str, shards: int) -> int:
    """The shard that a session's calls are reserved in while it has money for them."""
    return int.from_bytes(hashlib.sha256(session_id.encode()).digest()[:4]) % shards


@dataclass
class _Admission(Generic[T]):
    """One call on its way through the gate."""

    treasury: Treasury
    holder: Holder
    terms: Terms
    want: Want
    give_up_at: float
    or_less: bool
    stop: Callable[[], bool]
    write: Callable[[Admitted], T]
    #: Those of the terms, as they are for this holder.
    caps: Caps = field(init=False)
    #: What is asked for now, and what made it less than is wanted.
    asked: int = field(init=False)
    clamp: Clamp | None = None
    #: Where to reserve instead of the session's own shard, which has too little left.
    shard: int | None = None
    renewed: bool = False
    waits: int = 0
    waited_seconds: float = 0.0
    repairs: int = 0
    searches: int = 0

    def __post_init__(self) -> None:
        self.caps = self.holder.caps(self.terms)
        self.ask_for_all()

    def run(self) -> T:
        if self.terms.tenant.paused:
            self.renew_terms()
        while True:
            self.fit_task()
            reservation = self.reservation()
            try:
                waited_ms = int(self.waited_seconds * 1000)
                return self.write(Admitted(reservation, self.terms, self.caps, self.clamp, waited_ms))
            except CountersRefused as refused:
                self.react(reservation, refused.items)

    def reservation(self) -> Reservation:
        now = self.treasury.now()
        home = home_shard(self.holder.name, self.terms.tenant.shards)
        periods = self.holder.periods(self.caps, now)
        return Reservation(
            call=self.holder.call,
            amount_nanousd=self.want.amount(self.asked),
            model=self.want.rates.model,
            max_tokens=self.asked,
            periods=periods,
            shard=home if self.shard is None else self.shard,
            at=iso(now),
            joined=self.treasury.forms.joined(self.holder.payer, periods),
        )

    def fit_task(self) -> None:
        """The task's own cap, where only this runner spends from it, so that what the head says is exact. No counter's
        condition would tell that the cap was changed since the terms were read, so they are read again before it
        refuses."""
        if self.holder.in_head is None:
            return
        available = self.holder.task_state(self.caps).available
        if available is not None and self.want.amount(self.asked) > available and not self.renewed:
            self.renew_terms()
        self.fit([self.holder.task_state(self.caps)])

    def react(self, reservation: Reservation, items: Mapping[Counter, Item | None]) -> None:
        """Make the next try differ from the one that was refused, or raise."""
        now, caps, agent = self.treasury.now(), self.caps, self.holder.payer.agent
        if self.holder.periods(caps, now) != reservation.periods:
            self.ask_for_all()
            return  # A new day has begun, with counters of its own.
        if self.treasury.forms.are_other(self.holder.payer, reservation, items):
            return
        if any(item is not None and item.get("closed") for counter, item in items.items() if counter.scope == "task"):
            raise Forbidden("this purse was closed")
        sharded = next((counter for counter in items if counter.scope == SHARDED.name), None)
        if sharded is not None and self.repair(items[sharded]):
            return
        states = [
            counters.state_of(counter.scope, [counters.held(counter, item)], caps, now, agent)
            for counter, item in items.items()
            if counter is not sharded
        ]
        if sharded is None:
            self.fit(states)
            return
        shards, tenant = self.treasury.shards(self.terms, sharded.period)
        if self.fit([*states, tenant]):
            self.find_budget(reservation, shards, tenant)

    def fit(self, states: list[ScopeState]) -> bool:
        """Ask for what the unspent money of these scopes affords; where money in flight is in the way of that, wait,
        or raise. False after waiting."""
        capped = [state for state in states if state.cap is not None]
        available = min((state.available or 0 for state in capped), default=None)
        if available is None or self.want.amount(self.asked) <= available:
            return True
        if self.want.look_closer():
            return self.fit(states)
        least = useful_tokens(self.want.max_tokens)
        unspent = self.want.affordable(min(state.unspent or 0 for state in capped))
        if unspent < least:
            raise self.refusal(capped, least)
        if unspent < self.asked:
            self.ask_for_less(unspent, capped)
        if self.want.amount(self.asked) <= available:
            return True
        if (began := self.treasury.monotonic()) < self.give_up_at and not self.stop():
            self.treasury.pause(self.waits)
            self.waits += 1
            self.waited_seconds += self.treasury.monotonic() - began
            self.ask_for_all()
            return False
        left = self.want.affordable(available)
        if left < least or not self.or_less or self.stop():
            raise self.refusal(capped, self.asked)
        self.ask_for_less(left, capped)
        return True

    def ask_for_all(self) -> None:
        self.asked, self.clamp = self.want.max_tokens, None

    def ask_for_less(self, max_tokens: int, states: list[ScopeState]) -> None:
        self.clamp = Clamp(self.refusal(states, self.asked), max_tokens, self.want.max_tokens)
        self.asked = max_tokens

    def refusal(self, states: list[ScopeState], max_tokens: int) -> CostCapExceeded:
        """What is answered where these scopes do not admit so many tokens. Where together they would, it is the shards
        that others keep emptying: which is contended as well."""
        needed = self.want.amount(max_tokens)
        state, contended = refusing_scope(states, needed) or (states[-1], True)
        return CostCapExceeded(
            scope=state.scope,
            limit_nanousd=state.cap or 0,
            spent_nanousd=state.spent,
            reserved_nanousd=state.reserved,
            needed_nanousd=needed,
            contended=contended,
            resets_at=state.resets_at,
            waited_seconds=self.waited_seconds,
        )

    def repair(self, item: Item | None) -> bool:
        """Where the shard was refused for its terms rather than its money, bring both up to date. True if so."""
        current = item is not None and item["caps"] == self.terms.caps.fingerprint
        if current and item is not None and not item["paused"] and not item["closed"]:
            return False
        if self.repairs > 1:
            self.treasury.pause(min(self.repairs, 4))
        self.renew_terms()
        self.shard = None
        if current and item is not None and item["closed"]:
            # Closed by a cap below what was committed. Enough may have been released since.
            _, state = self.treasury.shards(self.terms, self.terms.caps.period(SHARDED.name, self.treasury.now()))
            if state.available is not None and state.available < 0:
                self.fit([state])
                return True
        self.repairs += 1
        if self.repairs > _MAX_TRIES and self.treasury.monotonic() >= self.give_up_at:
            raise Unavailable("the tenant's terms keep changing; try again", retry_after_seconds=1)
        self.treasury.lay_out(self.terms)
        return True

    def find_budget(self, reservation: Reservation, shards: list[Shard], state: ScopeState) -> None:
        """Other shards have what this one lacks: move it here, so that the next calls find it here too. Where others
        took it away again meanwhile, reserve in any shard that has enough instead."""
        self.searches += 1
        if self.searches > _MAX_TRIES and self.treasury.monotonic() >= self.give_up_at:
            raise self.refusal([state], self.asked)
        if self.searches > 2:
            self.treasury.pause(min(self.searches - 3, 3))
        amount = self.want.amount(self.asked)
        if self.searches > 1:
            roomy = [shard for shard in shards if not shard.closed and (shard.remaining or 0) >= amount]
            if roomy:
                self.shard = self.treasury.one_of(roomy).index
                return
        period = reservation.periods[SHARDED.name]
        for move in moves_into(shards, reservation.shard, amount):
            if not self.treasury.move(self.holder.payer.tenant_id, period, move, self.terms.caps):
                return

    def renew_terms(self) -> None:
        """Read the tenant's record again.

        Raises:
            TenantPaused: the kill switch is on.
        """
        self.terms = self.treasury.refresh(self.holder.payer.tenant_id)
        self.caps = self.holder.caps(self.terms)
        self.renewed = True
        self.ask_for_all()
        if self.terms.tenant.paused:
            raise TenantPaused(f"tenant {self.holder.payer.tenant_id} is paused by its operator")
