"""A cancel ends a session that no runner holds by itself, and asks the runner of one that is held."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest

from tests.support.kit import MemoryKit
from tests.support.scripted import begin, check_session, reply, results, say, scripted_kit, states, use
from turnkeeper import tool
from turnkeeper.core.errors import LeaseLost, SessionBusy, SessionEnded
from turnkeeper.core.policy import Terms
from turnkeeper.core.session import Head
from turnkeeper.ports import ModelReply, ModelRequest
from turnkeeper.runtime.store import keys
from turnkeeper.runtime.store.sessions import SKEW_MILLIS
from turnkeeper.runtime.threads import Sequential
from turnkeeper.runtime.turn import MAX_CLAIMS
from turnkeeper.runtime.world import Allowance
from turnkeeper.table import Item, StoreBusy, Update
from turnkeeper.testing.faulty_table import Crash


@tool(effect="once", timeout_seconds=60)
def pay(amount: int) -> str:
    """Pay."""
    return f"paid {amount}"


def cancel(kit: MemoryKit, head: Head, actor: str = "bob") -> Head:
    return kit.cancelling.cancel(kit.head(head.session_id), actor=actor)


def advance(kit: MemoryKit, seconds: float) -> None:
    kit.clock.advance(seconds)  # type: ignore[attr-defined]


def is_cancelled(kit: MemoryKit, head: Head) -> None:
    """At rest, valid, and audited once with who asked."""
    left = kit.head(head.session_id)
    assert left.stop is not None
    assert (left.status, left.stop.reason) == ("cancelled", "cancelled")
    assert (left.lease.owner, left.handoff, left.account.pending) == (None, None, None)
    check_session(kit, left)
    records = [each for each in kit.sessions.audit("acme", head.session_id) if each["kind"] == "cancel"]
    assert [(each["actor"], each["detail"]["reason"]) for each in records] == [("bob", "cancelled")]


def dies_in_the_call(_: ModelRequest) -> ModelReply:
    raise Crash("dead")


def dies_before_it_writes(kit: MemoryKit, what: str) -> None:
    """The runner, before its next write of such an entry."""
    write = kit.table.write

    def dies(operations: Any) -> None:
        if any(what in str(getattr(operation, "item", "")) for operation in operations):
            kit.table.write = write  # type: ignore[method-assign]
            raise Crash("dead")
        write(operations)

    kit.table.write = dies  # type: ignore[method-assign]


def dead(*answers: Any, at: str | None = None) -> tuple[MemoryKit, Head]:
    """A session whose runner died in its first call, or before it wrote ``at``; its lease has run out."""
    kit = scripted_kit(*answers, tools=[pay])
    head = begin(kit)
    if at is not None:
        dies_before_it_writes(kit, at)
    with pytest.raises(Crash):
        kit.run(head)
    advance(kit, 120)
    return kit, head


# ---- nobody holds it ----


def test_one_whose_runner_died_in_its_call_ends_with_the_money_in_doubt() -> None:
    kit, head = dead(dies_in_the_call)
    assert kit.head(head.session_id).account.pending is not None
    left = cancel(kit, head)
    is_cancelled(kit, head)
    assert states(kit, left) == {"in_doubt": 1}
    assert left.account.cost_nanousd > 0
    assert len(kit.model.requests) == 1  # type: ignore[attr-defined]


def test_one_whose_runner_died_in_its_tools_tells_what_nobody_knows() -> None:
    kit, head = dead(reply(use("pay", amount=1)), at="tool_results")
    left = cancel(kit, head)
    is_cancelled(kit, head)
    [(name, outcome, _)] = results(kit, left)
    assert (name, outcome) == ("pay", "unknown")


@pytest.mark.parametrize("agent", ["plain", "slow"], ids=["for the function", "for the worker"])
def test_one_that_nobody_has_taken_up_yet_ends_unspent(agent: str) -> None:
    kit = scripted_kit()
    head = begin(kit, agent)
    cancel(kit, head)
    is_cancelled(kit, head)
    assert states(kit, head) == {}
    with pytest.raises(SessionEnded):
        kit.run(head)
    assert kit.model.requests == []  # type: ignore[attr-defined]


def test_one_that_was_handed_off_with_open_calls_says_that_they_never_ran() -> None:
    draining = threading.Event()

    def answer(_: ModelRequest) -> ModelReply:
        draining.set()
        return reply(use("pay", amount=1))

    kit = scripted_kit(answer, tools=[pay])
    head = begin(kit)
    left = kit.run(head, Allowance(runner="fargate", draining=draining.is_set))
    assert (left.status, left.unbegun) == ("queued", True)
    left = cancel(kit, head)
    is_cancelled(kit, head)
    assert results(kit, left) == [("pay", "error", "Cancelled before it ran.")]


def test_one_whose_agent_is_gone_ends_all_the_same() -> None:
    kit, head = dead(reply(use("pay", amount=1)), at="tool_results")
    del kit.catalog.agents["scripted"]  # type: ignore[attr-defined]
    cancel(kit, head)
    is_cancelled(kit, head)


def test_one_that_kills_its_runners_does_not_kill_the_cancel() -> None:
    kit, head = dead(*[dies_in_the_call] * (MAX_CLAIMS + 2))
    for _ in range(MAX_CLAIMS - 1):
        with pytest.raises(Crash):
            kit.run(head)
        advance(kit, 120)
    cancel(kit, head)
    is_cancelled(kit, head)


@pytest.mark.parametrize("broken", [["tool_call"], ["tool_call", "lost_call"]], ids=" and ".join)
def test_one_whose_calls_cannot_be_recorded_is_cancelled(broken: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    kit, head = dead(reply(use("pay", amount=1)), at="tool_results")
    for name in broken:
        monkeypatch.setattr(kit.auditor, name, lambda *_: 1 / 0)
    left = cancel(kit, head)
    assert left.stop is not None
    assert (left.status, left.stop.reason, left.lease.owner) == ("cancelled", "cancelled", None)
    assert "could not be" in left.stop.detail["hint"]
    [record] = [each for each in kit.sessions.audit("acme", head.session_id) if each["kind"] == "cancel"]
    assert record["actor"] == "bob"


def test_a_runner_that_only_seemed_dead_finds_its_lease_lost() -> None:
    def late(_: ModelRequest) -> ModelReply:
        advance(kit, 120)
        cancel(kit, head)
        return reply(say("late"))

    kit = scripted_kit(late)
    kit.parallel = Sequential()
    head = begin(kit, "plain")
    with pytest.raises(LeaseLost):
        kit.run(head)
    is_cancelled(kit, head)
    assert states(kit, head) == {"in_doubt": 1}


# ---- a runner holds it ----


def test_a_lease_counts_until_no_clock_can_think_that_it_holds() -> None:
    kit = scripted_kit(reply(say("ok")), tools=[pay])
    head = begin(kit)
    held = kit.sessions.claim("acme", head.session_id, "a runner", "fargate")
    advance(kit, kit.sessions.lease_seconds + SKEW_MILLIS / 1000)
    left = cancel(kit, head)
    assert (left.status, left.lease, left.turn.cancel_requested) == ("running", held.lease, True)
    advance(kit, 0.001)
    cancel(kit, head, "carol")
    is_cancelled(kit, head)  # By whoever asked first.


def test_a_cancel_that_dies_half_way_still_ends_the_session() -> None:
    """It was asked for first: whoever takes the session up next finds that."""
    kit, head = dead(dies_in_the_call)
    dies_before_it_writes(kit, "'cancel'")
    with pytest.raises(Crash):
        cancel(kit, head)
    advance(kit, 120)
    left = kit.run(head)
    assert left.status == "cancelled"
    is_cancelled(kit, head)


def test_a_busy_table_is_told_and_the_next_cancel_ends_it(monkeypatch: pytest.MonkeyPatch) -> None:
    kit, head = dead(dies_in_the_call)
    write = kit.table.write

    def busy(_: Any) -> None:
        advance(kit, 5)
        raise StoreBusy("too much")

    kit.table.write = busy  # type: ignore[assignment,method-assign]
    with pytest.raises(StoreBusy):
        cancel(kit, head)
    kit.table.write = write  # type: ignore[method-assign]
    assert kit.head(head.session_id).turn.cancel_requested
    advance(kit, 120)
    cancel(kit, head)
    is_cancelled(kit, head)


# ---- at the same moment ----


@pytest.mark.parametrize("begun", [False, True], ids=["queued", "dead"])
@pytest.mark.parametrize("round_", range(5))
def test_a_cancel_and_a_claim_at_the_same_moment_have_one_winner(begun: bool, round_: int) -> None:
    if begun:
        kit, head = dead(dies_in_the_call)
    else:
        kit = scripted_kit(reply(say("ok")), tools=[pay])
        head = begin(kit)
    before = kit.head(head.session_id).lease.fencing_token
    asked = len(kit.model.requests)  # type: ignore[attr-defined]
    both, waits = threading.Barrier(2), threading.local()
    # A claim is an update, and where it is from a dead runner a transaction.
    update, write = kit.table.update, kit.table.write

    def together(operation: Any) -> None:
        if isinstance(operation, Update) and "fencing_token" in operation.set and not getattr(waits, "over", False):
            waits.over = True
            both.wait(10)

    def updated(operation: Update) -> Any:
        together(operation)
        return update(operation)

    def written(operations: Any) -> None:
        together(operations[0])
        write(operations)

    kit.table.update, kit.table.write = updated, written  # type: ignore[method-assign]
    ends: dict[str, Any] = {}

    def act(name: str, what: Callable[[], Head]) -> None:
        try:
            ends[name] = what().status
        except (SessionBusy, SessionEnded, LeaseLost) as error:
            ends[name] = error.code

    acts = {"cancel": lambda: cancel(kit, head), "run": lambda: kit.run(head)}
    threads = [threading.Thread(target=act, args=each) for each in acts.items()]
    for thread in threads[:: 1 if round_ % 2 else -1]:
        thread.start()
    for thread in threads:
        thread.join(20)
    # The claim counts once. Where the runner won it, the word of the cancel was there before.
    assert kit.head(head.session_id).lease.fencing_token == before + 1
    assert ends in (
        {"cancel": "cancelled", "run": "session_busy"},
        {"cancel": "cancelled", "run": "session_ended"},
        {"cancel": "running", "run": "cancelled"},
        {"cancel": "cancelled", "run": "cancelled"},
        {"cancel": "session_ended", "run": "cancelled"},
    )
    is_cancelled(kit, head)
    assert len(kit.model.requests) == asked  # type: ignore[attr-defined]


def test_an_erasure_meanwhile_wins() -> None:
    kit, head = dead(dies_in_the_call)
    claim = kit.sessions.claim

    def claims(*of: Any, **more: Any) -> Head:
        claimed = claim(*of, **more)
        kit.erasure.erase(kit.head(head.session_id), actor="eve")
        return claimed

    kit.sessions.claim = claims  # type: ignore[method-assign]
    with pytest.raises(SessionEnded):
        cancel(kit, head)
    assert kit.head(head.session_id).status == "erased"


def test_a_turn_that_began_meanwhile_ends_as_well() -> None:
    """Between the word and the claim the turn that it was meant for ended, and another one began."""
    kit, head = dead(dies_in_the_call, reply(say("ok")))
    read = kit.tenants.terms_beside

    def reads(*of: Any) -> tuple[Terms, Item | None]:
        kit.tenants.terms_beside = read  # type: ignore[method-assign]
        flags = {"cancel_requested": False}
        kit.table.update(Update(keys.head_key("acme", head.session_id), set=flags, remove=("cancel_actor",)))
        return read(*of)

    kit.tenants.terms_beside = reads  # type: ignore[method-assign]
    cancel(kit, head)
    is_cancelled(kit, head)
