"""Caps of an agent's day, which count only where there are any, and days and months in a tenant's own time zone."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.gate import Gate, at, capped, refused
from tests.support.heads import as_once
from tests.support.money import TENANT, exactly, policy
from turnkeeper.core.errors import InvalidRequest
from turnkeeper.core.ledger import Counter, Reservation
from turnkeeper.runtime.store import keys
from turnkeeper.runtime.store.tenants import Tenants
from turnkeeper.table import Put

# ---- an agent's day ----


def test_an_agents_day_is_capped_over_all_users_and_other_agents_are_not() -> None:
    gate = capped(agent_daily={"support": 100})
    gate.settle(gate.admit(gate.session("a", "ann", agent="support"), exactly(60)), 60)
    head = gate.session("b", "bob", agent="support")
    data = refused(gate, head, exactly(41))
    assert (data["scope"], data["contended"], data["limit_usd"]) == ("agent_daily", False, "0.0000001")
    assert data["resets_at"] == "2026-03-03T00:00:00.000Z"
    gate.admit(head, exactly(40))
    gate.admit(gate.session("c", "bob", agent="research"), exactly(1_000))
    gate.books().check()


def test_a_new_day_has_a_new_cap() -> None:
    gate = capped(agent_daily=100)
    head = gate.settle(gate.admit(gate.session(), exactly(100)), 100)
    refused(gate, head, exactly(1))
    gate.waiting.advance(86_400)
    gate.admit(head, exactly(100))
    gate.books().check()


def writes(gate: Gate) -> list[int]:
    """How many operations each transaction has."""
    sizes: list[int] = []
    write = gate.memory.write

    def counted(operations: Any) -> None:
        sizes.append(len(operations))
        write(operations)

    gate.memory.write = counted  # type: ignore[method-assign]
    return sizes


def test_who_has_no_such_cap_pays_nothing_for_it() -> None:
    """No item more in any transaction, and none that all its sessions write."""
    sizes: list[list[int]] = []
    for plan in ({}, {"agent_daily": {"research": 100}}, {"agent_daily": 10**9}):
        gate = capped(**plan)
        head = gate.settle(gate.admit(gate.session(agent="support"), exactly(1)), 1)
        sizes.append(writes(gate))
        gate.settle(gate.admit(head, exactly(1)), 1)
        counted = gate.books().counter("agent_daily", "2026-03-02", agent="support")
        assert bool(counted) == (plan == {"agent_daily": 10**9})
    without, for_another, with_it = sizes
    assert without == for_another
    assert with_it == [count + 1 for count in without]


def test_it_counts_from_when_it_is_set_and_only_while_it_is() -> None:
    gate = capped()
    head = gate.settle(gate.admit(gate.session(), exactly(90)), 90)
    gate.tenants.set(TENANT, actor="ops", caps={"agent_daily": 100})
    head = gate.settle(gate.admit(head, exactly(60)), 60)
    gate.tenants.set(TENANT, actor="ops", caps={"agent_daily": None})
    head = gate.settle(gate.admit(head, exactly(500)), 500)
    gate.tenants.set(TENANT, actor="ops", caps={"agent_daily": 100})
    assert refused(gate, head, exactly(41))["spent_usd"] == "0.00000006"
    gate.admit(head, exactly(40))
    gate.books().check()


@pytest.mark.parametrize("before", [None, 1_000, {"agent": 1_000}])
@pytest.mark.parametrize("after", [None, 10, {"agent": 2_000}, {"other": 10}])
def test_a_call_in_flight_is_settled_where_it_was_reserved_whatever_is_set_meanwhile(before: Any, after: Any) -> None:
    gate = Gate(policy(before={"agent_daily": before}, after={"agent_daily": after}))
    admitted = gate.admit(gate.session(), exactly(500))
    gate.tenants.set(TENANT, actor="ops", plan="after")
    gate.books().check()
    gate.settle(admitted, 300)
    gate.books().check()
    gate.books().check_at_rest()
    assert gate.books().counter("agent_daily", "2026-03-02").get("spent", 0) == (0 if before is None else 300)


def test_a_runner_that_knew_of_no_cap_is_told_by_the_shards() -> None:
    gate = capped()
    old = gate.tenants.terms(TENANT)
    head = gate.settle(gate.admit(gate.session(), exactly(1), terms=old), 1)
    gate.tenants.set(TENANT, actor="ops", caps={"agent_daily": 100})
    assert refused(gate, head, exactly(101), terms=old)["scope"] == "agent_daily"
    assert (
        "agent_daily"
        in (gate.admit(head, exactly(100), terms=old).account.pending or pytest.fail("not admitted")).periods
    )


def test_an_override_is_for_every_agent_whatever_the_plan_says_of_each() -> None:
    gate = capped(agent_daily={"support": 100, "research": None})
    gate.tenants.set(TENANT, actor="ops", caps={"agent_daily": 50})
    for agent in ("support", "research", "other"):
        assert refused(gate, gate.session(agent, agent=agent), exactly(51))["limit_usd"] == "0.00000005"
    terms = gate.tenants.set(TENANT, actor="ops", from_plan={"agent_daily"})
    assert [terms.caps.cap("agent_daily", agent) for agent in ("support", "research", "other")] == [100, None, None]


def test_money_in_flight_of_the_same_agent_is_waited_for() -> None:
    gate = capped(agent_daily=100)
    holder = gate.admit(gate.session("holder", "bob"), exactly(90))
    gate.waiting.on_sleep = lambda: gate.settle(holder, 0, "voided") and None
    assert gate.admit(gate.session(), exactly(90), wait_seconds=60.0).account.pending is not None
    assert gate.waiting.slept == 1


def test_reports_tell_each_agent_that_has_a_cap() -> None:
    gate = capped(agent_daily={"support": 100, "research": 50})
    gate.settle(gate.admit(gate.session(agent="support"), exactly(60)), 60)
    states = gate.treasury.states(gate.tenants.terms(TENANT), "ann", ["other", "research", "support"])
    assert [(state.agent, state.cap, state.spent) for state in states if state.scope == "agent_daily"] == [
        ("research", 50, 0),
        ("support", 100, 60),
    ]
    assert {state.agent for state in states if state.scope != "agent_daily"} == {None}


# ---- reservations of version 0.1.0 ----

OLD = {"call": 1, "amount_nanousd": 70, "model": "model", "max_tokens": 1, "shard": 2, "at": "2026-03-02T09:00:00.000Z"}


def test_a_reservation_of_the_first_version_names_the_three_counters_that_it_holds() -> None:
    stored = Reservation.model_validate({**OLD, "day": "2026-03-02", "month": "2026-03"})
    assert stored.counters == (
        Counter("user_daily", "2026-03-02"),
        Counter("user_monthly", "2026-03"),
        Counter("tenant_monthly", "2026-03", 2),
    )


def test_a_call_that_the_first_version_left_in_flight_is_settled_where_it_was_reserved() -> None:
    """Also under terms that it knew nothing of."""
    gate = Gate(policy(plan={"tenant_monthly": 1_000}), compact=False)
    gate.tenants.set(TENANT, actor="ops", shards=4)
    head = gate.admit(gate.session(), exactly(70))
    assert head.account.pending is not None
    old = {**OLD, "shard": head.account.pending.shard, "day": "2026-03-02", "month": "2026-03"}
    as_once(gate.memory, keys.head_key(TENANT, "s"), set={"pending": json.dumps(old)}, remove=["pending_detail"])
    gate.memory.write([Put(keys.call_key(TENANT, "s", 1), {**old, "state": "pending"})])
    gate.tenants.set(TENANT, actor="ops", caps={"agent_daily": 10}, timezone="Pacific/Kiritimati")
    gate.waiting.advance(3_600)
    assert gate.take_over(gate.sessions.head(TENANT, "s")).account.pending is None
    books = gate.books()
    books.check()
    books.check_at_rest()
    assert books.spent == books.committed("2026-03") == books.counter("user_daily", "2026-03-02")["spent"] == 70
    assert books.counter("agent_daily", "2026-03-02") == {}


@given(
    st.dictionaries(st.sampled_from(["user_daily", "user_monthly", "tenant_monthly", "agent_daily"]), st.text()),
    st.integers(0, 31),
)
def test_a_stored_reservation_is_read_as_it_was_made(periods: Any, shard: int) -> None:
    made = Reservation.model_validate({**OLD, "shard": shard, "periods": periods})
    assert Reservation.model_validate_json(made.model_dump_json()) == made
    assert {counter.scope: counter.period for counter in made.counters} == periods


# ---- time zones ----


def test_days_and_months_begin_at_the_tenants_midnight() -> None:
    """July in Zurich begins at 22 o'clock UTC."""
    gate = Gate(policy(plan={"user_daily": 100, "timezone": "Europe/Zurich"}), at(2026, 6, 30, 21, 59))
    head = gate.settle(gate.admit(gate.session(), exactly(100)), 100)
    data = refused(gate, head, exactly(1))
    assert data["resets_at"] == "2026-06-30T22:00:00.000Z"
    gate.waiting.advance(60)
    head = gate.admit(head, exactly(100))
    assert head.account.pending is not None
    assert head.account.pending.periods == {
        "user_daily": "2026-07-01",
        "user_monthly": "2026-07",
        "tenant_monthly": "2026-07",
    }
    gate.books().check()


