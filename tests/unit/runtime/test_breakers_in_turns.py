"""Breakers end runaway turns, keep what was done, survive their runner, and leave ordinary work alone."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from tests.support.kit import MODEL, MemoryKit
from tests.support.scripted import begin, check_session, play, reply, results, say, scripted_kit, use
from turnkeeper import Agent, Limits, ToolDenied, ToolError, tool
from turnkeeper.core.errors import Forbidden, InvalidRequest
from turnkeeper.core.session import Head
from turnkeeper.runtime.intake import MAX_ITERATIONS
from turnkeeper.runtime.world import Allowance
from turnkeeper.testing.clock import ManualClock


@tool(volatile={"nonce"})
def look(at: Any = None, nonce: str = "") -> str:
    """Look."""
    return "nothing"


@tool
def listen(to: Any = None) -> str:
    """Listen."""
    return "silence"


@tool
def smell(at: Any = None) -> str:
    """Smell."""
    return "roses"


TOOLS = [look, listen, smell]


def ended(head: Head) -> tuple[str, str | None]:
    return head.status, head.stop.reason if head.stop else None


def warnings(kit: MemoryKit, head: Head) -> list[list[str]]:
    """What the kit told the model beside the results, by entry."""
    return [
        [block["text"] for block in entry.content if block["type"] == "text"]
        for entry in kit.entries(head.session_id)
        if entry.type == "tool_results"
    ]


# ---- repetition ----


@pytest.mark.parametrize(
    "disguises",
    [
        [{"at": 1}, {"at": 1.0}, {"at": 1e0}],
        [{"at": {"b": 1, "a": [0]}}, {"at": {"a": [-0.0], "b": 1.0}}, {"at": {"a": [0.0], "b": 1}}],
        [{"at": "a b"}, {"at": " a  b"}, {"at": "a\nb "}],
        [{"at": 1, "nonce": "x"}, {"nonce": "y", "at": 1}, {"at": 1, "nonce": "z"}],
    ],
)
def test_the_third_same_call_ends_the_turn_however_it_is_written(disguises: list[dict[str, Any]]) -> None:
    kit = scripted_kit(*[reply(use("look", **arguments)) for arguments in disguises], tools=TOOLS)
    head = play(kit)
    assert ended(head) == ("stopped", "repetition")
    assert head.stop is not None
    assert (head.stop.detail["tool"], head.stop.detail["times"]) == ("look", 3)
    assert [outcome for _, outcome, _ in results(kit, head)] == ["ok", "ok", "error"]
    # The model was warned once, beside the results of the strike before.
    assert [len(told) for told in warnings(kit, head)] == [0, 1, 0]
    kinds = [record["kind"] for record in kit.sessions.audit("acme", head.session_id)]
    assert kinds.count("breaker_trip") == 1


@pytest.mark.parametrize(("cycle", "steps"), [(["look", "listen"], 5), (["look", "listen", "smell"], 7)])
def test_cycles_end_the_turn(cycle: list[str], steps: int) -> None:
    kit = scripted_kit(*[reply(use(name)) for name in cycle * 3], tools=TOOLS)
    head = play(kit)
    assert (ended(head), head.steps) == (("stopped", "repetition"), steps)


def test_three_same_calls_at_once_end_the_turn_and_run_none() -> None:
    kit = scripted_kit(reply(use("look"), use("listen"), use("look"), use("look")), tools=TOOLS)
    head = play(kit)
    assert ended(head) == ("stopped", "repetition")
    assert [outcome for _, outcome, _ in results(kit, head)] == ["error"] * 4


def test_a_warning_stands_behind_the_results_in_the_next_request_and_only_there() -> None:
    kit = scripted_kit(reply(use("look")), reply(use("look")), reply(use("listen")), tools=TOOLS)
    head = play(kit)
    assert ended(head) == ("idle", "end_turn")
    last = kit.model.requests[-1].messages
    assert str(last).count("You have called look 2 times") == 1
    content = last[4]["content"]
    assert [block["type"] for block in content] == ["tool_result", "text"]


def test_ordinary_work_never_trips() -> None:
    work = [use(name, at=number) for number in range(7) for name in ("look", "listen", "smell")]
    kit = scripted_kit(*[reply(call) for call in work], tools=TOOLS)
    assert ended(play(kit)) == ("idle", "end_turn")


def test_each_turn_has_a_window_of_its_own() -> None:
    kit = scripted_kit(*[step for _ in range(4) for step in (reply(use("look")), reply(say("ok")))], tools=TOOLS)
    head = play(kit)
    for _ in range(3):
        head = kit.run(kit.intake.post(head, "again"))
        assert ended(head) == ("idle", "end_turn")
    check_session(kit, head)


@pytest.mark.parametrize(("denied", "end"), [(False, ("idle", "end_turn")), (True, ("stopped", "repetition"))])
def test_reading_again_is_no_repetition_where_something_was_changed(denied: bool, end: tuple[str, str]) -> None:
    seen = itertools.count()

    @tool
    def balance(account: str) -> int:
        """Read."""
        return next(seen)

    @tool(effect="once")
    def transfer(number: int) -> str:
        """Transfer."""
        if denied:
            raise ToolDenied("no")
        return "done"

    steps = [(use("balance", account="a"), use("transfer", number=number)) for number in range(4)]
    kit = scripted_kit(*[reply(call) for step in steps for call in step], tools=[balance, transfer])
    head = play(kit)
    assert ended(head) == end
    assert head.steps == (5 if denied else 9)


# ---- polls ----


def polling(answers: list[str]) -> tuple[MemoryKit, Head]:
    seen = iter(answers)

    @tool(polls=True)
    def poll(job: str) -> str:
        """Poll."""
        return next(seen)

    agent = Agent(name="poller", model=MODEL, system="Wait.", tools=[poll], limits=Limits(max_iterations=100))
    kit = scripted_kit(*[reply(use("poll", job="j")) for _ in answers], agents=[agent])
    return kit, play(kit, "poller")


def test_honest_polling_never_trips() -> None:
    _, head = polling([f"{percent}%" for percent in range(60)])
    assert ended(head) == ("idle", "end_turn")


def test_polling_that_sees_nothing_new_trips_with_its_results_kept() -> None:
    kit, head = polling(["0%", "50%", "50%", "50%", "never asked"])
    assert ended(head) == ("stopped", "repetition")
    assert [outcome for _, outcome, _ in results(kit, head)] == ["ok"] * 4
    assert [len(told) for told in warnings(kit, head)] == [0, 0, 1, 0]


# ---- surviving ----


def test_the_window_survives_its_runner() -> None:
    """Handed off after each step: every call is made by another runner."""
    kit = scripted_kit(*[reply(use("look")) for _ in range(5)], tools=TOOLS)
    head = begin(kit)
    drained = itertools.count()
    for _ in range(6):
        allowance = Allowance(runner="fargate", draining=lambda: next(drained) % 2 == 1)
        head = kit.run(head, allowance)
        if head.resting:
            break
    check_session(kit, head)
    assert ended(head) == ("stopped", "repetition")
    assert head.steps == 3


def test_a_trip_persists_and_an_explicit_word_lets_it_go_on() -> None:
    kit = scripted_kit(*[reply(use("look")) for _ in range(3)], reply(use("look")), reply(say("ok")), tools=TOOLS)
    head = play(kit)
    assert ended(head) == ("stopped", "repetition")
    assert kit.head(head.session_id).stop == head.stop
    head = kit.run(kit.intake.resume(head), Allowance(runner="fargate"))
    check_session(kit, head)
    assert (ended(head), head.turn.number) == (("idle", "end_turn"), 1)


def test_a_loop_that_goes_on_after_the_word_trips_again() -> None:
    kit = scripted_kit(*[reply(use("look")) for _ in range(6)], tools=TOOLS)
    head = play(kit)
    head = kit.run(kit.intake.resume(head))
    check_session(kit, head)
    assert (ended(head), head.steps) == (("stopped", "repetition"), 6)


# ---- error streak ----


def test_steps_that_only_fail_end_the_turn() -> None:
    @tool
    def fail(number: int) -> str:
        """Fail."""
        raise ToolError(f"no {number}")

    kit = scripted_kit(*[reply(use("fail", number=number)) for number in range(9)], tools=[fail, look])
    head = play(kit)
    assert (ended(head), head.steps) == (("stopped", "error_streak"), 5)
    assert head.stop is not None
    assert head.stop.detail == {"steps": 5, "tools": ["fail"]}
    # A word from its user lets it go on, with a streak of its own.
    head = kit.run(kit.intake.resume(head))
    check_session(kit, head)
    assert (ended(head), head.steps) == (("idle", "end_turn"), 10)


def test_one_success_ends_a_streak() -> None:
    @tool
    def fail(number: int) -> str:
        """Fail."""
        raise ToolError("no")

    steps = [
        reply(use("fail", number=number), *([use("look", at=number)] if number == 3 else [])) for number in range(8)
    ]
    assert ended(play(scripted_kit(*steps, tools=[fail, look]))) == ("idle", "end_turn")


# ---- iterations ----


def endless(**agent: Any) -> MemoryKit:
    given: dict[str, Any] = {"name": "endless", "model": MODEL, "system": "Go on.", "tools": TOOLS}
    steps = (lambda _, number=number: reply(use("look", at=number)) for number in itertools.count())
    return scripted_kit(*itertools.islice(steps, 200), agents=[Agent(**given | agent)])


def test_a_turn_ends_after_25_model_calls_and_each_turn_counts_anew() -> None:
    kit = endless()
    head = play(kit, "endless")
    assert (ended(head), head.turn.iterations, head.steps) == (("stopped", "iteration_limit"), 25, 25)
    head = kit.run(kit.intake.post(head, "go on"))
    check_session(kit, head)
    assert (ended(head), head.turn.iterations, head.steps) == (("stopped", "iteration_limit"), 25, 50)


def test_it_goes_on_with_a_raised_limit_and_not_without() -> None:
    kit = endless()
    head = play(kit, "endless")
    head = kit.run(kit.intake.resume(head))
    assert (ended(head), head.steps) == (("stopped", "iteration_limit"), 25)
    head = kit.run(kit.intake.resume(head, max_iterations=30), Allowance(runner="fargate"))
    check_session(kit, head)
    assert (ended(head), head.steps, head.limits.max_iterations) == (("stopped", "iteration_limit"), 30, 30)


@pytest.mark.parametrize(
    ("wanted", "error"),
    [(0, InvalidRequest), (-1, InvalidRequest), (MAX_ITERATIONS + 1, Forbidden), (1_000_000, Forbidden)],
)
def test_a_limit_cannot_be_raised_beyond_sense(wanted: int, error: type[Exception]) -> None:
    kit = endless(limits=Limits(max_iterations=2))
    head = play(kit, "endless")
    with pytest.raises(error, match="max_iterations is at"):
        kit.intake.resume(head, max_iterations=wanted)
    assert kit.head(head.session_id) == head


@pytest.mark.parametrize("wanted", [1, MAX_ITERATIONS])
def test_the_bounds_of_a_limit_can_be_asked_for(wanted: int) -> None:
    kit = endless(limits=Limits(max_iterations=2))
    head = play(kit, "endless")
    assert kit.intake.resume(head, max_iterations=wanted).limits.max_iterations == wanted


def test_a_plans_limit_stays_above_what_can_be_asked_for() -> None:
    from tests.support.kit import POLICY

    policy = {**POLICY, "plans": {"standard": {**POLICY["plans"]["standard"], "limits": {"max_iterations": 4}}}}
    agent = Agent(name="endless", model=MODEL, system="Go on.", tools=TOOLS)
    kit = scripted_kit(*[reply(use("look", at=n)) for n in range(9)], agents=[agent], policy=policy)
    head = play(kit, "endless")
    assert (ended(head), head.steps) == (("stopped", "iteration_limit"), 4)
    with pytest.raises(Forbidden):
        kit.intake.resume(head, max_iterations=5)


def test_an_agent_that_never_says_that_it_is_done_fails() -> None:
    kit = endless(done="end_task", limits=Limits(max_iterations=3))
    head = play(kit, "endless")
    assert (ended(head), head.steps) == (("failed", "no_done_signal"), 3)


def test_it_is_nudged_once() -> None:
    kit = scripted_kit(reply(say("I think so")), reply(use("look")), reply(say("hm")))
    head = play(kit, "tasker")
    assert (ended(head), head.steps) == (("failed", "no_done_signal"), 3)
    nudges = [entry for entry in kit.entries(head.session_id) if entry.by_kit]
    assert len(nudges) == 1


@pytest.mark.parametrize(("status", "expected"), [("completed", "completed"), ("failed", "failed")])
def test_it_says_how_it_ended(status: str, expected: str) -> None:
    kit = scripted_kit(reply(say("hm")), reply(use("end_task", status=status, summary="all of it")))
    head = play(kit, "tasker")
    assert ended(head) == (expected, "end_task")
    assert head.stop is not None
    assert head.stop.detail["summary"] == "all of it"


def test_end_task_beside_others_lets_them_run() -> None:
    kit = scripted_kit(reply(use("add", a=1, b=2), use("end_task", status="completed", summary="s")))
    head = play(kit, "tasker")
    assert ended(head) == ("completed", "end_task")
    assert [(name, outcome) for name, outcome, _ in results(kit, head)] == [("add", "ok"), ("end_task", "ok")]


def test_a_retried_call_is_one_iteration() -> None:
    from tests.support.scripted import failure

    agent = Agent(name="short", model=MODEL, system="s", tools=TOOLS, limits=Limits(max_iterations=2))
    kit = scripted_kit(failure(), failure(), reply(use("look")), failure(), reply(say("ok")), agents=[agent])
    head = play(kit, "short")
    assert (ended(head), head.turn.iterations, head.account.calls) == (("idle", "end_turn"), 2, 5)


# ---- the wall clock ----


def test_the_wall_clock_of_a_turn_ends_it_and_a_word_starts_it_anew() -> None:
    clock = ManualClock()

    @tool
    def wait(number: int) -> str:
        """Wait."""
        clock.advance(50)
        return "waited"

    agent = Agent(name="slowly", model=MODEL, system="s", tools=[wait], limits=Limits(max_seconds=120))
    steps = [reply(use("wait", number=number)) for number in range(5)]
    kit = scripted_kit(*steps, agents=[agent], clock=clock, lease_seconds=10_000)
    head = play(kit, "slowly")
    assert (ended(head), head.steps) == (("stopped", "deadline"), 3)
    head = kit.run(kit.intake.resume(head))
    check_session(kit, head)
    assert (ended(head), head.steps) == (("idle", "end_turn"), 6)


# ---- sizes ----


def test_what_a_loop_was_called_with_does_not_outgrow_the_head() -> None:
    big = {"text": "x" * 300_000, "more": ["y" * 1_000] * 300}
    kit = scripted_kit(*[reply(use("look", at=big)) for _ in range(3)], tools=TOOLS)
    head = play(kit)
    assert ended(head) == ("stopped", "repetition")
    [item] = [item for item in kit.table.snapshot() if item["sk"] == "HEAD"]
    assert len(str(item)) < 20_000


def test_a_summary_does_not_outgrow_the_head() -> None:
    kit = scripted_kit(reply(use("end_task", status="completed", summary="x" * 500_000)))
    head = play(kit, "tasker")
    assert ended(head) == ("completed", "end_task")
    [item] = [item for item in kit.table.snapshot() if item["sk"] == "HEAD"]
    assert len(str(item)) < 20_000


def test_arguments_nested_without_end_leave_the_session_at_rest() -> None:
    deep: Any = {}
    for _ in range(400):
        deep = {"a": deep}
    kit = scripted_kit(reply(use("look", at=deep)), reply(say("ok")), tools=TOOLS)
    head = kit.run(begin(kit))
    assert head.resting
    assert head.account.pending is None
