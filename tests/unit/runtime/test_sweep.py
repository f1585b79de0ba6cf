from __future__ import annotations

import logging
import threading
import time
from dataclasses import replace
from typing import Any
from unittest.mock import Mock

import pytest
from botocore.exceptions import EndpointConnectionError

from tests.support.kit import POLICY, WHO, MemoryKit
from turnkeeper.adapters.sns import SnsAlerts
from turnkeeper.core.agent import Agent
from turnkeeper.core.errors import LeaseLost, Unavailable
from turnkeeper.core.policy import policy_of
from turnkeeper.core.session import Head
from turnkeeper.core.tools import tool
from turnkeeper.runtime.intake import NewSession
from turnkeeper.runtime.store import codec, keys
from turnkeeper.runtime.store.holders import Want
from turnkeeper.runtime.store.purses import CALL_SECONDS
from turnkeeper.runtime.store.tenants import Tenants, audit_records
from turnkeeper.runtime.world import Allowance
from turnkeeper.table import Put, Update
from turnkeeper.testing.clock import ManualClock


class Crash(BaseException):
    """The runner dies here."""


@pytest.fixture
def kit() -> MemoryKit:
    return MemoryKit(clock=ManualClock(), runner="none", lease_seconds=60)


def sweep(kit: MemoryKit) -> dict[str, Any]:
    report = kit.sweep.run(lambda: 10.0).to_json()
    return {name: value for name, value in report.items() if value and name not in {"complete", "sessions"}}


def new(kit: MemoryKit, agent: str = "slow", text: str = "[[say hello]]") -> Head:
    return kit.intake.create(WHO, NewSession(agent, text, {}))


def die_in_the_model(kit: MemoryKit, head: Head) -> Head:
    """A runner claims the session, reserves money, calls the model and is gone."""
    call = kit.model.call

    def crash(*_: Any, **__: Any) -> None:
        raise Crash

    kit.model.call = crash  # type: ignore[method-assign]
    with pytest.raises(Crash):
        kit.engine.run(head.tenant_id, head.session_id, Allowance(runner="lambda"))
    kit.model.call = call  # type: ignore[method-assign]
    return kit.head(head.session_id)


def test_nothing_is_done_where_nothing_is_due(kit: MemoryKit) -> None:
    queued = new(kit)
    kit.dispatch.send(queued)
    idle = new(kit)
    kit.run(idle)
    assert sweep(kit) == {}
    kit.clock.advance(59)  # type: ignore[attr-defined]
    assert sweep(kit) == {}


def test_a_lost_handoff_is_sent_again_at_growing_intervals(kit: MemoryKit) -> None:
    head = new(kit)
    sent_at: list[int] = []
    for second in range(0, 3600, 10):
        kit.clock.advance(10)  # type: ignore[attr-defined]
        if sweep(kit):
            sent_at.append(second + 10)
    gaps = [b - a for a, b in zip([0, *sent_at], sent_at, strict=False)]
    assert gaps == [60, 120, 240, 480, 900, 900, 900]
    assert len(kit.queue.bodies()) == 7
    assert kit.work() == 7
    done = kit.head(head.session_id)
    assert (done.status, done.steps, done.lease.fencing_token) == ("idle", 1, 1)


def test_a_dead_runners_session_is_resumed_and_its_money_in_doubt(kit: MemoryKit) -> None:
    dead = die_in_the_model(kit, new(kit, agent="helper"))
    assert dead.account.pending is not None
    kit.clock.advance(60)  # type: ignore[attr-defined]
    assert sweep(kit) == {}, "clocks differ by seconds"
    kit.clock.advance(4)  # type: ignore[attr-defined]
    assert sweep(kit) == {"resumed": 1}
    assert sweep(kit) == {}
    released = kit.head(dead.session_id)
    assert (released.status, released.lease.owner, released.lease.fencing_token) == (
        "queued",
        None,
        dead.lease.fencing_token,
    )
    assert kit.work() == 1
    head = kit.head(dead.session_id)
    assert (head.status, head.account.pending, head.steps) == ("idle", None, 1)
    assert [call["state"] for call in kit.sessions.calls("acme", dead.session_id)] == ["in_doubt", "settled"]
    assert head.account.cost_nanousd == sum(entry.cost_nanousd for entry in kit.entries(dead.session_id))


