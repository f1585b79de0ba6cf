"""No interleaving of the ledger's movements overspends or loses a unit.

The machine holds counters in plain dictionaries and applies what :mod:`turnkeeper.core.ledger` says to them, under the
conditions that the store puts on its writes. Between looking and writing anything may happen: layouts and moves are
computed from a snapshot and applied later, calls are admitted by whatever terms their runner last read.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, multiple, rule

from turnkeeper.core.ledger import (
    Counter,
    Move,
    Movement,
    Shard,
    apply_moves,
    moves_into,
    relayout,
    reserve,
    resolve,
    split,
)
from turnkeeper.core.session import Reservation

USERS = ("ann", "bob")
MONTHS = ("2026-01", "2026-02", "2026-03")

caps = st.one_of(st.none(), st.integers(0, 120))
amounts = st.integers(0, 60)
counts = st.integers(1, 6)
admissions = st.tuples(st.sampled_from(USERS), amounts, st.integers(0, 5))


@dataclass(frozen=True)
class Terms:
    version: int
    day: int | None
    month: int | None
    tenant: int | None
    count: int

    @property
    def fingerprint(self) -> tuple[object, ...]:
        """Everything but the version: going back to old caps goes back to their fingerprint."""
        return (self.day, self.month, self.tenant, self.count)


@dataclass
class UserItem:
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
    caps: tuple[object, ...]
    paused: bool = False

    def shard(self, index: int) -> Shard:
        return Shard(index, self.share, self.spent, self.reserved, self.closed)


@dataclass
class Call:
    user: str
    reservation: Reservation
    state: str = "pending"
    spent: int = 0


@dataclass(frozen=True)
class Snapshot:
    """What somebody saw of a month's shards, with the record as it stood."""

    month: str
    terms: Terms
    shards: tuple[Shard, ...]
    caps: dict[int, tuple[object, ...]] = field(hash=False)


