"""The gate, one call at a time: clamping, waiting, refusing, and which terms hold."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from tests.support.gate import Gate, at, capped, refused
from tests.support.money import PLAIN_RATES, TENANT, Till, exactly, policy
from turnkeeper.core.errors import CostCapExceeded, InvalidRequest, ProviderError, TenantPaused
from turnkeeper.core.policy import Terms
from turnkeeper.core.scopes import SCOPES, Scope
from turnkeeper.ports import Rates
from turnkeeper.runtime.store.holders import Want
from turnkeeper.testing.clock import ManualClock, SeededIds
from turnkeeper.testing.faulty_table import Call, FaultyTable
from turnkeeper.testing.memory_blobs import MemoryBlobs


def tokens(input_tokens: int, max_tokens: int, count: Callable[[], int] | None = None) -> Want:
    """A token costs one nano-dollar."""
    return Want(PLAIN_RATES, input_tokens, max_tokens, count)


# ---- clamping ----


@pytest.mark.parametrize("scope", SCOPES)
def test_max_tokens_is_clamped_to_what_the_tightest_scope_affords(scope: str) -> None:
    gate = capped(**{**dict.fromkeys(SCOPES, 9_000), scope: 1_500})
    admitted = gate.admit(gate.session(), tokens(1_000, 8_000))
    assert admitted.account.pending is not None
    assert admitted.account.pending.max_tokens == 500
    assert admitted.account.pending.amount_nanousd == 1_500


def test_a_call_that_would_only_be_cut_off_is_refused() -> None:
    gate = capped(tenant_monthly=1_255)
    data = refused(gate, gate.session(), tokens(1_000, 8_000))
    assert (data["scope"], data["contended"]) == ("tenant_monthly", False)
    assert (data["limit_usd"], data["needed_usd"]) == ("0.000001255", "0.000001256")
    assert gate.admit(gate.session("t"), tokens(999, 8_000)).account.pending is not None


def test_an_agent_that_wants_little_gets_less_than_the_useful_minimum() -> None:
    gate = capped(tenant_monthly=1_100)
    assert gate.admit(gate.session(), tokens(1_000, 100)).account.pending is not None
    gate = capped(tenant_monthly=1_099)
    assert not refused(gate, gate.session(), tokens(1_000, 100))["contended"]


def test_all_shards_together_are_what_the_tenant_affords() -> None:
    gate = capped(tenant_monthly=1_600)
    gate.tenants.set(TENANT, actor="ops", shards=16)
    admitted = gate.admit(gate.session(), tokens(1_000, 8_000))
    assert admitted.account.pending is not None
    assert admitted.account.pending.max_tokens == 600
    assert gate.books().committed("2026-03") == 1_600


# ---- counting ----


def never() -> int:
    raise AssertionError("asked for a count that nobody needs")


def test_the_provider_is_not_asked_where_the_cheap_bound_fits() -> None:
    gate = capped(tenant_monthly=9_000)
    gate.admit(gate.session(), tokens(1_000, 8_000, never))


def test_the_provider_is_asked_once_where_it_does_not() -> None:
    gate = capped(tenant_monthly=5_000, user_daily=4_900)
    asked: list[int] = []

    def count() -> int:
        asked.append(1)
        return 700

    admitted = gate.admit(gate.session(), tokens(4_000, 8_000, count))
    assert admitted.account.pending is not None
    assert admitted.account.pending.max_tokens == 4_200
    assert asked == [1]


def test_a_count_above_the_bound_changes_nothing() -> None:
    gate = capped(tenant_monthly=2_000)
    admitted = gate.admit(gate.session(), tokens(1_000, 8_000, lambda: 1_500))
    assert admitted.account.pending is not None
    assert admitted.account.pending.max_tokens == 1_000


def test_a_provider_that_cannot_be_asked_is_the_callers_affair() -> None:
    gate = capped(tenant_monthly=2_000)

    def count() -> int:
        raise ProviderError("down", retryable=True, certainty="unbilled")

    with pytest.raises(ProviderError):
        gate.admit(gate.session(), tokens(1_000, 8_000, count))
    assert gate.books().calls == []


# ---- contended and exhausted ----


def test_spent_money_refuses_at_once() -> None:
    gate = capped(user_daily=1_000)
    first = gate.settle(gate.admit(gate.session(), exactly(900)), 900)
    gate.waiting.slept = 0
    data = refused(gate, first, exactly(200), wait_seconds=100.0)
    assert (data["scope"], data["contended"], data["spent_usd"]) == ("user_daily", False, "0.0000009")
    assert data["resets_at"] == "2026-03-03T00:00:00.000Z"
    assert gate.waiting.slept == 0


def test_money_in_flight_is_waited_for() -> None:
    gate = capped(user_daily=1_000)
    holder = gate.admit(gate.session("holder"), exactly(900))
    releases = iter([None, None, lambda: gate.settle(holder, 100)])

    def release() -> None:
        if (act := next(releases, None)) is not None:
            act()

    gate.waiting.on_sleep = release
    admitted = gate.admit(gate.session(), exactly(800), wait_seconds=60.0)
    assert admitted.account.pending is not None
    assert gate.waiting.slept == 3


amounts = st.integers(0, 4_000)


@given(cap=amounts, held=amounts, part=st.integers(0, 100), wanted=st.integers(1, 3_000))
def test_a_call_that_waits_gets_all_that_the_unspent_money_affords(cap: int, held: int, part: int, wanted: int) -> None:
    """While others hold some of it, it waits, although a smaller call would fit."""
    spent = held * part // 100
    affordable = min(wanted, cap - spent - 100)
    assume(held <= cap and affordable >= min(wanted, 256))
    gate = capped(user_daily=cap)
    holder = gate.admit(gate.session("holder"), exactly(held))

    def release() -> None:
        gate.waiting.on_sleep = None
        gate.settle(holder, spent)

    gate.waiting.on_sleep = release
    admitted = gate.admit(gate.session(), tokens(100, wanted), wait_seconds=60.0)
    assert admitted.account.pending is not None
    waited = gate.waiting.slept > 0
    assert waited == (held > 0 and min(wanted, cap - 100) > cap - held - 100)
    assert admitted.account.pending.max_tokens == (affordable if waited else min(wanted, cap - 100))
    gate.books().check()


@given(cap=amounts, spent=amounts, held=amounts, wanted=st.integers(1, 4_000), or_less=st.booleans())
def test_a_wait_that_runs_out(cap: int, spent: int, held: int, wanted: int, *, or_less: bool) -> None:
    """Then a call is refused, or goes on with what is left; a clamp says whether money in flight had a part in it."""
    assume(spent + held <= cap)
    gate = capped(user_daily=cap)
    gate.settle(gate.admit(gate.session("spender"), exactly(spent)), spent)
    gate.admit(gate.session("holder"), exactly(held))
    least = min(wanted, 256)
    unspent, left = (min(wanted, cap - taken - 100) for taken in (spent, spent + held))
    contended = left < unspent and unspent >= least
    try:
        admitted = gate.admit(gate.session(), tokens(100, wanted), wait_seconds=5.0, or_less=or_less)
    except CostCapExceeded as refused:
        assert refused.contended == contended
        assert unspent < least or left < least or not or_less
    else:
        assert admitted.account.pending is not None
        assert admitted.account.pending.max_tokens == left >= least
        assert left == unspent or or_less
        clamp = gate.clamp
        assert (clamp and (clamp.max_tokens, clamp.wanted)) == (None if left == wanted else (left, wanted))
        assert clamp is None or clamp.refusal.contended == contended
    assert (gate.waiting.monotonic() >= 5.0) == contended


def test_after_a_wait_the_call_asks_for_all_again() -> None:
    """Also where a scope whose money is spent had made it smaller before."""
    gate = capped(user_daily=2_000, tenant_monthly=2_000)
    spender = gate.settle(gate.admit(gate.session("spender"), exactly(500)), 500)
    holder = gate.admit(gate.session("holder", "bob"), exactly(1_000))

    def release() -> None:
        gate.waiting.on_sleep = None
        gate.settle(holder, 0, "voided")
        gate.tenants.set(TENANT, actor="ops", caps={"user_daily": 9_000, "tenant_monthly": 9_000})

    gate.waiting.on_sleep = release
    admitted = gate.admit(spender, tokens(500, 1_200), wait_seconds=60.0)
    assert admitted.account.pending is not None
    assert (admitted.account.pending.max_tokens, gate.clamp) == (1_200, None)


@pytest.mark.parametrize("shards", [1, 4])
def test_many_that_wait_all_get_through_with_all_they_want(shards: int) -> None:
    """Each waits in its turn and nobody is passed over; who waits holds nothing, so nobody waits for a waiter."""
    gate = capped(tenant_monthly=6_000)
    gate.tenants.set(TENANT, actor="ops", shards=shards)
    running = [gate.admit(gate.session(f"s{n}"), tokens(0, 1_000)) for n in range(6)]

    def release() -> None:
        gate.settle(running.pop(0), 1)

    gate.waiting.on_sleep = release
    for n in range(6, 30):
        running.append(gate.admit(gate.session(f"s{n}"), tokens(0, 900), wait_seconds=60.0))
        pending = running[-1].account.pending
        assert pending is not None and pending.max_tokens == 900
        assert gate.books().committed("2026-03") <= 6_000
    for head in running:
        gate.settle(head, 1)
    gate.books().check_at_rest()


def test_a_wait_that_runs_out_refuses_as_contended() -> None:
    gate = capped(tenant_monthly=1_000)
    gate.admit(gate.session("holder"), exactly(900))
    data = refused(gate, gate.session(), exactly(200), wait_seconds=5.0)
    assert (data["scope"], data["contended"], data["reserved_usd"]) == ("tenant_monthly", True, "0.0000009")
    assert 5.0 <= gate.waiting.monotonic() < 10.0


def test_an_exhausted_scope_comes_before_a_contended_one() -> None:
    gate = capped(user_daily=1_000, tenant_monthly=1_000)
    other = gate.settle(gate.admit(gate.session("other", "bob"), exactly(600)), 600)
    assert other.account.pending is None
    gate.admit(gate.session("holder"), exactly(400))
    data = refused(gate, gate.session(), exactly(700), wait_seconds=60.0)
    assert (data["scope"], data["contended"]) == ("tenant_monthly", False)


# ---- periods ----


def test_a_call_over_midnight_is_settled_where_it_was_reserved() -> None:
    gate = Gate(policy(plan={"user_daily": 100, "user_monthly": 100, "tenant_monthly": 100}), at(2026, 3, 31, 23, 59))
    admitted = gate.admit(gate.session(), exactly(100))
    gate.waiting.advance(120)
    other = gate.admit(gate.session("other"), exactly(60))
    gate.settle(admitted, 70)
    books = gate.books()
    books.check()
    assert books.counter("user_daily", "2026-03-31")["spent"] == 70
    assert books.counter("user_daily", "2026-04-01")["committed"] == 60
    assert books.committed("2026-03") == 70
    assert books.committed("2026-04") == 60
    assert other.account.pending is not None
    assert other.account.pending.periods["user_daily"] == "2026-04-01"


def test_a_wait_over_midnight_goes_on_in_the_new_day() -> None:
    gate = Gate(policy(plan={"user_daily": 100}), at(2026, 3, 30, 23, 59, 58))
    gate.admit(gate.session("holder"), exactly(100))
    admitted = gate.admit(gate.session(), exactly(100), wait_seconds=60.0)
    assert admitted.account.pending is not None
    assert admitted.account.pending.periods["user_daily"] == "2026-03-31"


def test_counters_expire_long_after_their_period() -> None:
    gate = capped(tenant_monthly=100)
    gate.admit(gate.session(), exactly(1))
    for item in (item for item in gate.memory.snapshot() if "committed" in item or "remaining" in item):
        kept = datetime.fromtimestamp(int(item["expires_at_epoch"]), UTC) - gate.waiting.now()
        assert 360 < kept.days < 400


# ---- terms ----


def test_unlimited_scopes_admit_anything_and_still_count() -> None:
    gate = capped()
    head = gate.settle(gate.admit(gate.session(), exactly(10**15)), 10**15)
    assert head.account.cost_nanousd == 10**15
    books = gate.books()
    books.check()
    assert books.committed("2026-03") == 10**15


def test_a_cap_can_be_put_on_an_unlimited_month_while_calls_run() -> None:
    gate = capped()
    running = gate.admit(gate.session("running"), exactly(300))
    gate.tenants.set(TENANT, actor="ops", caps={"tenant_monthly": 1_000}, shards=3)
    gate.settle(running, 200)
    assert refused(gate, gate.session(), exactly(801))["contended"] is False
    gate.admit(gate.session("t"), exactly(800))
    gate.books().check()


def test_a_model_that_is_free_passes_an_empty_purse() -> None:
    gate = capped(**dict.fromkeys(SCOPES, 0))
    free = Want(Rates("free", "test", 0, 0), 1_000, 1_000)
    assert gate.settle(gate.admit(gate.session(), free), 0).account.pending is None
    gate.books().check()


@pytest.mark.parametrize("scope", SCOPES)
@pytest.mark.parametrize("how", ["plan", "override"])
def test_a_changed_plan_takes_effect_at_the_next_call(scope: Scope, how: str) -> None:
    """Also for a runner that read the terms long ago: down at once, and up again."""
    gate = Gate(policy(wide={}, tight={scope: 100}))
    old = gate.tenants.terms(TENANT)
    head = gate.settle(gate.admit(gate.session(), exactly(90), terms=old), 90)

    def change(tight: bool) -> Terms:
        if how == "plan":
            return gate.tenants.set(TENANT, actor="ops", plan="tight" if tight else "wide")
        caps: dict[Any, int | None] = {scope: 100 if tight else None}
        return gate.tenants.set(TENANT, actor="ops", caps=caps)

    tight = change(True)
    # What is counted only where it is capped counts from then on.
    counted = 0 if SCOPES[scope].only_where_capped else 90
    assert refused(gate, head, exactly(101 - counted), terms=old)["scope"] == scope
    change(False)
    assert gate.admit(head, exactly(20), terms=tight).account.pending is not None


def test_an_override_can_be_given_back_to_the_plan() -> None:
    gate = Gate(policy(wide={}, tight={"user_daily": 100}))
    gate.tenants.set(TENANT, actor="ops", plan="tight", caps={"user_daily": 1_000, "task": 5})
    terms = gate.tenants.set(TENANT, actor="ops", from_plan={"user_daily"})
    assert (terms.caps.cap("user_daily"), terms.caps.cap("task")) == (100, 5)


def test_a_wait_for_money_in_flight_ends_when_it_is_told_to() -> None:
    gate = capped(user_daily=100)
    gate.admit(gate.session("a"), exactly(90))
    stop = lambda: gate.waiting.slept > 3  # noqa: E731
    assert refused(gate, gate.session("b"), exactly(90), wait_seconds=1e9, stop=stop)["contended"]


def test_the_tighter_of_agent_and_plan_holds_for_a_task() -> None:
    gate = capped(task=100)
    assert refused(gate, gate.session("a", task_usd="0.000000050"), exactly(60))["limit_usd"] == "0.00000005"
    assert refused(gate, gate.session("b", task_usd="0.000000200"), exactly(110))["limit_usd"] == "0.0000001"
    data = refused(gate, gate.session("c"), exactly(110))
    assert (data["scope"], data["resets_at"]) == ("task", None)


def test_a_plan_that_is_not_described_falls_back_to_the_default() -> None:
    table_of = Gate(policy(standard={"tenant_monthly": 100}, gone={}))
    table_of.tenants.set(TENANT, actor="ops", plan="gone")
    later = Till(table_of.memory, MemoryBlobs(), policy(standard={"tenant_monthly": 100}), ManualClock(), SeededIds())
    assert later.tenants.terms(TENANT).caps.cap("tenant_monthly") == 100
    with pytest.raises(InvalidRequest):
        later.tenants.set(TENANT, actor="ops", plan="gone")


def test_a_policy_file_that_was_deployed_anew_holds_from_its_first_call() -> None:
    gate = capped(tenant_monthly=1_000)
    head = gate.settle(gate.admit(gate.session(), exactly(400)), 400)
    later = Till(gate.memory, MemoryBlobs(), policy(plan={"tenant_monthly": 500}), gate.waiting, SeededIds(9))
    with pytest.raises(CostCapExceeded):
        later.admit(head, exactly(101))
    later.admit(head, exactly(100))
    gate.books().check()


# ---- the kill switch ----


def test_a_pause_stops_the_next_call_of_a_running_session() -> None:
    gate = capped(tenant_monthly=1_000)
    old = gate.tenants.terms(TENANT)
    head = gate.settle(gate.admit(gate.session(), exactly(10), terms=old), 10)
    gate.tenants.set(TENANT, actor="ops", paused=True)
    with pytest.raises(TenantPaused):
        gate.admit(head, exactly(10), terms=old)
    paused = gate.tenants.terms(TENANT)
    gate.tenants.set(TENANT, actor="ops", paused=False)
    assert gate.admit(head, exactly(10), terms=paused).account.pending is not None


def test_a_pause_does_not_hold_back_a_settlement() -> None:
    gate = capped(tenant_monthly=1_000)
    admitted = gate.admit(gate.session(), exactly(10))
    gate.tenants.set(TENANT, actor="ops", paused=True)
    assert gate.settle(admitted, 7).account.cost_nanousd == 7
    gate.books().check()


def test_caps_that_change_during_a_pause_hold_after_it() -> None:
    gate = capped(tenant_monthly=1_000)
    head = gate.settle(gate.admit(gate.session(), exactly(10)), 10)
    gate.tenants.set(TENANT, actor="ops", paused=True)
    gate.tenants.set(TENANT, actor="ops", caps={"tenant_monthly": 50}, shards=3)
    gate.tenants.set(TENANT, actor="ops", paused=False)
    assert refused(gate, head, exactly(41))["limit_usd"] == "0.00000005"
    gate.admit(head, exactly(40))
    gate.books().check_shares(gate.tenants.terms(TENANT))


def test_a_pause_at_the_end_of_a_month_holds_in_the_next() -> None:
    """A runner lays out the new month while the pause is on its way."""
    gate = Gate(policy(plan={"tenant_monthly": 1_000}), at(2026, 3, 31, 23, 59, 59))
    old = gate.tenants.terms(TENANT)
    first = gate.settle(gate.admit(gate.session(), exactly(10), terms=old), 10)
    second = gate.session("second")

    def meanwhile(when: str, call: Call) -> None:
        if when == "before" and call.writes and not done:
            done.append(gate.waiting.advance(2))
            gate.settle(gate.admit(second, exactly(10), terms=old), 10)

    done: list[None] = []
    operator = Till(FaultyTable(gate.memory, meanwhile), MemoryBlobs(), policy(plan={}), gate.waiting, SeededIds(3))
    operator.tenants.set(TENANT, actor="ops", paused=True)
    with pytest.raises(TenantPaused):
        gate.admit(first, exactly(10), terms=old)


# ---- a cap below what is committed ----


def test_a_lowered_cap_closes_all_shards_until_enough_was_released() -> None:
    gate = capped(tenant_monthly=1_000)
    gate.tenants.set(TENANT, actor="ops", shards=4)
    holders = [gate.admit(gate.session(f"s{n}"), exactly(100)) for n in range(8)]
    gate.tenants.set(TENANT, actor="ops", caps={"tenant_monthly": 500})
    assert all(item["closed"] for item in gate.books().shards.values())
    for holder in holders[:3]:
        released = gate.settle(holder, 0, "voided")
        # Its own shard has room now, but all together have not.
        assert refused(gate, released, exactly(50))["contended"]
        assert refused(gate, gate.session(f"x{holder.session_id}"), exactly(1))["contended"]
    gate.settle(holders[3], 0, "voided")
    gate.admit(gate.session("last"), exactly(100))
    assert gate.books().committed("2026-03") == 500
    gate.books().check()


def test_settled_money_above_a_lowered_cap_is_exhausted() -> None:
    gate = capped(tenant_monthly=1_000)
    head = gate.settle(gate.admit(gate.session(), exactly(700)), 700)
    gate.tenants.set(TENANT, actor="ops", caps={"tenant_monthly": 500})
    assert refused(gate, head, exactly(1), wait_seconds=60.0)["contended"] is False
    gate.tenants.set(TENANT, actor="ops", caps={"tenant_monthly": 800})
    gate.admit(head, exactly(100))


# ---- what it costs ----


def test_the_common_case_is_one_write_and_nothing_else() -> None:
    gate = capped(**dict.fromkeys(SCOPES, 10**6))
    terms = gate.tenants.terms(TENANT)
    head = gate.settle(gate.admit(gate.session(), exactly(1), terms=terms), 1)
    gate.requests.clear()
    gate.settle(gate.admit(head, exactly(1), terms=terms), 1)
    assert gate.requests == ["TransactWriteItems", "TransactWriteItems"]


def test_shards_in_line_are_left_alone() -> None:
    gate = capped(tenant_monthly=100)
    gate.tenants.set(TENANT, actor="ops", shards=8)
    gate.requests.clear()
    assert gate.tenants.lay_out(gate.tenants.terms(TENANT))
    assert "TransactWriteItems" not in gate.requests


def test_budget_that_was_brought_once_serves_the_next_calls_too() -> None:
    gate = capped(tenant_monthly=16_000)
    gate.tenants.set(TENANT, actor="ops", shards=16)
    terms = gate.tenants.terms(TENANT)
    head = gate.session()
    gate.requests.clear()
    for _ in range(150):
        head = gate.settle(gate.admit(head, exactly(100), terms=terms), 100)
    assert len(gate.requests) < 3.5 * 150
