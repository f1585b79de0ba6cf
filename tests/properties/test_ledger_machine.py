"""No interleaving of the ledger's movements overspends or loses a unit.

The machine holds counters in plain dictionaries and applies what :mod:`turnkeeper.core.ledger` says to them, under the
conditions that the store puts on its writes. Between looking and writing anything may happen: layouts and moves are
computed from a snapshot and applied later, calls are admitted by whatever terms their runner last read, by clocks that
differ.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import cached_property

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, multiple, rule

from tests.support.examples import examples
from turnkeeper.core.caps import NO_CAP, CapRule, Caps, caps_from
from turnkeeper.core.ledger import (
    Move,
    Movement,
    Payer,
    Reservation,
    Shard,
    moves_into,
    relayout,
    reserve,
    resolve,
    split,
)
from turnkeeper.core.periods import period_of
from turnkeeper.core.scopes import SCOPES, SHARDED, Scope
from turnkeeper.runtime.store.keys import counter_key, shard_key
from turnkeeper.table import Key

pytestmark = pytest.mark.examples

AGENTS = ("support", "research")
PAYERS = tuple(Payer("acme", user, agent) for user in ("ann", "bob") for agent in AGENTS)
ZONES = ("UTC", "Europe/Zurich", "Pacific/Kiritimati", "Etc/GMT+12")
START = datetime(2026, 1, 30, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)

caps = st.one_of(st.none(), st.integers(0, 120))
amounts = st.integers(0, 60)
counts = st.integers(1, 6)
payers = st.sampled_from(PAYERS)
zones = st.sampled_from(ZONES)
admissions = st.tuples(payers, amounts, st.integers(0, 5))
#: How far a runner's clock may be off.
skews = st.sampled_from([timedelta(), timedelta(), HOUR, -HOUR])


def rules_of(scope: Scope) -> st.SearchStrategy[CapRule]:
    if SCOPES[scope].holder == "task":
        return st.just(NO_CAP)  # A task is counted in its session's head, which is not in this machine.
    by_agent = st.dictionaries(st.sampled_from(AGENTS), caps) if SCOPES[scope].by_agent else st.just({})
    return st.builds(CapRule, caps, by_agent)


rules = st.fixed_dictionaries({scope: rules_of(scope) for scope in SCOPES})
one_rule = st.sampled_from(list(SCOPES)).flatmap(lambda scope: st.tuples(st.just(scope), rules_of(scope)))


@dataclass(frozen=True)
class Terms:
    version: int
    rules: Mapping[Scope, CapRule] = field(hash=False)
    timezone: str
    count: int

    @cached_property
    def caps(self) -> Caps:
        return caps_from(self.rules, self.timezone, self.count)

    @property
    def tenant(self) -> int | None:
        return self.caps.cap(SHARDED.name)

    def month(self, now: datetime) -> str:
        return self.caps.period(SHARDED.name, now)


@dataclass
class Item:
    spent: int = 0
    reserved: int = 0
    committed: int = 0


@dataclass
class ShardItem:
    share: int | None
    spent: int
    reserved: int
    remaining: int
    closed: bool
    caps: str

    def shard(self, index: int) -> Shard:
        return Shard(index, self.share, self.spent, self.reserved, self.closed)


@dataclass
class Call:
    payer: Payer
    reservation: Reservation
    state: str = "pending"
    spent: int = 0

    @property
    def reserved(self) -> int:
        return self.reservation.amount_nanousd if self.state == "pending" else 0


@dataclass(frozen=True)
class Snapshot:
    """What somebody saw of the shards of all months, with the record as it stood."""

    at: datetime
    terms: Terms
    shards: Mapping[str, tuple[Shard, ...]] = field(hash=False)
    caps: Mapping[tuple[str, int], str] = field(hash=False)

    def of(self, month: str) -> tuple[Shard, ...]:
        return self.shards.get(month, ())


class LedgerMachine(RuleBasedStateMachine):
    snapshots = Bundle("snapshots")
    pending = Bundle("pending")
    moves = Bundle("moves")

    def __init__(self) -> None:
        super().__init__()
        self.now = START
        self.terms = Terms(0, dict.fromkeys(SCOPES, NO_CAP), "UTC", 1)
        self.history: list[Terms] = [self.terms]
        self.items: dict[Key, Item] = {}
        self.shards: dict[tuple[str, int], ShardItem] = {}
        self.calls: list[Call] = []

    @initialize(rules=rules, zone=zones, count=counts)
    def begin(self, rules: Mapping[Scope, CapRule], zone: str, count: int) -> None:
        self.terms = Terms(1, rules, zone, count)
        self.history.append(self.terms)

    # ---- time ----

    @rule(hours=st.sampled_from([1, 1, 7, 12, 24]))
    def time_passes(self, hours: int) -> None:
        self.now += hours * HOUR

    @rule(hours=st.integers(-16, 16))
    def to_the_end_of_the_month(self, hours: int) -> None:
        """Somewhere on earth it has ended, elsewhere it has not."""
        following = (self.now.replace(day=1, hour=0) + timedelta(days=32)).replace(day=1)
        self.now = max(self.now, following + hours * HOUR)

    # ---- looking ----

    def look(self) -> Snapshot:
        months = sorted({month for month, _ in self.shards})
        return Snapshot(
            self.now,
            self.terms,
            {
                month: tuple(item.shard(index) for (of, index), item in sorted(self.shards.items()) if of == month)
                for month in months
            },
            {place: item.caps for place, item in self.shards.items()},
        )

    @rule(target=snapshots)
    def take_snapshot(self) -> Snapshot:
        return self.look()

    # ---- layouts ----

    def write_layouts(self, seen: Snapshot, terms: Terms, months: set[str]) -> bool:
        """One transaction: the record still as it was seen, and each shard of these months under its conditions."""
        if self.terms != seen.terms:
            return False
        if not all(self.may_lay_out(seen, terms, month) for month in months):
            return False
        for month in months:
            before = {shard.index: shard for shard in seen.of(month)}
            for shard in relayout(seen.of(month), terms.tenant, terms.count):
                if shard.index in before:
                    item = self.shards[month, shard.index]
                    item.remaining += (shard.share or 0) - (before[shard.index].share or 0)
                    item.share, item.closed, item.caps = shard.share, shard.closed, terms.caps.fingerprint
                else:
                    self.shards[month, shard.index] = ShardItem(
                        shard.share, 0, 0, shard.share or 0, shard.closed, terms.caps.fingerprint
                    )
        self.terms = terms
        if terms != self.history[-1]:
            self.history.append(terms)
        return True

    def may_lay_out(self, seen: Snapshot, terms: Terms, month: str) -> bool:
        wanted = relayout(seen.of(month), terms.tenant, terms.count)
        all_closed = all(shard.closed for shard in wanted)
        before = {shard.index: shard for shard in seen.of(month)}
        for shard in wanted:
            item = self.shards.get((month, shard.index))
            if shard.index not in before:
                if item is not None:
                    return False
                continue
            was = before[shard.index]
            assert item is not None
            by = (shard.share or 0) - (was.share or 0)
            if item.share != was.share or item.caps != seen.caps[month, shard.index]:
                return False
            if shard.share is not None and not all_closed and item.remaining < -by:
                return False
        return True

    def write_change(self, seen: Snapshot, terms: Terms) -> bool:
        """The current month is laid out, and with it every month that a runner may take to be the current one."""
        anywhere = {period_of("month", seen.at + hours * HOUR, "UTC") for hours in (-13, 0, 15)}
        current = terms.month(seen.at)
        others = anywhere - {current}
        if any((month, 0) in self.shards and not seen.of(month) for month in others):
            return False
        return self.write_layouts(seen, terms, {current} | {month for month in others if seen.of(month)})

    def next_terms(self, terms: Terms, **changed: object) -> Terms:
        return replace(terms, version=terms.version + 1, **changed)  # type: ignore[arg-type]

    @rule(seen=snapshots, rules=rules, zone=zones, count=counts)
    def change_terms(self, seen: Snapshot, rules: Mapping[Scope, CapRule], zone: str, count: int) -> None:
        if self.now - seen.at <= HOUR:
            self.write_change(seen, self.next_terms(self.terms, rules=rules, timezone=zone, count=count))

    @rule(changed=one_rule)
    def change_one_cap(self, changed: tuple[Scope, CapRule]) -> None:
        scope, cap_rule = changed
        assert self.write_change(self.look(), self.next_terms(self.terms, rules={**self.terms.rules, scope: cap_rule}))

    @rule(zone=zones, count=counts)
    def change_zone_and_shards(self, zone: str, count: int) -> None:
        assert self.write_change(self.look(), self.next_terms(self.terms, timezone=zone, count=count))

    @rule(rules=rules, zone=zones, count=counts, between=st.lists(admissions, min_size=1, max_size=6))
    def change_terms_under_traffic(
        self,
        rules: Mapping[Scope, CapRule],
        zone: str,
        count: int,
        between: list[tuple[Payer, int, int]],
    ) -> None:
        """Calls come in between looking at the shards and writing them."""
        seen, old = self.look(), self.terms
        for payer, amount, session in between:
            self.write_reservation(payer, amount, session % old.count, old)
        self.write_change(seen, self.next_terms(old, rules=rules, timezone=zone, count=count))
        for payer, amount, session in between:
            self.write_reservation(payer, amount, session % old.count, old)
            self.write_reservation(payer, amount, session % self.terms.count, self.terms)

    @rule(seen=snapshots)
    def lay_out_again(self, seen: Snapshot) -> None:
        """What a refused call does: the same terms, from what it saw."""
        self.write_layouts(seen, self.terms, {self.terms.month(seen.at)})

    # ---- moves ----

    @rule(target=moves, seen=snapshots, shard=st.integers(0, 5), wanted=amounts)
    def plan_moves(self, seen: Snapshot, shard: int, wanted: int) -> object:
        month = seen.terms.month(seen.at)
        if not any(known.index == shard for known in seen.of(month)):
            return multiple()
        planned = moves_into(seen.of(month), shard, wanted)
        # Never more than a shard has left, and no more than is asked for from several.
        left = {known.index: known.remaining or 0 for known in seen.of(month)}
        assert all(0 < move.amount <= left[move.source] and move.target == shard for move in planned)
        assert len({move.source for move in planned}) == len(planned)
        return multiple(*((seen, month, move) for move in planned))

    @rule(planned=consumes(moves))
    def move_late(self, planned: tuple[Snapshot, str, Move]) -> None:
        seen, month, move = planned
        self.write_move(month, seen.terms, move)

    def write_move(self, month: str, terms: Terms, move: Move) -> bool:
        source, target = self.shards[month, move.source], self.shards[month, move.target]
        if {source.caps, target.caps} != {terms.caps.fingerprint}:
            return False
        if source.remaining < move.amount or target.closed:
            return False
        assert source.share is not None and target.share is not None
        source.share -= move.amount
        source.remaining -= move.amount
        target.share += move.amount
        target.remaining += move.amount
        return True

    # ---- money ----

    @rule(target=pending, payer=payers, amount=amounts, session=st.integers(0, 20), skew=skews, data=st.data())
    def admit(self, payer: Payer, amount: int, session: int, skew: timedelta, data: st.DataObject) -> object:
        """By the terms that this runner last read, however old."""
        terms = data.draw(st.sampled_from(self.history[-4:]))
        call = self.write_reservation(payer, amount, session % terms.count, terms, skew)
        return multiple() if call is None else call

    def write_reservation(
        self, payer: Payer, amount: int, shard: int, terms: Terms, skew: timedelta = timedelta()
    ) -> Call | None:
        assert payer.agent is not None
        reservation = Reservation(
            call=len(self.calls) + 1,
            amount_nanousd=amount,
            model="model",
            max_tokens=1,
            periods=terms.caps.periods(payer.agent, self.now + skew),
            shard=shard,
            at="",
        )
        movements = reserve(reservation)
        if not all(self.admits(payer, movement, terms.caps) for movement in movements):
            return None
        self.apply(payer, movements)
        call = Call(payer, reservation)
        self.calls.append(call)
        # The terms in force are those of the record as it is now, not those that the runner knew.
        assert self.terms.caps == terms.caps
        for movement in movements:
            cap = self.terms.caps.cap(movement.counter.scope, payer.agent)
            assert cap is None or self.committed(payer, movement) <= cap
        capped = {scope for scope in SCOPES if self.terms.caps.cap(scope, payer.agent) is not None}
        assert capped - {"task"} <= reservation.periods.keys()
        return call

    def committed(self, payer: Payer, movement: Movement) -> int:
        if movement.counter.scope != SHARDED.name:
            return self.items[counter_key(payer, movement.counter)].committed
        month = movement.counter.period
        return sum(item.spent + item.reserved for (of, _), item in self.shards.items() if of == month)

    def admits(self, payer: Payer, movement: Movement, caps: Caps) -> bool:
        assert movement.admits
        counter = movement.counter
        cap = caps.cap(counter.scope, payer.agent)
        if counter.scope == SHARDED.name:
            shard = self.shards.get((counter.period, counter.shard))
            if shard is None or shard.caps != caps.fingerprint or shard.closed:
                return False
            return cap is None or shard.remaining >= movement.committed
        item = self.items.get(counter_key(payer, counter), Item())
        return cap is None or item.committed <= cap - movement.committed

    def apply(self, payer: Payer, movements: list[Movement]) -> None:
        for movement in movements:
            if movement.counter.scope == SHARDED.name:
                shard = self.shards[movement.counter.period, movement.counter.shard]
                shard.spent += movement.spent
                shard.reserved += movement.reserved
                shard.remaining -= movement.committed
            else:
                item = self.items.setdefault(counter_key(payer, movement.counter), Item())
                item.spent += movement.spent
                item.reserved += movement.reserved
                item.committed += movement.committed

    def resolve(self, call: Call, state: str, spent: int) -> None:
        call.state, call.spent = state, spent
        # The runner that settles it may have read it from the table.
        stored = Reservation.model_validate_json(call.reservation.model_dump_json())
        self.apply(call.payer, resolve(stored, spent))

    @rule(call=consumes(pending), part=st.integers(0, 100))
    def settle(self, call: Call, part: int) -> None:
        self.resolve(call, "settled", call.reservation.amount_nanousd * part // 100)

    @rule(call=consumes(pending))
    def void(self, call: Call) -> None:
        self.resolve(call, "voided", 0)

    @rule(call=consumes(pending))
    def expire(self, call: Call) -> None:
        self.resolve(call, "in_doubt", call.reservation.amount_nanousd)

    @rule(payer=payers, shard=st.integers(0, 5))
    def take_the_last_cent(self, payer: Payer, shard: int) -> None:
        """Whatever happened: what the scopes still have can be reserved to the last unit, and not one more."""
        assert payer.agent is not None
        if self.terms.tenant is None:
            return
        month = self.terms.month(self.now)
        assert self.write_layouts(self.look(), self.terms, {month})
        shard %= self.terms.count
        periods = self.terms.caps.periods(payer.agent, self.now)
        asked = reserve(
            Reservation(call=1, amount_nanousd=0, model="", max_tokens=1, periods=periods, shard=shard, at="")
        )
        left = [self.terms.tenant - sum(known.spent + known.reserved for known in self.look().of(month))]
        for movement in asked:
            cap = self.terms.caps.cap(movement.counter.scope, payer.agent)
            if movement.counter.scope != SHARDED.name and cap is not None:
                left.append(cap - self.items.get(counter_key(payer, movement.counter), Item()).committed)
        amount = min(left)
        if amount <= 0:
            assert self.write_reservation(payer, 1, shard, self.terms) is None
            return
        for move in moves_into(self.look().of(month), shard, amount):
            assert self.write_move(month, self.terms, move)
        call = self.write_reservation(payer, amount, shard, self.terms)
        assert call is not None
        for other in range(self.terms.count):
            assert self.write_reservation(payer, 1, other, self.terms) is None
        self.resolve(call, "voided", 0)

    # ---- what always holds ----

    def by_month(self) -> dict[str, list[ShardItem]]:
        months = sorted({month for month, _ in self.shards})
        return {month: [item for (of, _), item in self.shards.items() if of == month] for month in months}

    @invariant()
    def shares_add_up_to_the_cap(self) -> None:
        tenant_caps = {terms.caps.fingerprint: terms.tenant for terms in self.history}
        for items in self.by_month().values():
            # A month that is over keeps the caps that it was last dealt by.
            [fingerprint] = {item.caps for item in items}
            cap = tenant_caps[fingerprint]
            if cap is None:
                assert all(item.share is None for item in items)
            else:
                assert sum(item.share or 0 for item in items) == cap
            for item in items:
                assert item.remaining == (item.share or 0) - item.spent - item.reserved

    @invariant()
    def open_shards_are_never_in_the_red(self) -> None:
        for items in self.by_month().values():
            if any(not item.closed for item in items) and all(item.share is not None for item in items):
                assert all(item.remaining >= 0 for item in items)

    @invariant()
    def counters_are_the_sum_of_the_ledger(self) -> None:
        sums: dict[Key, tuple[int, int]] = {}
        for call in self.calls:
            for counter in call.reservation.counters:
                key = counter_key(call.payer, counter)
                spent, reserved = sums.get(key, (0, 0))
                sums[key] = (spent + call.spent, reserved + call.reserved)
        assert sums.keys() >= self.items.keys()
        for key, item in self.items.items():
            assert (item.spent, item.reserved) == sums.pop(key)
            assert item.committed == item.spent + item.reserved
        for (month, index), shard in self.shards.items():
            assert (shard.spent, shard.reserved) == sums.pop(shard_key("acme", month, index), (0, 0))
        assert not sums

    def teardown(self) -> None:
        for call in self.calls:
            if call.state == "pending":
                self.resolve(call, "in_doubt", call.reservation.amount_nanousd)
        assert all(item.reserved == 0 for item in (*self.items.values(), *self.shards.values()))


TestLedger = LedgerMachine.TestCase
TestLedger.settings = settings(max_examples=examples(80, all=300), stateful_step_count=60)


def test_shares_differ_by_at_most_one_unit_and_add_up() -> None:
    for cap in (0, 1, 7, 1_000_000_007):
        for count in range(1, 33):
            shares = split(cap, count)
            assert sum(shares) == cap
            assert max(shares) - min(shares) <= 1
