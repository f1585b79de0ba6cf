"""Whatever calls there were, every way to tell them apart adds up to the same, and to the counters."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import Literal, get_args

from hypothesis import given
from hypothesis import strategies as st

from tests.support.heads import as_once
from tests.support.money import Books, Till, exactly, policy
from turnkeeper.core.ledger import Counter, Payer
from turnkeeper.core.session import Head
from turnkeeper.core.spending import By, Tally
from turnkeeper.runtime.reports import TOKENS, Reports, Spending
from turnkeeper.runtime.store import keys
from turnkeeper.table import Key, Update
from turnkeeper.testing.clock import ManualClock, SeededIds
from turnkeeper.testing.memory_blobs import MemoryBlobs
from turnkeeper.testing.memory_table import MemoryTable

START = datetime(2026, 10, 30, 9, tzinfo=UTC)
PLANS = policy(plan={"agent_daily": {"support": 10**9}})
ZONES = ("UTC", "Europe/Zurich", "Pacific/Kiritimati", "Etc/GMT+12")
Fate = Literal["settled", "voided", "in_doubt", "pending"]

sessions = st.tuples(
    st.sampled_from(["acme", "acme!evals", "globex", "a#S"]),
    st.sampled_from(["ann", "bob", "=ann"]),
    st.sampled_from(["support", "research"]),
    st.sampled_from(["v1", "v2", None]),
)
#: Which session makes a call of how much, what became of it, how many hours later the next thing happens.
made_calls = st.tuples(
    st.integers(0, 7), st.integers(1, 10**6), st.sampled_from(get_args(Fate)), st.sampled_from([0, 0, 1, 7, 30, 300])
)
zone_changes = st.tuples(st.sampled_from(["acme", "globex"]), st.sampled_from(ZONES))


class World:
    def __init__(self) -> None:
        self.table = MemoryTable()
        self.clock = ManualClock(START)
        self.till = Till(self.table, MemoryBlobs(), PLANS, self.clock, SeededIds(), lease_seconds=10**8)
        self.reports = Reports(self.table, self.till.tenants, self.clock)
        self.heads: list[Head] = []
        self.begun = 0

    def begin(self, tenant: str, user: str, agent: str, version: str | None) -> Head:
        self.begun += 1
        head = self.till.new_head(f"ses_{self.begun - 1}", user, tenant_id=tenant, agent=agent)
        head = replace(head, version=version)
        self.till.open(head)
        return head

    def open(self, *session: str | None) -> None:
        self.heads.append(self.begin(*session))  # type: ignore[arg-type]

    def call(self, number: int, amount: int, fate: Fate) -> None:
        index = number % len(self.heads)
        head = self.till.admit(self.heads[index], exactly(amount))
        if fate == "pending":
            # A session has one call in flight: the next one is another session's.
            self.heads[index] = self.begin(head.tenant_id, head.user_id, head.agent, head.version)
        else:
            spent = {"settled": amount // 3, "voided": 0, "in_doubt": amount}[fate]
            self.heads[index] = self.till.settle(head, spent, fate)

    def report(
        self, by: By, first: date | None = None, last: date | None = None, tenant: str | None = None
    ) -> Spending:
        tenants = self.reports.tenant_ids() if tenant is None else [tenant]
        return self.reports.spend(tenants, by, first, last, of_many=tenant is None)


def told(tally: Tally) -> tuple[int, ...]:
    return (tally.calls, tally.settled_nanousd, tally.in_doubt_nanousd, tally.voided, tally.reserved_nanousd)


@given(st.lists(sessions, min_size=1, max_size=8), st.lists(st.one_of(made_calls, zone_changes), max_size=25))
def test_every_report_adds_up_to_the_same_and_to_the_counters(
    begun: list[tuple[str, str, str, str | None]], steps: list[tuple[object, ...]]
) -> None:
    world = World()
    for session in begun:
        world.open(*session)
    for step in steps:
        match step:
            case (str(tenant), str(zone)):
                world.till.tenants.set(tenant, actor="operator", timezone=zone)
            case (int(number), int(amount), fate, int(hours)):
                world.call(number, amount, fate)  # type: ignore[arg-type]
                world.clock.advance(hours * 3600)
    books = [Books.of(world.table.snapshot(), tenant) for tenant in {session[0] for session in begun}]
    spent, reserved = sum(book.spent for book in books), sum(book.reserved for book in books)
    whole = START.date() - timedelta(days=2), world.clock.now().date() + timedelta(days=2)
    for by in get_args(By):
        report = world.report(by, *whole)
        assert report.differences == []
        assert (report.total.total_nanousd, report.total.reserved_nanousd) == (spent, reserved)
        assert report.total.calls == sum(len(book.calls) for book in books)
    # By tenant and by day, each part tells what the counter of its name holds.
    for tenant, tally in world.report("tenant", *whole).rows.items():
        one = world.report("day", *whole, tenant=tenant)
        assert told(one.total) == told(tally)
        book = Books.of(world.table.snapshot(), tenant)
        for day, of_day in one.rows.items():
            counters = [book.counter("user_daily", day, user, tenant_id=tenant) for user in ("ann", "bob", "=ann")]
            assert of_day.total_nanousd == sum(int(item.get("spent", 0)) for item in counters)
            alone = world.report("user", date.fromisoformat(day), date.fromisoformat(day), tenant)
            assert told(alone.total) == told(of_day)


def moved(table: MemoryTable, payer: Payer, counter: Counter, **by: int) -> None:
    table.update(Update(keys.counter_key(payer, counter), add=by))


def test_a_counter_that_says_something_else_is_named() -> None:
    world = World()
    world.open("acme", "ann", "support", "v1")
    world.call(0, 900, "settled")
    assert world.report("day").differences == []
    payer = Payer("acme", "ann", None)
    moved(world.table, payer, Counter("user_monthly", "2026-10"), d30=1)
    moved(world.table, payer, Counter("tenant_monthly", "2026-10"), reserved=-1)
    found = {str(each): (each.ledger, each.held) for each in world.report("day").differences}
    assert sorted(found) == [
        "tenant_monthly 2026-10 of tenant acme, shard 0",
        "user_daily 2026-10-30 of tenant acme of user ann",
    ]
    assert [held.spent - ledger.spent for ledger, held in found.values()].count(1) == 1


def test_money_whose_call_nobody_finds_is_missed() -> None:
    world = World()
    world.open("acme", "ann", "support", "v1")
    world.call(0, 900, "settled")
    hidden = keys.head_key("acme", "ses_0")
    world.table.update(Update(hidden, remove=("tenant_key",)))
    [difference] = world.report("day", tenant="acme").differences
    assert (difference.counter.scope, difference.ledger.spent, difference.held.spent) == ("tenant_monthly", 0, 300)


def test_calls_that_go_on_while_it_is_read_are_no_difference() -> None:
    world = World()
    world.open("acme", "ann", "support", "v1")
    world.call(0, 900, "settled")
    busy = True

    def more(request: str) -> None:
        nonlocal busy
        # Between the ledger and the counters, each time they are read.
        if request == "BatchGetItem" and busy:
            busy = False
            world.call(0, 900, "settled")
            busy = world.heads[0].account.calls < 12

    world.table.on_request = more
    report = world.report("day", tenant="acme")
    world.table.on_request = None
    assert (report.differences, report.moving) == ([], True)
    assert world.report("day", tenant="acme").moving is False


def test_records_of_earlier_versions_are_read() -> None:
    """0.1 wrote a day and a month, and no version before this one wrote whose call it was."""
    world = World()
    for number, agent in enumerate(["support", "research"]):
        world.open("acme", "ann", agent, "v1")
        world.call(number, 900, "settled")
    for number, remove in enumerate([("agent", "version"), ("agent", "version", "periods")]):
        key = Key(keys.session_pk("acme", f"ses_{number}"), "CALL#000000001")
        old = {"day": "2026-10-30", "month": "2026-10"} if "periods" in remove else {}
        world.table.update(Update(key, set=old, remove=remove))
    # Renamed since: its counter of that day has another name, and nobody can tell.
    as_once(world.table, keys.head_key("acme", "ses_0"), set={"agent": "helpdesk"})
    report = world.report("version", tenant="acme")
    assert report.differences == []
    assert sorted(report.rows) == ["helpdesk@v1", "research@v1"]


def test_calls_of_tokens_count() -> None:
    """A token of the gateway holds calls as a session does; it has no agent, and its task's counter is its own."""
    world = World()
    world.open("acme", "ann", "research", "v1")
    world.call(0, 900, "settled")
    head = keys.head_key("acme", "ses_0")
    call = Key(head.pk, "CALL#000000001")
    task = {"user_daily": "2026-10-30", "user_monthly": "2026-10", "tenant_monthly": "2026-10", "task": ""}
    world.table.update(Update(call, set={"periods": task}, remove=("agent", "version")))
    as_once(world.table, head, set={"status_key": TOKENS}, remove=["tenant_key", "user_key", "agent", "version"])
    report = world.report("agent")
    assert (report.differences, list(report.rows)) == ([], ["-"])
    assert (report.total.settled_nanousd, report.checked) == (300, 3)


def test_a_call_is_its_agents_and_versions_of_then() -> None:
    world = World()
    world.open("acme", "ann", "support", "v1")
    world.call(0, 900, "settled")
    world.table.update(Update(keys.head_key("acme", "ses_0"), set={"agent": "helpdesk", "version": "v2"}))
    report = world.report("version", tenant="acme")
    assert report.differences == []
    assert list(report.rows) == ["support@v1"]


def test_a_month_is_looked_at_while_its_counters_are_kept() -> None:
    world = World()
    world.open("acme", "ann", "support", "v1")
    world.call(0, 900, "settled")
    world.clock.advance(timedelta(days=500).total_seconds())
    item = next(item for item in world.table.snapshot() if item["sk"] == "MONTH#2026-10" and "#U#" in item["pk"])
    world.table.update(Update(Key(item["pk"], item["sk"]), remove=("spent", "committed", "d30")))
    report = world.report("day", date(2026, 10, 1), date(2026, 10, 31), "acme")
    assert (report.total.settled_nanousd, report.differences, report.expired) == (300, [], {"2026-10"})
    assert world.report("day", tenant="acme").rows == {}
