"""Cancels, drains and deaths: at every moment, on either runner, with nothing lost and nothing done twice."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest

from tests.support.kit import MemoryKit
from tests.support.scripted import begin, check_session, failure, play, reply, results, say, scripted_kit, states, use
from turnkeeper import tool
from turnkeeper.adapters.system import SystemClock
from turnkeeper.core.errors import LeaseLost, SessionEnded, Unavailable
from turnkeeper.core.session import Head
from turnkeeper.ports import ModelReply, ModelRequest
from turnkeeper.runtime.turn import MAX_CLAIMS
from turnkeeper.runtime.world import Allowance
from turnkeeper.testing.faulty_table import Crash

RUNNERS = [Allowance(runner="lambda", turn_seconds=840, hard_seconds=890), Allowance(runner="fargate")]


def ended(head: Head) -> tuple[str, str | None]:
    return head.status, head.stop.reason if head.stop else None


class Held:
    """Something that takes its time: the test knows when it began, and lets it go on."""

    def __init__(self) -> None:
        self.began = threading.Event()
        self.let_go = threading.Event()

    def hold(self) -> None:
        self.began.set()
        self.let_go.wait(20)


def running(kit: MemoryKit, head: Head, allowance: Allowance) -> tuple[threading.Thread, list[Head]]:
    left: list[Head] = []
    thread = threading.Thread(target=lambda: left.append(kit.run(head, allowance)), daemon=True)
    thread.start()
    return thread, left


# ---- cancel ----


@pytest.mark.parametrize("allowance", RUNNERS, ids=["lambda", "fargate"])
def test_a_cancel_ends_a_running_model_call_within_seconds(allowance: Allowance) -> None:
    held = Held()

    def answer(_: ModelRequest) -> ModelReply:
        held.hold()
        return reply(say("late"))

    kit = scripted_kit(answer, clock=SystemClock(), lease_seconds=2)
    head = begin(kit, "plain")
    thread, left = running(kit, head, allowance)
    assert held.began.wait(5)
    started = time.monotonic()
    kit.cancelling.cancel(kit.head(head.session_id), actor="ann")
    thread.join(10)
    assert time.monotonic() - started < 5
    assert ended(left[0]) == ("cancelled", "cancelled")
    held.let_go.set()
    check_session(kit, left[0])
    assert states(kit, head) == {"in_doubt": 1}


@pytest.mark.parametrize(("effect", "outcome"), [("read", "error"), ("once", "unknown")])
def test_a_cancel_ends_a_running_tool_within_seconds(effect: Any, outcome: str) -> None:
    held = Held()

    @tool(effect=effect)
    def hang() -> str:
        """Hang."""
        held.hold()
        return "late"

    @tool
    def quick() -> str:
        """Be quick."""
        return "seen"

    kit = scripted_kit(reply(use("hang"), use("quick")), tools=[hang, quick], clock=SystemClock(), lease_seconds=2)
    head = begin(kit)
    thread, left = running(kit, head, RUNNERS[1])
    assert held.began.wait(5)
    kit.cancelling.cancel(kit.head(head.session_id), actor="ann")
    thread.join(10)
    held.let_go.set()
    assert ended(left[0]) == ("cancelled", "cancelled")
    check_session(kit, left[0])
    told = results(kit, head)
    assert [each for _, each, _ in told] == [outcome, "ok"]
    assert "The run was stopped before the tool answered" in told[0][2]


def test_a_cancel_does_not_wait_for_a_back_off() -> None:
    kit = scripted_kit(failure(retry_after=50), clock=SystemClock(), lease_seconds=1)
    head = begin(kit, "plain")
    thread, left = running(kit, head, RUNNERS[0])
    kit.wait_for(head.session_id, lambda each: each.turn.attempts == 1)
    kit.cancelling.cancel(kit.head(head.session_id), actor="ann")
    thread.join(8)
    assert ended(left[0]) == ("cancelled", "cancelled")
    check_session(kit, left[0])


def test_a_cancel_between_steps() -> None:
    @tool
    def slow() -> str:
        """Take a second."""
        time.sleep(0.5)
        return "done"

    def cancelling(_: ModelRequest) -> ModelReply:
        kit.cancelling.cancel(kit.head(head.session_id), actor="ann")
        return reply(use("slow"))

    kit = scripted_kit(cancelling, reply(use("slow")), tools=[slow], lease_seconds=1, clock=SystemClock())
    head = begin(kit)
    left = kit.run(head)
    assert ended(left) == ("cancelled", "cancelled")
    assert left.steps == 1
    check_session(kit, left)


def test_a_cancel_while_it_waits_for_a_runner() -> None:
    for agent in ("plain", "slow"):
        kit = scripted_kit()
        head = begin(kit, agent)
        kit.cancelling.cancel(head, actor="ann")
        if not kit.head(head.session_id).resting:
            kit.run(head)
        left = kit.head(head.session_id)
        assert ended(left) == ("cancelled", "cancelled")
        assert kit.model.requests == []
        check_session(kit, left)


def test_a_cancel_at_rest_and_afterwards() -> None:
    kit = scripted_kit(reply(say("ok")))
    head = play(kit, "plain")
    head = kit.cancelling.cancel(head, actor="ann")
    check_session(kit, head)
    assert ended(head) == ("cancelled", "cancelled")
    for act in (lambda: kit.cancelling.cancel(head, actor="ann"), lambda: kit.intake.post(head, "x")):
        with pytest.raises(SessionEnded):
            act()
    with pytest.raises(SessionEnded):
        kit.intake.resume(head)


def test_a_cancel_is_audited_once_with_who_asked() -> None:
    kit = scripted_kit()
    head = begin(kit, "slow")
    kit.cancelling.cancel(head, actor="ops@example.com")
    records = [record for record in kit.sessions.audit("acme", head.session_id) if record["kind"] == "cancel"]
    assert [record["actor"] for record in records] == ["ops@example.com"]


def test_a_cancel_that_comes_too_late_does_not_end_the_next_turn() -> None:
    def answer(_: ModelRequest) -> ModelReply:
        kit.sessions.request_cancel(head)
        return reply(say("ok"))

    kit = scripted_kit(answer, reply(say("again")))
    head = begin(kit, "plain")
    left = kit.run(head)
    assert ended(left) == ("idle", "end_turn")
    left = kit.run(kit.intake.post(kit.head(head.session_id), "next"))
    assert ended(left) == ("idle", "end_turn")
    check_session(kit, left)


# ---- drain ----


def test_a_drain_lets_the_model_call_finish_and_hands_the_rest_over() -> None:
    draining = threading.Event()

    def answer(_: ModelRequest) -> ModelReply:
        draining.set()
        return reply(use("add", a=1, b=2))

    kit = scripted_kit(answer, reply(say("ok")))
    head = begin(kit, "slow")
    head = kit.run(head, Allowance(runner="fargate", draining=draining.is_set))
    assert (head.status, head.steps, head.lease.owner) == ("queued", 1, None)
    assert head.handoff is not None
    assert head.handoff.delay_seconds == 0
    # With the results of its tools: the next one does not run them again.
    assert [outcome for _, outcome, _ in results(kit, head)] == ["ok"]
    head = kit.run(head, Allowance(runner="fargate"))
    check_session(kit, head)
    assert ended(head) == ("idle", "end_turn")
    assert states(kit, head) == {"settled": 2}


def test_a_drain_before_the_first_step_gives_the_session_back_unspent() -> None:
    kit = scripted_kit(reply(say("ok")))
    head = kit.run(begin(kit, "slow"), Allowance(runner="fargate", draining=lambda: True))
    assert (head.status, head.account.calls) == ("queued", 0)
    assert kit.queue.receive(most=1, wait_seconds=0, visibility_seconds=1)


def test_a_drain_does_not_wait_for_a_back_off() -> None:
    draining = threading.Event()

    def fails(_: ModelRequest) -> ModelReply:
        draining.set()
        raise failure(retry_after=40)

    kit = scripted_kit(fails, reply(say("ok")), clock=SystemClock())
    started = time.monotonic()
    head = kit.run(begin(kit, "slow"), Allowance(runner="fargate", draining=draining.is_set))
    assert time.monotonic() - started < 5
    assert (head.status, head.turn.attempts) == ("queued", 1)


def test_a_model_call_that_outlasts_the_drain_is_in_doubt_and_made_again() -> None:
    held = Held()

    def answer(_: ModelRequest) -> ModelReply:
        held.hold()
        return reply(say("late"))

    kit = scripted_kit(answer, reply(say("ok")), clock=SystemClock())
    expired = held.began.is_set
    head = kit.run(begin(kit, "slow"), Allowance(runner="fargate", draining=expired, expired=expired))
    held.let_go.set()
    assert head.status == "queued"
    assert states(kit, head) == {"in_doubt": 1}
    head = kit.run(head, Allowance(runner="fargate"))
    check_session(kit, head)
    assert (ended(head), head.turn.iterations) == (("idle", "end_turn"), 1)


@pytest.mark.parametrize(
    ("effect", "outcome", "times"), [("read", "ok", 2), ("idempotent", "ok", 2), ("once", "unknown", 1)]
)
def test_a_tool_that_outlasts_the_drain_is_left_to_the_next_runner(effect: Any, outcome: str, times: int) -> None:
    held = Held()
    ran: list[str] = []

    @tool(effect=effect)
    def hang() -> str:
        """Hang once."""
        ran.append("hang")
        if len(ran) == 1:
            held.hold()
        return "late"

    @tool(effect="once")
    def pay() -> str:
        """Pay."""
        return "paid"

    kit = scripted_kit(reply(use("pay"), use("hang")), tools=[hang, pay], clock=SystemClock())

    def expired() -> bool:
        put_down = any(item["sk"].startswith("RESULT#") for item in kit.table.snapshot())
        return held.began.is_set() and put_down

    head = kit.run(begin(kit), Allowance(runner="fargate", draining=expired, expired=expired))
    assert head.status == "queued"
    assert results(kit, head) == []
    held.let_go.set()
    head = kit.run(head, Allowance(runner="fargate"))
    check_session(kit, head)
    assert [each for _, each, _ in results(kit, head)] == ["ok", outcome]
    assert len(ran) == times


def test_results_that_are_all_in_when_the_drain_ends_are_kept() -> None:
    done = threading.Event()

    @tool(effect="once")
    def pay() -> str:
        """Pay."""
        done.set()
        return "paid"

    kit = scripted_kit(reply(use("pay")), tools=[pay])

    def expired() -> bool:
        if done.is_set():
            time.sleep(0.05)
            return True
        return False

    head = kit.run(begin(kit), Allowance(runner="fargate", draining=expired, expired=expired))
    assert head.status == "queued"
    assert [each for _, each, _ in results(kit, head)] == ["ok"]
    head = kit.run(head, Allowance(runner="fargate"))
    check_session(kit, head)


# ---- handing off ----


def test_a_long_turn_moves_from_the_function_to_the_worker_and_back() -> None:
    clock_seconds = 40.0

    @tool
    def work(number: int) -> str:
        """Work."""
        kit.clock.advance(clock_seconds)  # type: ignore[attr-defined]
        return "done"

    steps = [reply(use("work", number=number)) for number in range(4)]
    kit = scripted_kit(*steps, reply(say("ok")), reply(say("again")), tools=[work], lease_seconds=10_000)
    head = kit.run(begin(kit), Allowance(runner="lambda", turn_seconds=100, hard_seconds=160))
    assert head.status == "queued"
    assert 0 < head.steps < 4
    assert kit.work() == 1
    head = kit.head(head.session_id)
    assert (ended(head), head.runner) == (("idle", "end_turn"), "fargate")
    head = kit.run(kit.intake.post(head, "more"))
    assert (ended(head), head.runner) == (("idle", "end_turn"), "lambda")
    check_session(kit, head)


def test_an_interactive_agent_stays_with_the_function() -> None:
    kit = scripted_kit(reply(say("ok")))
    head = kit.run(begin(kit, "quick"), Allowance(runner="lambda", draining=lambda: True))
    assert head.status == "running"
    assert kit.turns.started == [("acme", head.session_id)]
    assert kit.queue.receive(most=1, wait_seconds=0, visibility_seconds=1) == []


def test_a_handoff_that_cannot_be_sent_is_due_to_the_sweep() -> None:
    kit = scripted_kit()

    def down(*_: Any, **__: Any) -> None:
        raise Unavailable("no queue")

    kit.queue.send = down  # type: ignore[method-assign]
    head = begin(kit, "slow")
    with pytest.raises(Unavailable):
        kit.run(head, Allowance(runner="fargate", draining=lambda: True))
    left = kit.head(head.session_id)
    assert (left.status, left.lease.owner) == ("queued", None)
    assert left.handoff is not None


# ---- deaths ----


def dying(kit: MemoryKit, at: int, error: BaseException, *, after: bool = False) -> None:
    """The table's write number ``at`` from now raises; ``after`` it was written."""
    write, count = kit.table.write, iter(range(1, 10**6))

    def dies(operations: Any) -> None:
        if next(count) == at:
            kit.table.write = write  # type: ignore[method-assign]
            if after:
                write(operations)
            raise error
        write(operations)

    kit.table.write = dies  # type: ignore[method-assign]


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("at", range(1, 7))
def test_whatever_write_a_runner_dies_at_the_next_one_goes_on(at: int, after: bool) -> None:
    ran: list[str] = []

    @tool(effect="once")
    def pay(number: int) -> str:
        """Pay."""
        ran.append(f"pay {number}")
        return "paid"

    answers = {1: [use("pay", number=1)], 2: [use("pay", number=2)], 3: [say("ok")]}

    def by_position(request: ModelRequest) -> ModelReply:
        return reply(*answers[(len(request.messages) + 1) // 2])

    kit = scripted_kit(*[by_position] * 20, tools=[pay])
    warm = play(kit, "plain", "lay the counters out")
    assert warm.resting
    head = begin(kit)
    dying(kit, at, Crash("dead"), after=after)
    with pytest.raises(Crash):
        kit.run(head)
    kit.clock.advance(120)  # type: ignore[attr-defined]
    if not kit.head(head.session_id).resting:
        kit.run(head, Allowance(runner="fargate"))
    left = kit.head(head.session_id)
    check_session(kit, left)
    assert ended(left) == ("idle", "end_turn")
    assert len(set(ran)) == len(ran), "a payment was made twice"
    assert (left.steps, left.turn.iterations) == (3, 3)


@pytest.mark.parametrize(("at", "error"), [(1, Unavailable("no")), (1, LeaseLost("no")), (2, LeaseLost("no"))])
def test_a_table_that_cannot_be_written_ends_the_runner_and_not_the_turn(at: int, error: Exception) -> None:
    """The second write brings the answer: one that may have been made is tried again (test_busy_table)."""
    kit = scripted_kit(reply(say("ok")))
    play(kit, "plain", "lay the counters out")
    head = begin(kit, "plain")
    dying(kit, at, error)
    with pytest.raises(type(error)):
        kit.run(head)
    assert kit.head(head.session_id).status == "running"
    kit.clock.advance(120)  # type: ignore[attr-defined]
    left = kit.run(head)
    check_session(kit, left)
    assert ended(left) == ("idle", "end_turn")


@pytest.mark.parametrize("where", ["claimed", "in the call", "in the tool"])
def test_a_session_that_kills_its_runners_is_given_up(where: str) -> None:
    @tool(effect="idempotent")
    def poison() -> str:
        """Kill."""
        return "never told"

    kit = scripted_kit(*[reply(use("poison")) for _ in range(99)], tools=[poison])
    head = begin(kit)

    def kill(*_: Any, **__: Any) -> Any:
        raise Crash("dead")

    runs = 0
    if where == "claimed":
        read = kit.sessions.begun, kit.sessions.load
        kit.sessions.begun = kit.sessions.load = kill  # type: ignore[method-assign]
    elif where == "in the call":
        kit.model.call, read = kill, None  # type: ignore[assignment,method-assign]
        kit.parallel.run_all = lambda jobs, **_: [jobs[0]()]  # type: ignore[assignment,method-assign,misc]
    else:
        read = None
        run_all = kit.parallel.run_all

        def only_tools_kill(jobs: Any, **options: Any) -> Any:
            if len(kit.entries(head.session_id)) > 1:
                raise Crash("dead")
            return run_all(jobs, **options)

        kit.parallel.run_all = only_tools_kill  # type: ignore[assignment,method-assign]
    while runs < 40:
        runs += 1
        if runs > MAX_CLAIMS and read is not None:
            kit.sessions.begun, kit.sessions.load = read  # type: ignore[method-assign]
        try:
            left = kit.run(head)
            break
        except Crash:
            kit.clock.advance(120)  # type: ignore[attr-defined]
    assert runs <= MAX_CLAIMS + 2
    assert ended(left) == ("stopped", "internal_error")
    check_session(kit, left)
    if where == "in the tool":
        assert [each for _, each, _ in results(kit, left)] == ["unknown"]
