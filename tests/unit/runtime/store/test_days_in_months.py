"""Where a user's day is counted: in an item of its own or in its month's, as whoever came first in the month began it,
also while runners of both kinds run side by side."""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import product
from zoneinfo import available_timezones

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.gate import Gate, refused
from tests.support.money import TENANT, Till, exactly, policy
from turnkeeper.core.periods import period_of
from turnkeeper.testing.memory_blobs import MemoryBlobs

CAPS = {"user_daily": 100, "user_monthly": 1_000}


@pytest.mark.parametrize(("first", "second"), list(product([True, False], repeat=2)))
def test_who_comes_first_decides_for_all(first: bool, second: bool) -> None:
    gate = Gate(policy(plan=CAPS), compact=first)
    other = Till(gate.memory, MemoryBlobs(), policy(plan=CAPS), gate.waiting, gate.ids, compact=second)
    held = gate.admit(gate.session("a"), exactly(60))
    head = gate.session("b")
    gate.requests.clear()
    beside = other.admit(head, exactly(40))
    # The other kind finds out with its first write, and remembers.
    assert gate.requests.count("TransactWriteItems") == (1 if first is second else 2)
    assert refused(gate, gate.session("c"), exactly(1))["scope"] == "user_daily"
    gate.requests.clear()
    beside = other.settle(beside, 10)
    other.settle(other.admit(beside, exactly(30)), 30)
    assert gate.requests.count("TransactWriteItems") == 3
    other.settle(held, 50)

    books = gate.books()
    books.check()
    books.check_at_rest()
    assert {name for name in (item["sk"] for item in gate.memory.snapshot()) if name.startswith("DAY#")} == (
        set() if first else {"DAY#2026-03-02"}
    )
    for till in (gate, other):
        states = {state.scope: state.spent for state in till.treasury.states(till.tenants.terms(TENANT), "ann", [])}
        assert states == {"user_daily": 90, "user_monthly": 90, "tenant_monthly": 90}
    # The next month is begun by whoever comes first in it.
    gate.waiting.advance(40 * 86_400)
    later = other.settle(other.admit(gate.session("d"), exactly(100)), 100)
    assert later.account.cost_nanousd == 100
    assert refused(gate, gate.session("e"), exactly(1))["scope"] == "user_daily"
    gate.books().check()
    begun = [item for item in gate.memory.snapshot() if item["sk"] == "MONTH#2026-04" and "#U#" in item["pk"]]
    assert [bool(item.get("joined")) for item in begun] == [second]


@given(
    zone=st.sampled_from(sorted(available_timezones() - {"localtime"})),
    now=st.integers(0, 40 * 366 * 86_400).map(lambda seconds: datetime.fromtimestamp(800_000_000 + seconds, UTC)),
    first=st.booleans(),
)
def test_a_day_is_in_the_month_that_it_is_counted_with(zone: str, now: datetime, first: bool) -> None:
    now = now.replace(day=1) if first else now
    assert period_of("day", now, zone).startswith(period_of("month", now, zone))