def test_a_time_zone_is_set_changed_and_given_back_to_the_plan() -> None:
    gate = Gate(policy(plan={"timezone": "Europe/Zurich"}, other={"timezone": "Asia/Tokyo"}))
    zones = [
        gate.tenants.set(TENANT, actor="ops", **setting).caps.timezone
        for setting in (
            {"caps": {"task": 1}},
            {"timezone": "America/Lima"},
            {"plan": "other"},
            {"timezone": "plan"},
            {"timezone": "UTC"},
        )
    ]
    assert zones == ["Europe/Zurich", "America/Lima", "America/Lima", "Asia/Tokyo", "UTC"]
    with pytest.raises(InvalidRequest, match="IANA"):
        gate.tenants.set(TENANT, actor="ops", timezone="Lima")
    assert gate.tenants.terms(TENANT).caps.timezone == "UTC"


@pytest.mark.parametrize("zone", ["Pacific/Kiritimati", "Etc/GMT+12", "Europe/Zurich"])
@pytest.mark.parametrize("moment", [at(2026, 3, 31, 12), at(2026, 4, 1, 11), at(2026, 3, 15)])
def test_a_zone_that_is_changed_loses_no_money_in_flight_and_refuses_who_does_not_know_it(
    zone: str, moment: datetime
) -> None:
    gate = Gate(policy(plan={"user_daily": 100, "tenant_monthly": 1_000}), moment)
    old = gate.tenants.terms(TENANT)
    flying = gate.admit(gate.session("flying"), exactly(70), terms=old)
    assert flying.account.pending is not None
    gate.tenants.set(TENANT, actor="ops", timezone=zone)
    new = gate.tenants.terms(TENANT)
    after = gate.admit(gate.session("after", "bob"), exactly(100), terms=old)
    assert after.account.pending is not None
    assert after.account.pending.periods == new.caps.periods("agent", moment)
    gate.settle(flying, 50)
    gate.books().check()
    assert gate.books().counter("user_daily", flying.account.pending.periods["user_daily"])["spent"] == 50
    gate.books().check_shares(new)


