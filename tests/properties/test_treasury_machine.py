"""The real treasury over a table in memory: whatever comes between two requests, dies, or loses its answer, no cap is
passed and no unit lost.

One thread only. Interleavings come from the table: before a request that is told off for it, other things happen first,
so that a call is admitted, a cap changed or a reservation settled between any two requests of something else.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, Literal

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from tests.support.examples import examples
from tests.support.money import TENANT, Books, Till, exactly, policy
from turnkeeper.core.errors import CostCapExceeded, LeaseLost, TenantPaused, Unavailable
from turnkeeper.core.ledger import Clamp
from turnkeeper.core.periods import next_period
from turnkeeper.core.policy import Terms
from turnkeeper.core.scopes import SCOPES, SHARDED, Scope
from turnkeeper.core.session import Head
from turnkeeper.ports import Rates
from turnkeeper.runtime.store import codec
from turnkeeper.runtime.store.holders import Want
from turnkeeper.runtime.store.purses import PurseCall
from turnkeeper.runtime.store.sessions import SKEW_MILLIS
from turnkeeper.runtime.store.tenants import Tenants
from turnkeeper.table import Item, Key, StoreBusy
from turnkeeper.testing.clock import ManualClock, SeededIds
from turnkeeper.testing.faulty_table import Call, Crash, FaultyTable
from turnkeeper.testing.memory_blobs import MemoryBlobs
from turnkeeper.testing.memory_table import MemoryTable

pytestmark = pytest.mark.examples

#: How a runner may end in the middle of something.
DEATHS = (Crash, Unavailable, StoreBusy, LeaseLost)
LEASE_SECONDS = 30.0
POLICY = policy(
    small={"task": 60, "user_daily": 80, "user_monthly": 120, "tenant_monthly": 150, "agent_daily": 70},
    tight={
        "task": 40,
        "user_daily": 40,
        "user_monthly": 60,
        "tenant_monthly": 70,
        "agent_daily": {"support": 30},
        "timezone": "America/Los_Angeles",
    },
    free={"timezone": "Pacific/Auckland"},
)
USERS = ("ann", "bob")
AGENTS = ("support", "research", "research")
SESSIONS = [f"s{number}" for number in range(6)]

caps = st.one_of(st.none(), st.integers(0, 150))
overrides = st.dictionaries(st.sampled_from(list(SCOPES)), caps, max_size=2)


@dataclass(frozen=True)
class Admit:
    session: str
    amount: int
    stale: bool = False
    #: It takes less where it must: where money is spent, or, with ``or_less``, after its wait.
    clampable: bool = False
    or_less: bool = False
    careful: bool = False

    @property
    def want(self) -> Want:
        return Want(Rates("model", "test", 0, 100_000), 0, 10 * self.amount) if self.clampable else exactly(self.amount)


@dataclass(frozen=True)
class Settle:
    session: str
    part: int
    how: Literal["settled", "voided", "in_doubt"]
    careful: bool = False


@dataclass(frozen=True)
class Spend:
    """One more call of a token, which may have many in flight."""

    token: int
    amount: int
    stale: bool = False
    clampable: bool = False
    careful: bool = False

    @property
    def want(self) -> Want:
        return Admit("", self.amount, clampable=self.clampable).want


@dataclass(frozen=True)
class Resolve:
    """The call of a token that was begun the longest ago, or the latest."""

    token: int
    latest: bool
    part: int
    how: Literal["settled", "voided", "in_doubt"]


@dataclass(frozen=True)
class Set:
    plan: str | None
    caps: tuple[tuple[Scope, int | None], ...]
    shards: int | None
    paused: bool | None
    timezone: str | None = None
    from_plan: frozenset[Scope] = frozenset()


@dataclass(frozen=True)
class Tick:
    seconds: int


Act = Admit | Settle | Spend | Resolve | Set | Tick

admits = st.builds(
    Admit,
    st.sampled_from(SESSIONS),
    st.integers(0, 60),
    st.booleans(),
    st.booleans(),
    or_less=st.booleans(),
    careful=st.booleans(),
)
settles = st.builds(
    Settle,
    st.sampled_from(SESSIONS),
    st.integers(0, 100),
    st.sampled_from(["settled", "settled", "voided", "in_doubt"]),
    st.booleans(),
)
sets = st.builds(
    Set,
    st.sampled_from([None, None, "small", "tight", "free"]),
    overrides.map(lambda caps: tuple(caps.items())),
    st.one_of(st.none(), st.integers(1, 5)),
    st.sampled_from([None, None, None, False, False, True]),
    st.sampled_from([None, None, "plan", "UTC", "Europe/Zurich", "Pacific/Kiritimati", "Etc/GMT+12"]),
    st.frozensets(st.sampled_from(list(SCOPES)), max_size=1),
)
outcomes = st.sampled_from(["settled", "settled", "voided", "in_doubt"])
spends = st.builds(Spend, st.integers(0, 1), st.integers(0, 60), st.booleans(), st.booleans(), st.booleans())
resolves = st.builds(Resolve, st.integers(0, 1), st.booleans(), st.integers(0, 100), outcomes)
acts = st.one_of(admits, admits, settles, spends, spends, resolves, sets)
several = st.lists(st.one_of(admits, spends), min_size=1, max_size=6)


@dataclass(frozen=True)
class Trouble:
    """At the ``request``-th request from now; ``None``: at the first write."""

    request: int | None
    kind: Literal["acts", "crash_before", "crash_after", "busy", "lost"]
    acts: tuple[Act, ...] = ()


moments = st.one_of(st.none(), st.integers(0, 6))
interludes = st.builds(Trouble, moments, st.just("acts"), st.lists(acts, min_size=1, max_size=4).map(tuple))
faults = st.builds(Trouble, st.integers(0, 6), st.sampled_from(["crash_before", "crash_after", "busy", "lost"]))
troubles = st.lists(st.one_of(interludes, interludes, faults), max_size=3)


def admitted(before: Item | None, after: Item) -> Key | None:
    """The record of a call that this write admitted: a token's is written with it, a session's is told by its head."""
    if after["sk"] == "HEAD":
        was, is_ = (codec.open_call(codec.flattened(item)) if item is not None else None for item in (before, after))
        return Key(is_["pk"], is_["sk"]) if is_ is not None and (was is None or was["sk"] != is_["sk"]) else None
    is_new = before is None and after["sk"].startswith("CALL#") and after["state"] == "pending"
    return Key(after["pk"], after["sk"]) if is_new else None


class TreasuryMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.clock = ManualClock()
        self.troubles: list[Trouble] = []
        self.request = 0
        self.wrong: list[str] = []
        self.memory = MemoryTable(on_change=self.changed)
        means = FaultyTable(self.memory, self.fault), MemoryBlobs(), POLICY, self.clock, SeededIds()
        self.till = Till(*means, lease_seconds=LEASE_SECONDS)
        #: A runner that begins months as a release before would, while the other kind runs beside it.
        self.careful = Till(*means, lease_seconds=LEASE_SECONDS, compact=False)
        self.heads: dict[str, Head] = {}
        self.terms: list[Terms] = [self.till.tenants.terms(TENANT)]
        for number, session in enumerate(SESSIONS):
            head = self.till.new_head(
                session,
                USERS[number % 2],
                agent=AGENTS[number % 3],
                task_usd="0.000000050" if number == 5 else None,
            )
            self.till.open(head)
            self.heads[session] = head
        #: One that may spend what the plan lets it, and one that may spend less.
        self.tokens = [self.till.mint("ann"), self.till.mint("cleo", task_nanousd=50)]
        self.calls: list[list[PurseCall]] = [[], []]

    # ---- watching every write ----

    def changed(self, before: Item | None, after: Item | None) -> None:
        """A call was admitted: at this moment it must be within every cap in force."""
        if after is None or (key := admitted(before, after)) is None:
            return
        terms = self.in_force()
        if terms.tenant.paused:
            self.wrong.append("admitted while paused")
        books = Books.of(self.memory.snapshot())
        [call] = [call for call in books.calls if call.key == key]
        self.wrong += books.over(terms.caps, [call])
        capped = {scope for scope in SCOPES if terms.caps.cap(scope, call.payer.agent) is not None} - {"task"}
        capped -= {"agent_daily"} if call.payer.agent is None else set()
        if not capped <= call.reservation.periods.keys():
            self.wrong.append(f"{capped} are capped, {call.reservation.periods.keys()} are counted")
        own = {"task": ""} if call.payer.purse is not None else {}
        if call.reservation.periods != {**own, **terms.caps.periods(call.payer.agent, self.clock.now())}:
            self.wrong.append(f"counted in {call.reservation.periods}")

    def in_force(self) -> Terms:
        return Tenants(self.memory, POLICY, self.clock).terms(TENANT)

    def month(self) -> str:
        return self.in_force().caps.period(SHARDED.name, self.clock.now())

    # ---- trouble ----

    def fault(self, when: Literal["before", "after"], call: Call) -> None:
        if not self.troubles:
            return
        number = self.request
        if when == "after":
            self.request += 1
        now = [each for each in self.troubles if each.request == number or (each.request is None and call.writes)]
        for trouble in now:
            match trouble.kind, when:
                case "acts", "before":
                    self.troubles.remove(trouble)
                    with self.quiet():
                        for act in trouble.acts:
                            self.do(act)
                case "crash_before", "before":
                    self.troubles.remove(trouble)
                    raise Crash
                case "crash_after", "after":
                    self.troubles.remove(trouble)
                    raise Crash
                case "busy", "before":
                    self.troubles.remove(trouble)
                    raise StoreBusy("busy")
                case "lost", "after" if call.writes:
                    self.troubles.remove(trouble)
                    raise Unavailable("lost")

    @contextmanager
    def quiet(self) -> Iterator[None]:
        kept, self.troubles = self.troubles, []
        try:
            yield
        finally:
            self.troubles = kept

    @contextmanager
    def troubled(self, planned: list[Trouble]) -> Iterator[None]:
        self.troubles, self.request = list(planned), 0
        try:
            yield
        finally:
            self.troubles = []

    # ---- doing ----

    def do(self, act: Act, wait_seconds: float = 0.0) -> None:
        match act:
            case Admit():
                self.admit(act, wait_seconds)
            case Settle():
                self.settle(act)
            case Spend():
                self.spend(act, wait_seconds)
            case Resolve():
                self.resolve(act)
            case Tick():
                self.clock.advance(act.seconds)
            case Set():
                terms = self.till.tenants.set(
                    TENANT,
                    actor="ops",
                    plan=act.plan,
                    caps=dict(act.caps),
                    from_plan=act.from_plan,
                    shards=act.shards,
                    paused=act.paused,
                    timezone=act.timezone,
                )
                self.terms.append(terms)

    def admit(self, act: Admit, wait_seconds: float) -> None:
        head = self.heads.get(act.session)
        if head is None or head.account.pending is not None:
            return
        terms = self.terms[-2 if act.stale and len(self.terms) > 1 else -1]
        till = self.careful if act.careful else self.till
        del self.heads[act.session]  # Whatever happens to this runner, it knows no more than that.
        try:
            self.heads[act.session] = till.admit(
                head, act.want, terms=terms, wait_seconds=wait_seconds, or_less=act.or_less
            )
            self.check_clamp(act, till.clamp)
        except (CostCapExceeded, TenantPaused):
            self.heads[act.session] = head

    def check_clamp(self, act: Admit, clamp: Clamp | None) -> None:
        """Only who takes less at last is ever made smaller by money in flight."""
        pending = self.heads[act.session].account.pending
        assert pending is not None
        if clamp is None:
            assert pending.max_tokens == act.want.max_tokens
        else:
            assert pending.max_tokens == clamp.max_tokens < clamp.wanted == act.want.max_tokens
            assert act.or_less or not clamp.refusal.contended

    def settle(self, act: Settle) -> None:
        head = self.heads.get(act.session)
        if head is None or head.account.pending is None:
            return
        amount = head.account.pending.amount_nanousd
        spent = {"settled": amount * act.part // 100, "voided": 0, "in_doubt": amount}[act.how]
        del self.heads[act.session]
        self.heads[act.session] = (self.careful if act.careful else self.till).settle(head, spent, act.how)

    def spend(self, act: Spend, wait_seconds: float) -> None:
        terms = self.terms[-2 if act.stale and len(self.terms) > 1 else -1]
        with suppress(CostCapExceeded, TenantPaused):
            purse = self.tokens[act.token].purse
            till = self.careful if act.careful else self.till
            call = till.spend(purse, act.want, terms=terms, wait_seconds=wait_seconds)
            self.calls[act.token].append(call)

    def resolve(self, act: Resolve) -> None:
        """Whoever dies in the middle of it leaves the call to the sweep, whether it was written or not."""
        if not self.calls[act.token]:
            return
        call = self.calls[act.token].pop(-1 if act.latest else 0)
        amount = call.reservation.amount_nanousd
        spent = {"settled": amount * act.part // 100, "voided": 0, "in_doubt": amount}[act.how]
        self.till.resolve(call, spent, act.how)

    @rule(planned=troubles)
    def the_process_of_the_gateway_dies(self, planned: list[Trouble]) -> None:
        """What it had in flight is in doubt."""
        self.calls = [[], []]
        self.clock.advance(LEASE_SECONDS + SKEW_MILLIS / 1000 + 1)
        with self.troubled(planned), suppress(*DEATHS):
            self.till.sweep()

    @initialize(shards=st.sampled_from([1, 2, 4]), plan=st.sampled_from(["small", "tight", "free"]))
    def begin(self, shards: int, plan: str) -> None:
        self.do(Set(plan, (), shards, None))

    @rule(act=acts, planned=troubles, wait_seconds=st.sampled_from([0.0, 1.0]))
    def act(self, act: Act, planned: list[Trouble], wait_seconds: float) -> None:
        with self.troubled(planned), suppress(*DEATHS):
            self.do(act, wait_seconds)

    @rule(traffic=several)
    def burst(self, traffic: list[Admit]) -> None:
        """The first stands just before its reserving write when the others come."""
        with self.troubled([Trouble(None, "acts", tuple(traffic[1:]))]):
            self.do(traffic[0])

    @rule(act=sets, traffic=several, later=several)
    def change_under_traffic(self, act: Set, traffic: list[Admit], later: list[Admit]) -> None:
        """Calls come between the look at the shards and the write, and more by the old terms after it."""
        with self.troubled([Trouble(None, "acts", tuple(traffic))]):
            self.do(act)
        for call in later:
            self.do(call)

    @rule(count=st.integers(1, 2), cap=st.integers(20, 100), traffic=several, later=several)
    def fewer_shards_and_less_money(self, count: int, cap: int, traffic: list[Admit], later: list[Admit]) -> None:
        self.change_under_traffic(Set(None, (("tenant_monthly", cap),), count, None), traffic, later)

    @rule(by=st.integers(1, 40), traffic=st.lists(st.one_of(admits, settles), min_size=2, max_size=6))
    def lower_the_cap_below_what_is_committed(self, by: int, traffic: list[Act]) -> None:
        committed = Books.of(self.memory.snapshot()).committed(self.month())
        self.do(Set(None, (("tenant_monthly", max(committed - by, 0)),), None, None))
        for act in traffic:
            self.do(act)

    @rule(act=sets, traffic=several, later=several)
    def change_at_the_end_of_a_month(self, act: Set, traffic: list[Admit], later: list[Admit]) -> None:
        """The month turns while the change is on its way, and a runner's call lays out the new one first."""
        self.to_the_end_of_the_month(1)
        with self.troubled([Trouble(None, "acts", (Tick(2), *traffic))]):
            self.do(act)
        for call in later:
            self.do(call)

    @rule(planned=troubles)
    def take_over_what_died(self, planned: list[Trouble]) -> None:
        """Runners that are gone left their sessions behind: the sweep's part."""
        lost = [session for session in SESSIONS if session not in self.heads]
        if not lost:
            return
        self.clock.advance(LEASE_SECONDS + SKEW_MILLIS / 1000 + 1)
        with self.troubled(planned):
            for session in lost:
                with suppress(*DEATHS):
                    stored = self.till.sessions.head(TENANT, session)
                    self.heads[session] = self.till.take_over(stored)

    @rule(days=st.sampled_from([1, 1, 1, 40]))
    def time_passes(self, days: int) -> None:
        self.clock.advance(days * 86_400)

    @rule(seconds=st.integers(1, 20))
    def to_the_end_of_the_month(self, seconds: int) -> None:
        """Just before it, so that what comes next runs over its end while it waits."""
        now = self.clock.now()
        month_end = next_period("month", now, self.in_force().caps.timezone)
        assert month_end is not None
        self.clock.advance(max(0.0, (month_end - now).total_seconds() - seconds))

    @rule(hours=st.integers(1, 28), planned=troubles, act=sets)
    def between_the_ends_of_the_month(self, hours: int, planned: list[Trouble], act: Set) -> None:
        """It has ended somewhere on earth, and terms change."""
        now = self.clock.now()
        first_end = next_period("month", now, "Pacific/Kiritimati")
        assert first_end is not None
        self.clock.advance((first_end - now).total_seconds() + hours * 3_600)
        with self.troubled(planned), suppress(*DEATHS):
            self.do(act)

    @precondition(lambda self: not self.troubles)
    @rule()
    def use_it_up(self) -> None:
        """The last unit of the tenant's cap can be reached from any session, and not one more."""
        terms = self.till.tenants.set(
            TENANT,
            actor="ops",
            paused=False,
            caps={scope: None for scope in SCOPES if scope != SHARDED.name},
        )
        self.terms.append(terms)
        cap = terms.caps.cap(SHARDED.name)
        free = [
            session for session, head in self.heads.items() if head.account.pending is None and session != SESSIONS[5]
        ]
        if cap is None or not free:
            return
        left = cap - Books.of(self.memory.snapshot()).committed(self.month())
        session = free[0]
        if left > 0:
            self.do(Admit(session, left))
            pending = self.heads[session].account.pending
            assert pending is not None and pending.amount_nanousd == left
            self.do(Settle(session, 0, "voided"))
        before = self.heads[session]
        self.do(Admit(session, max(left, 0) + 1))
        assert self.heads[session] == before

    # ---- what always holds ----

    @invariant()
    def no_admission_was_over_a_cap(self) -> None:
        assert not self.wrong, self.wrong

    @invariant()
    def books_agree(self) -> None:
        books = Books.of(self.memory.snapshot())
        books.check()
        books.check_shares(self.in_force())

    @invariant()
    def no_shard_is_in_the_red_while_others_are_open(self) -> None:
        books = Books.of(self.memory.snapshot())
        for month in {of for of, _ in books.shards}:
            items = [item for (of, _), item in books.shards.items() if of == month]
            if any(not item["closed"] for item in items) and items[0]["share"] is not None:
                assert all(int(item["remaining"]) >= 0 for item in items)

    def teardown(self) -> None:
        self.clock.advance(2 * LEASE_SECONDS)
        for session in SESSIONS:
            stored = self.till.sessions.head(TENANT, session)
            self.till.take_over(stored)
        self.till.sweep()
        books = Books.of(self.memory.snapshot())
        books.check()
        books.check_at_rest()


TestTreasury: Any = TreasuryMachine.TestCase
TestTreasury.settings = settings(max_examples=examples(30, all=120), stateful_step_count=30)