class LedgerMachine(RuleBasedStateMachine):
    snapshots = Bundle("snapshots")
    pending = Bundle("pending")
    moves = Bundle("moves")

    def __init__(self) -> None:
        super().__init__()
        self.terms = Terms(0, None, None, None, 1)
        self.history: list[Terms] = [self.terms]
        self.today = 0
        self.users: dict[tuple[str, Counter], UserItem] = {}
        self.shards: dict[tuple[str, int], ShardItem] = {}
        self.calls: list[Call] = []

    @initialize(day=caps, month=caps, tenant=caps, count=counts)
    def begin(self, day: int | None, month: int | None, tenant: int | None, count: int) -> None:
        self.terms = Terms(1, day, month, tenant, count)
        self.history.append(self.terms)

    # ---- time ----

    @property
    def month(self) -> str:
        return MONTHS[self.today // 3]

    @property
    def day(self) -> str:
        return f"{self.month}-{self.today % 3 + 1:02d}"

    @rule()
    def next_day(self) -> None:
        self.today = min(self.today + 1, 3 * len(MONTHS) - 1)

    # ---- looking ----

    def look(self, month: str) -> Snapshot:
        mine = {index: item for (of, index), item in self.shards.items() if of == month}
        return Snapshot(
            month,
            self.terms,
            tuple(item.shard(index) for index, item in sorted(mine.items())),
            {index: item.caps for index, item in mine.items()},
        )

    @rule(target=snapshots)
    def take_snapshot(self) -> Snapshot:
        return self.look(self.month)

    # ---- layouts ----

    def write_layout(self, seen: Snapshot, terms: Terms) -> bool:
        """One transaction: the record still as it was seen, and each shard under its conditions."""
        if self.terms != seen.terms:
            return False
        wanted = relayout(seen.shards, terms.tenant, terms.count)
        in_red = all(shard.closed for shard in wanted)
        before = {shard.index: shard for shard in seen.shards}
        for shard in wanted:
            item = self.shards.get((seen.month, shard.index))
            if shard.index not in before:
                if item is not None:
                    return False
                continue
            was = before[shard.index]
            assert item is not None
            by = (shard.share or 0) - (was.share or 0)
            if item.share != was.share or item.caps != seen.caps[shard.index]:
                return False
            if shard.share is not None and not in_red and item.remaining < -by:
                return False
        for shard in wanted:
            if shard.index in before:
                item = self.shards[seen.month, shard.index]
                item.remaining += (shard.share or 0) - (before[shard.index].share or 0)
                item.share, item.closed, item.caps, item.paused = shard.share, shard.closed, terms.fingerprint, False
            else:
                self.shards[seen.month, shard.index] = ShardItem(
                    shard.share, 0, 0, shard.share or 0, shard.closed, terms.fingerprint
                )
        self.terms = terms
        if terms != self.history[-1]:
            self.history.append(terms)
        return True

    @rule(seen=snapshots, day=caps, month=caps, tenant=caps, count=counts)
    def change_terms(self, seen: Snapshot, day: int | None, month: int | None, tenant: int | None, count: int) -> None:
        if seen.month == self.month:
            self.write_layout(seen, Terms(self.terms.version + 1, day, month, tenant, count))

    @rule(tenant=caps, count=counts)
    def change_terms_at_once(self, tenant: int | None, count: int) -> None:
        terms = Terms(self.terms.version + 1, self.terms.day, self.terms.month, tenant, count)
        assert self.write_layout(self.look(self.month), terms)

    @rule(day=caps, month=caps, tenant=caps, count=counts, between=st.lists(admissions, min_size=1, max_size=6))
    def change_terms_under_traffic(
        self, day: int | None, month: int | None, tenant: int | None, count: int, between: list[tuple[str, int, int]]
    ) -> None:
        """Calls come in between looking at the shards and writing them."""
        seen = self.look(self.month)
        old = self.terms
        for user, amount, session in between:
            self.write_reservation(user, amount, session % old.count, old)
        self.write_layout(seen, Terms(old.version + 1, day, month, tenant, count))
        for user, amount, session in between:
            self.write_reservation(user, amount, session % old.count, old)
            self.write_reservation(user, amount, session % self.terms.count, self.terms)

    @rule(seen=snapshots)
    def lay_out_again(self, seen: Snapshot) -> None:
        """What a refused call does: the same terms, from what it saw."""
        self.write_layout(seen, self.terms)

    # ---- moves ----

    @rule(target=moves, seen=snapshots, shard=st.integers(0, 5), wanted=amounts)
    def plan_moves(self, seen: Snapshot, shard: int, wanted: int) -> object:
        if not any(known.index == shard for known in seen.shards):
            return multiple()
        planned = moves_into(seen.shards, shard, wanted)
        total = sum(known.share or 0 for known in seen.shards)
        assert sum(known.share or 0 for known in apply_moves(seen.shards, planned)) == total
        return multiple(*((seen, move) for move in planned))

    @rule(planned=consumes(moves))
    def move_late(self, planned: tuple[Snapshot, Move]) -> None:
        seen, move = planned
        self.write_move(seen.month, seen.terms, move)

    def write_move(self, month: str, terms: Terms, move: Move) -> bool:
        source, target = self.shards[month, move.source], self.shards[month, move.target]
        if source.caps != terms.fingerprint or target.caps != terms.fingerprint:
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

    @rule(target=pending, user=st.sampled_from(USERS), amount=amounts, session=st.integers(0, 20), data=st.data())
    def admit(self, user: str, amount: int, session: int, data: st.DataObject) -> object:
        """By the terms that this runner last read, however old."""
        terms = data.draw(st.sampled_from(self.history[-4:]))
        call = self.write_reservation(user, amount, session % terms.count, terms)
        return multiple() if call is None else call

    def write_reservation(self, user: str, amount: int, shard: int, terms: Terms) -> Call | None:
        reservation = Reservation(
            call=len(self.calls) + 1,
            amount_nanousd=amount,
            model="model",
            max_tokens=1,
            day=self.day,
            month=self.month,
            shard=shard,
            at="",
        )
        movements = reserve(reservation)
        if not all(self.admits(user, movement, terms) for movement in movements):
            return None
        self.apply(user, movements)
        call = Call(user, reservation)
        self.calls.append(call)
        # The caps in force are those of the record as it is now, not those that the runner knew.
        for cap, committed in (
            (self.terms.day, self.users[user, movements[0].counter].committed),
            (self.terms.month, self.users[user, movements[1].counter].committed),
            (self.terms.tenant, sum(i.spent + i.reserved for (of, _), i in self.shards.items() if of == self.month)),
        ):
            assert cap is None or committed <= cap
        return call

    def admits(self, user: str, movement: Movement, terms: Terms) -> bool:
        assert movement.admits
        if movement.counter.scope == "tenant_monthly":
            item = self.shards.get((movement.counter.period, movement.counter.shard))
            if item is None or item.caps != terms.fingerprint or item.paused or item.closed:
                return False
            return terms.tenant is None or item.remaining >= movement.committed
        cap = terms.day if movement.counter.scope == "user_daily" else terms.month
        held = self.users.get((user, movement.counter))
        if cap is None:
            return True
        if held is None:
            return movement.committed <= cap
        return held.committed <= cap - movement.committed

    def apply(self, user: str, movements: list[Movement]) -> None:
        for movement in movements:
            if movement.counter.scope == "tenant_monthly":
                shard = self.shards[movement.counter.period, movement.counter.shard]
                shard.spent += movement.spent
                shard.reserved += movement.reserved
                shard.remaining -= movement.committed
            else:
                held = self.users.setdefault((user, movement.counter), UserItem())
                held.spent += movement.spent
                held.reserved += movement.reserved
                held.committed += movement.committed

    def resolve(self, call: Call, state: str, spent: int) -> None:
        call.state, call.spent = state, spent
        self.apply(call.user, resolve(call.reservation, spent))

    @rule(call=consumes(pending), part=st.integers(0, 100))
    def settle(self, call: Call, part: int) -> None:
        self.resolve(call, "settled", call.reservation.amount_nanousd * part // 100)

    @rule(call=consumes(pending))
    def void(self, call: Call) -> None:
        self.resolve(call, "voided", 0)

    @rule(call=consumes(pending))
    def expire(self, call: Call) -> None:
        self.resolve(call, "in_doubt", call.reservation.amount_nanousd)

    @rule(user=st.sampled_from(USERS), shard=st.integers(0, 5))
    def take_the_last_cent(self, user: str, shard: int) -> None:
        """Whatever happened: what the scopes still have can be reserved to the last unit, and not one more."""
        if self.terms.tenant is None:
            return
        assert self.write_layout(self.look(self.month), self.terms)
        shard %= self.terms.count
        left = [self.terms.tenant - sum(known.spent + known.reserved for known in self.look(self.month).shards)]
        of_user = {
            Counter("user_daily", self.day): self.terms.day,
            Counter("user_monthly", self.month): self.terms.month,
        }
        for counter, cap in of_user.items():
            if cap is not None:
                left.append(cap - self.users.get((user, counter), UserItem()).committed)
        amount = min(left)
        if amount <= 0:
            assert self.write_reservation(user, 1, shard, self.terms) is None
            return
        for move in moves_into(self.look(self.month).shards, shard, amount):
            assert self.write_move(self.month, self.terms, move)
        call = self.write_reservation(user, amount, shard, self.terms)
        assert call is not None
        for other in range(self.terms.count):
            assert self.write_reservation(user, 1, other, self.terms) is None
        self.resolve(call, "voided", 0)

    # ---- what always holds ----

    @invariant()
    def shares_add_up_to_the_cap(self) -> None:
        for month in MONTHS:
            items = [item for (of, _), item in self.shards.items() if of == month]
            if not items:
                continue
            # Another month's shards keep the caps that they were dealt by.
            assert len({item.caps for item in items}) == 1
            cap = items[0].caps[2]
            if cap is None:
                assert all(item.share is None for item in items)
            else:
                assert sum(item.share or 0 for item in items) == cap
            for item in items:
                assert item.remaining == (item.share or 0) - item.spent - item.reserved

    @invariant()
    def open_shards_are_never_in_the_red(self) -> None:
        for item in self.shards.values():
            if item.share is not None and not item.closed:
                assert item.remaining >= 0
        for month in MONTHS:
            items = [item for (of, _), item in self.shards.items() if of == month]
            if any(not item.closed for item in items) and all(item.share is not None for item in items):
                assert all(item.remaining >= 0 for item in items)

    @invariant()
    def counters_are_the_sum_of_the_ledger(self) -> None:
        for (user, counter), item in self.users.items():
            period = counter.period
            calls = [c for c in self.calls if c.user == user and period in (c.reservation.day, c.reservation.month)]
            self.check(item, calls)
            assert item.committed == item.spent + item.reserved
        for (month, index), shard in self.shards.items():
            self.check(shard, [c for c in self.calls if (c.reservation.month, c.reservation.shard) == (month, index)])

    @staticmethod
    def check(item: UserItem | ShardItem, calls: list[Call]) -> None:
        assert item.spent == sum(call.spent for call in calls)
        assert item.reserved == sum(call.reservation.amount_nanousd for call in calls if call.state == "pending")

    def teardown(self) -> None:
        for call in self.calls:
            if call.state == "pending":
                self.resolve(call, "in_doubt", call.reservation.amount_nanousd)
        assert all(item.reserved == 0 for item in (*self.users.values(), *self.shards.values()))


TestLedger = LedgerMachine.TestCase
TestLedger.settings = settings(max_examples=300, stateful_step_count=60, deadline=None)


def test_shares_differ_by_at_most_one_unit_and_add_up() -> None:
    for cap in (0, 1, 7, 1_000_000_007):
        for count in range(1, 33):
            shares = split(cap, count)
            assert sum(shares) == cap
            assert max(shares) - min(shares) <= 1