def test_a_released_session_cannot_be_written_by_the_runner_that_had_it(kit: MemoryKit) -> None:
    head = new(kit)
    zombie = kit.sessions.claim("acme", head.session_id, "zombie", "fargate")
    kit.clock.advance(64)  # type: ignore[attr-defined]
    assert sweep(kit) == {"resumed": 1}
    with pytest.raises(LeaseLost):
        kit.sessions.extend(zombie)


def test_an_interactive_session_goes_back_to_the_function(kit: MemoryKit) -> None:
    head = new(kit, agent="quick")
    kit.sessions.claim("acme", head.session_id, "lambda", "lambda")
    kit.clock.advance(64)  # type: ignore[attr-defined]
    assert sweep(kit) == {"resumed": 1}
    assert kit.turns.started == [("acme", head.session_id)]
    assert (kit.head(head.session_id).status, kit.queue.bodies()) == ("running", [])


def test_what_could_not_be_sent_is_sent_the_next_time(kit: MemoryKit, monkeypatch: pytest.MonkeyPatch) -> None:
    new(kit)
    kit.clock.advance(61)  # type: ignore[attr-defined]

    def refuse(*_: Any, **__: Any) -> None:
        raise Unavailable("SQS is out of reach")

    with monkeypatch.context() as patched:
        patched.setattr(kit.queue, "send", refuse)
        assert sweep(kit) == {"resent": 1, "unsent": 1}
    kit.clock.advance(121)  # type: ignore[attr-defined]
    assert sweep(kit) == {"resent": 1}
    assert len(kit.queue.bodies()) == 1


def whose_clock_is_ahead(kit: MemoryKit, by: float) -> MemoryKit:
    """Another process on the same table."""
    clock = ManualClock()
    clock.advance(by)
    other = MemoryKit(clock=clock, runner="none", lease_seconds=60)
    other.table, other.blobs = kit.table, kit.blobs
    return other


@pytest.mark.parametrize("held", [True, False], ids=["a runner's", "on its way"])
def test_a_clock_that_was_hours_ahead_keeps_no_session_from_others(kit: MemoryKit, held: bool) -> None:
    """Whoever wrote it is gone, and would have been waited for until its clock is right."""
    gone = whose_clock_is_ahead(kit, 2 * 3_600)
    head = new(gone)
    if held:
        gone.sessions.claim("acme", head.session_id, "gone", "fargate")
    assert sweep(kit) == {"resumed" if held else "resent": 1}
    assert sweep(kit) == {}
    assert kit.work() == 1
    assert (kit.head(head.session_id).status, kit.head(head.session_id).steps) == ("idle", 1)


def test_a_clock_that_is_minutes_ahead_is_believed(kit: MemoryKit) -> None:
    ahead = whose_clock_is_ahead(kit, 50 * 60)
    ahead.sessions.claim("acme", new(ahead).session_id, "ahead", "fargate")
    assert sweep(kit) == {}
    kit.clock.advance(51 * 60 + 4)  # type: ignore[attr-defined]
    assert sweep(kit) == {"resumed": 1}


def test_an_erasure_is_finished(kit: MemoryKit) -> None:
    head = new(kit, agent="plain")
    kit.run(head)
    kit.erasure.erase(kit.head(head.session_id), actor="ann")
    # What a runner that was cut off left behind.
    kit.table.write([Update(keys.entry_key("acme", head.session_id, 2), set={"data": b'{"content": []}'})])
    assert sweep(kit) == {}
    kit.clock.advance(200)  # type: ignore[attr-defined]
    assert sweep(kit) == {"erased": 1}
    assert "data" not in (kit.table.get(keys.entry_key("acme", head.session_id, 2)) or {})
    assert sweep(kit) == {}