def test_going_back_to_an_earlier_day_finds_what_was_spent_in_it() -> None:
    """A cap of a day holds for all that is counted in it, however often the zone is changed."""
    gate = Gate(policy(plan={"user_daily": 100}), at(2026, 3, 2, 12))
    head = gate.settle(gate.admit(gate.session(), exactly(100)), 100)
    gate.tenants.set(TENANT, actor="ops", timezone="Pacific/Kiritimati")
    head = gate.settle(gate.admit(head, exactly(80)), 80)
    gate.tenants.set(TENANT, actor="ops", timezone="UTC")
    refused(gate, head, exactly(1))
    gate.waiting.advance(12 * 3_600)
    assert refused(gate, head, exactly(21))["spent_usd"] == "0.00000008"
    gate.admit(head, exactly(20))


def test_a_pause_holds_in_every_month_that_it_may_be_anywhere() -> None:
    """A runner with the policy file before a deployment knows another zone, and is in another month."""
    moment = at(2026, 3, 31, 12)
    east = Gate(policy(plan={"timezone": "Pacific/Kiritimati"}), moment)
    east.settle(east.admit(east.session("east"), exactly(1)), 1)
    assert {month for month, _ in east.books().shards} == {"2026-04"}
    Tenants(east.memory, policy(plan={}), east.waiting).set(TENANT, actor="ops", paused=True)
    assert all(item["paused"] for item in east.books().shards.values())
    assert {month for month, _ in east.books().shards} == {"2026-03", "2026-04"}