def test_an_erasure_is_not_finished_because_its_session_was_due_before(
    kit: MemoryKit, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The index lags: it names a session whose runner was silent. The runner may still leave something behind."""
    head = new(kit)
    kit.sessions.claim("acme", head.session_id, "silent", "fargate")
    kit.clock.advance(64)  # type: ignore[attr-defined]
    kit.erasure.erase(kit.head(head.session_id), actor="ann")
    with monkeypatch.context() as patched:
        patched.setattr(kit.sessions, "due", lambda _now, shard: [kit.head(head.session_id)] if shard == 0 else [])
        assert sweep(kit) == {}
    kit.blobs.put(f"{keys.blob_prefix('acme', head.session_id)}late", b"what was said")
    kit.clock.advance(181)  # type: ignore[attr-defined]
    assert sweep(kit) == {"erased": 1}
    assert kit.blobs.contents == {}


def test_what_another_sweep_has_sent_meanwhile_is_not_sent_again(
    kit: MemoryKit, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The index lags: it still names a session whose head says that it is on its way since a moment ago."""
    head = new(kit)
    kit.clock.advance(61)  # type: ignore[attr-defined]
    assert sweep(kit) == {"resent": 1}
    monkeypatch.setattr(kit.sessions, "due", lambda _now, shard: [kit.head(head.session_id)] if shard == 0 else [])
    assert sweep(kit) == {}
    assert len(kit.queue.bodies()) == 1


def test_two_sweeps_at_once_send_once(kit: MemoryKit) -> None:
    for _ in range(20):
        new(kit)
    kit.clock.advance(61)  # type: ignore[attr-defined]
    reports: list[dict[str, Any]] = []
    start = threading.Barrier(4)

    def run() -> None:
        start.wait()
        reports.append(kit.sweep.run(lambda: 10.0).to_json())

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(report["resent"] for report in reports) == 20
    assert sum(report["failed"] for report in reports) == 0
    assert len(kit.queue.bodies()) == 20


def test_money_left_at_rest_is_found_and_settled(kit: MemoryKit) -> None:
    dead = die_in_the_model(kit, new(kit))
    # No write of the kit can bring a session here: an operator's hand, or a defect.
    at_rest = replace(dead, status="stopped", lease=replace(dead.lease, owner=None))
    kit.table.write([Put(keys.head_key("acme", dead.session_id), codec.head_item(at_rest))])
    assert sweep(kit) == {"settled": 1}
    head = kit.head(dead.session_id)
    assert (head.status, head.account.pending) == ("stopped", None)
    assert dead.account.pending is not None
    assert head.account.cost_nanousd == dead.account.pending.amount_nanousd
    assert sum(entry.cost_nanousd for entry in kit.entries(dead.session_id)) == head.account.cost_nanousd
    terms = kit.tenants.terms("acme")
    states = kit.treasury.states(terms, "ann", [])
    assert {(state.reserved, state.spent) for state in states} == {(0, head.account.cost_nanousd)}
    assert [alert.kind for alert in kit.alerts.alerts] == ["stale_reservation"]
    assert sweep(kit) == {}


def test_money_left_at_rest_is_settled_though_nobody_can_be_told(kit: MemoryKit) -> None:
    dead = die_in_the_model(kit, new(kit))
    at_rest = replace(dead, status="stopped", lease=replace(dead.lease, owner=None))
    kit.table.write([Put(keys.head_key("acme", dead.session_id), codec.head_item(at_rest))])
    refused: Any = Mock(publish=Mock(side_effect=EndpointConnectionError(endpoint_url="https://sns")))
    report = replace(kit.sweep, alerts=SnsAlerts(refused, "arn")).run(lambda: 10.0)
    assert (report.settled, report.failed) == (1, 1)
    assert kit.head(dead.session_id).account.pending is None
    assert sweep(kit) == {}


def test_a_session_whose_agent_is_gone_is_ended_with_its_money_settled(kit: MemoryKit) -> None:
    dead = die_in_the_model(kit, new(kit, agent="helper"))
    kit.catalog.agents.pop("helper")  # type: ignore[attr-defined]
    kit.clock.advance(64)  # type: ignore[attr-defined]
    assert sweep(kit) == {"resumed": 1}
    assert kit.work() == 1
    head = kit.head(dead.session_id)
    assert head.stop is not None
    assert (head.status, head.stop.reason, head.account.pending) == ("stopped", "internal_error", None)
    assert [call["state"] for call in kit.sessions.calls("acme", dead.session_id)] == ["in_doubt"]


def test_a_session_that_no_runner_survives_is_ended(kit: MemoryKit) -> None:
    """A tool that takes its process down each time."""
    deaths = 0

    @tool(effect="read")
    def explode() -> str:
        """Explode."""
        nonlocal deaths
        deaths += 1
        return "never"

    kit = MemoryKit(
        [Agent(name="bomb", model="claude-sonnet-5-5", system="You explode.", tools=[explode])],
        clock=ManualClock(),
        runner="none",
        lease_seconds=60,
    )
    head = new(kit, agent="bomb", text="[[tool explode {}]][[say done]]")
    put_results = kit.parallel.run_all

    def run_all(jobs: Any, **kwargs: Any) -> Any:
        outcomes = put_results(jobs, **kwargs)
        if deaths > before:
            raise Crash
        return outcomes

    kit.parallel.run_all = run_all  # type: ignore[method-assign,assignment]
    for _ in range(30):
        before = deaths
        try:
            kit.engine.run("acme", head.session_id, Allowance(runner="fargate"))
            break
        except Crash:
            kit.clock.advance(64)  # type: ignore[attr-defined]
            sweep(kit)
    ended = kit.head(head.session_id)
    assert ended.stop is not None
    assert (ended.status, ended.stop.reason, ended.lease.claims) == ("stopped", "internal_error", 0)
    assert deaths == 11
    spoken = [entry.type for entry in kit.entries(head.session_id)]
    assert spoken == ["user", "assistant", *["runner_lost"] * 11, "tool_results", "status"]


def test_a_transcript_that_cannot_be_read_ends_the_turn(kit: MemoryKit) -> None:
    dead = die_in_the_model(kit, new(kit))
    key = keys.entry_key("acme", dead.session_id, 1)
    kit.table.write([Update(key, set={"data": b"\x78damaged"})])
    kit.clock.advance(64)  # type: ignore[attr-defined]
    assert sweep(kit) == {"resumed": 1}
    assert kit.work() == 1
    head = kit.head(dead.session_id)
    assert head.stop is not None
    assert (head.status, head.stop.reason, head.account.pending) == ("stopped", "internal_error", None)
    assert sweep(kit) == {}


def test_a_head_that_cannot_be_read_does_not_hide_the_others(kit: MemoryKit) -> None:
    for damage in (
        {"set": {"status": "from a later version"}},
        {"set": {"packed": "a text"}},
        {"set": {"handoff": 7}},
        {"remove": ("updated_at",)},
    ):
        kit.table.write([Update(keys.head_key("acme", new(kit).session_id), **damage)])
    for _ in range(3):
        new(kit)
    kit.clock.advance(61)  # type: ignore[attr-defined]
    assert sweep(kit) == {"resent": 3}


def test_it_ends_when_time_is_up_and_goes_on_the_next_time(kit: MemoryKit) -> None:
    for _ in range(10):
        new(kit)
    kit.clock.advance(61)  # type: ignore[attr-defined]
    left = iter([1.0, 1.0, 1.0, 0.0])
    report = kit.sweep.run(lambda: next(left))
    assert (report.resent, report.complete, len(report.sessions)) == (3, False, 3)
    assert sweep(kit) == {"resent": 7}


def test_a_failure_of_one_leaves_the_others_alone(kit: MemoryKit, monkeypatch: pytest.MonkeyPatch) -> None:
    bad = new(kit)
    new(kit)
    kit.clock.advance(61)  # type: ignore[attr-defined]
    write = kit.table.write

    def failing(operations: Any) -> None:
        if operations[0].key == keys.head_key("acme", bad.session_id):
            raise ZeroDivisionError
        write(operations)

    monkeypatch.setattr(kit.table, "write", failing)
    assert sweep(kit) == {"resent": 1, "failed": 1}


def test_the_handler_reports_and_minds_its_time(kit: MemoryKit, monkeypatch: pytest.MonkeyPatch) -> None:
    from functions.sweep import handler as module

    new(kit)
    kit.clock.advance(61)  # type: ignore[attr-defined]
    monkeypatch.setattr(module, "_kit", lambda: kit)

    class Context:
        def get_remaining_time_in_millis(self) -> int:
            return 9_000

    assert module.handler({}, Context())["complete"] is False
    assert module.handler({}, None)["resent"] == 1


def test_a_sweep_that_read_before_a_runner_claimed_writes_nothing(kit: MemoryKit) -> None:
    head = new(kit)
    kit.sessions.claim("acme", head.session_id, "runner", "fargate")
    with pytest.raises(LeaseLost):
        kit.sessions.send_again(head)


# ---- what was kept long enough ----


def rested(kit: MemoryKit, text: str = "[[say hello]]", days: int | None = 30) -> Head:
    plans = {"standard": {**POLICY["plans"]["standard"], **({"retention_days": days} if days else {})}}
    kit.intake = replace(kit.intake, tenants=Tenants(kit.table, policy_of({**POLICY, "plans": plans}), kit.clock))
    head = new(kit, text=text)
    return kit.engine.run("acme", head.session_id, Allowance(runner="fargate"))


def days(kit: MemoryKit, number: float) -> None:
    kit.clock.advance(number * 86_400)  # type: ignore[attr-defined]


def test_a_session_is_erased_once_it_has_rested_long_enough(kit: MemoryKit) -> None:
    short, long, for_good = rested(kit, "[[say secret]]", 30), rested(kit, days=60), rested(kit, days=None)
    days(kit, 29)
    assert sweep(kit) == {}
    days(kit, 2)
    assert sweep(kit) == {"expired": 1}
    assert [kit.head(one.session_id).status for one in (short, long, for_good)] == ["erased", "idle", "idle"]
    assert all("secret" not in str(entry.content) for entry in kit.entries(short.session_id))
    [record] = [one for one in audit_records(kit.sessions.audit("acme", short.session_id)) if one["kind"] == "erase"]
    assert record["actor"] == "retention"
    assert kit.head(short.session_id).account.cost_nanousd == short.account.cost_nanousd > 0
    days(kit, 1)
    assert sweep(kit) == {"erased": 1}, "and what a runner could have left behind"
    days(kit, 400)
    assert sweep(kit) == {"expired": 1}
    assert sweep(kit).keys() <= {"erased"}
    assert kit.head(for_good.session_id).status == "idle"


def test_a_session_that_goes_on_is_kept_from_its_next_rest_on(kit: MemoryKit) -> None:
    head = rested(kit)
    days(kit, 29)
    kit.intake.post(head, "go on")
    kit.engine.run("acme", head.session_id, Allowance(runner="fargate"))
    days(kit, 29)
    assert sweep(kit) == {}
    days(kit, 2)
    assert sweep(kit) == {"expired": 1}


def test_a_session_that_was_written_meanwhile_is_not_erased(kit: MemoryKit, monkeypatch: pytest.MonkeyPatch) -> None:
    head = rested(kit)
    days(kit, 31)
    kit.intake.post(head, "go on")
    # The index and the head as they were a moment ago.
    monkeypatch.setattr(kit.sessions, "kept_long_enough", lambda _now, shard: [head] if shard == 0 else [])
    assert sweep(kit) == {"alive": 1}
    assert kit.head(head.session_id).status == "queued"


def test_one_sweep_erases_a_few(kit: MemoryKit, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("turnkeeper.runtime.sweep._MAX_EXPIRED", 3)
    heads = [rested(kit) for _ in range(5)]
    dead = die_in_the_model(kit, new(kit))
    days(kit, 31)
    done = sweep(kit)
    assert (done["expired"], done["resumed"]) == (3, 1), "whoever waits comes first"
    assert kit.head(dead.session_id).lease.owner is None
    assert sweep(kit)["expired"] == 2
    assert {kit.head(head.session_id).status for head in heads} == {"erased"}


def test_those_that_cannot_be_erased_hold_up_no_others(kit: MemoryKit, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("turnkeeper.runtime.sweep._MAX_EXPIRED", 3)
    stuck = [rested(kit) for _ in range(5)]
    for head in stuck:  # A record that its head knows nothing of, after a restore or by hand.
        kit.table.write([Put(keys.audit_key("acme", head.session_id, head.audit_seq + 1), {"kind": "erase"})])
    days(kit, 1)
    head = rested(kit)
    days(kit, 31)
    assert sweep(kit)["expired"] == 1
    assert kit.head(head.session_id).status == "erased"


# ---- calls of the gateway ----


def test_calls_of_a_gateway_that_is_gone_are_doubted(kit: MemoryKit) -> None:
    _, token = kit.gateway_tokens.mint("acme", "ann", actor="ops")
    want = Want(kit.prices.rates("claude-sonnet-5-5", {}), 100, 100)
    kit.purses.beat()
    call = kit.purses.reserve(token.purse, kit.tenants.terms("acme"), want)
    kit.clock.advance(50)  # type: ignore[attr-defined]
    kit.purses.beat()
    kit.clock.advance(20)  # type: ignore[attr-defined]
    assert sweep(kit) == {}  # It is due, but its process lives.
    kit.clock.advance(60)  # type: ignore[attr-defined]
    assert sweep(kit) == {"doubted": 1}
    assert sweep(kit) == {}
    spent = kit.purses.spent("acme", token.id)
    amount = call.reservation.amount_nanousd
    assert (spent.spent_nanousd, spent.in_doubt_nanousd, spent.reserved_nanousd) == (amount, amount, 0)


def test_calls_of_a_gateway_that_is_gone_are_doubted_though_its_clock_was_hours_ahead(kit: MemoryKit) -> None:
    gone = whose_clock_is_ahead(kit, 2 * 3_600)
    _, token = gone.gateway_tokens.mint("acme", "ann", actor="ops")
    gone.purses.beat()
    gone.purses.reserve(
        token.purse, gone.tenants.terms("acme"), Want(gone.prices.rates("claude-sonnet-5-5", {}), 100, 100)
    )
    assert sweep(kit) == {"doubted": 1}
    assert sweep(kit) == {}


def test_a_call_that_its_own_process_forgot_is_doubted_in_the_end(kit: MemoryKit) -> None:
    _, token = kit.gateway_tokens.mint("acme", "ann", actor="ops")
    want = Want(kit.prices.rates("claude-sonnet-5-5", {}), 100, 100)
    kit.purses.reserve(token.purse, kit.tenants.terms("acme"), want)
    kit.clock.advance(CALL_SECONDS + 601)  # type: ignore[attr-defined]
    kit.purses.beat()
    assert sweep(kit) == {"doubted": 1}


def test_what_stays_broken_is_told_once_a_day_and_looked_after_each_minute(
    kit: MemoryKit, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A companion whose head nobody can read, and a head of a session that is due: both until somebody mends them."""
    now = time.time()
    monkeypatch.setattr(logging.time, "time", lambda: now)
    monkeypatch.setattr(logging.time, "time_ns", lambda: int(now * 1e9), raising=False)
    head, companion, due = kit.run(new(kit)), kit.run(new(kit)), new(kit)
    named = {"companion_tenant": "acme", "companion_session": companion.session_id}
    kit.table.write([Put(keys.companion_key("acme", head.session_id, companion.session_id), named)])
    whole = kit.table.get(keys.head_key("acme", companion.session_id))
    assert whole is not None
    kit.table.write([Put(keys.head_key("acme", companion.session_id), {"status": "from a later version"})])
    kit.table.update(Update(keys.head_key("acme", due.session_id), set={"status": "from a later version"}))
    with pytest.raises(ValueError, match="status"):
        kit.erasure.erase(head, actor="ann")
    kit.clock.advance(600)  # type: ignore[attr-defined]
    caplog.clear()

    def errors() -> int:
        return sum(record.levelno >= logging.ERROR for record in caplog.records)

    for _ in range(3):
        assert sweep(kit) == {"failed": 1}
    assert errors() == 2
    now += 86_401
    assert sweep(kit) == {"failed": 1}
    assert errors() == 4
    kit.table.write([Put(keys.head_key("acme", companion.session_id), whole)])
    assert sweep(kit) == {"erased": 1}
    assert kit.head(companion.session_id).status == "erased"
    assert errors() == 4
