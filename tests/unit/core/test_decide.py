"""What comes next: pure decisions over a session's state."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.heads import NOW, head
from turnkeeper.core import decide
from turnkeeper.core.agent import Limits
from turnkeeper.core.breakers import call_hash
from turnkeeper.core.decide import CallModel, Finish, HandOff, Judgement, RunTools
from turnkeeper.core.session import Breakers, Entry, Head
from turnkeeper.core.stops import status_of
from turnkeeper.core.transcript import Block, answer


def text(words: str = "hello") -> Block:
    return {"type": "text", "text": words}


def use(name: str = "look", number: int = 1, **arguments: Any) -> Block:
    return {"type": "tool_use", "id": f"toolu_{number}", "name": name, "input": arguments}


def judge(content: list[Block], stop_reason: str, of: Head | None = None, polls: tuple[str, ...] = ()) -> Judgement:
    def hash_of(call: Block) -> str:
        return call_hash(call["name"], call["input"] if isinstance(call["input"], dict) else {"input": call["input"]})

    return decide.judge_reply(of or head(), content, stop_reason, hash_of=hash_of, polls=lambda name: name in polls)


def judge_results(calls: list[Block], outcomes: list[Any], of: Head | None = None) -> Judgement:
    results = [
        answer(call, f"r{number}", outcome) for number, (call, outcome) in enumerate(zip(calls, outcomes, strict=True))
    ]
    return decide.judge_results(of or head(), calls, results, hash_of=lambda call: call["id"], changes=lambda _: False)


def ended(judged: Judgement) -> tuple[str, str | None]:
    return ("running", None) if judged.stop is None else (status_of(judged.stop), judged.stop.reason)


# ---- replies ----


@pytest.mark.parametrize(
    ("stop_reason", "expected"),
    [
        ("end_turn", ("idle", "end_turn")),
        ("stop_sequence", ("idle", "end_turn")),
        ("max_tokens", ("stopped", "max_tokens")),
        ("refusal", ("stopped", "refusal")),
        ("model_context_window_exceeded", ("stopped", "context_window")),
        ("pause_turn", ("running", None)),
        ("tool_use", ("idle", "end_turn")),
        ("something_new", ("idle", "end_turn")),
        ("", ("idle", "end_turn")),
    ],
)
def test_words_end_the_turn_as_their_stop_reason_says(stop_reason: str, expected: tuple[str, str | None]) -> None:
    assert ended(judge([text()], stop_reason)) == expected


def test_a_stop_reason_that_nobody_knows_is_told() -> None:
    judged = judge([text()], "something_new")
    assert judged.stop is not None
    assert judged.stop.detail == {"stop_reason": "something_new"}


@pytest.mark.parametrize("stop_reason", ["tool_use", "end_turn", "stop_sequence", "pause_turn", "something_new"])
def test_calls_go_on_whatever_the_stop_reason_says(stop_reason: str) -> None:
    judged = judge([text(), use()], stop_reason)
    assert judged.stop is None
    assert judged.answers == ()


@pytest.mark.parametrize("stop_reason", ["max_tokens", "refusal", "model_context_window_exceeded"])
def test_calls_of_an_answer_that_was_cut_off_are_answered_and_not_run(stop_reason: str) -> None:
    judged = judge([use(number=1), use("end_task", 2)], stop_reason, head(done="end_task"))
    assert judged.stop is not None and status_of(judged.stop) == "stopped"
    assert [told.tool_use_id for _, told in judged.answers] == ["toolu_1", "toolu_2"]
    assert {told.outcome for _, told in judged.answers} == {"error"}


def test_blocks_of_unknown_types_ask_for_nothing() -> None:
    blocks = [{"type": "from_the_future", "id": "x", "input": {}}, {"type": "server_tool_use", "id": "y"}]
    assert ended(judge(blocks, "end_turn")) == ("idle", "end_turn")


def test_no_content_at_all() -> None:
    assert ended(judge([], "max_tokens")) == ("stopped", "max_tokens")
    assert ended(judge([], "refusal")) == ("stopped", "refusal")


# ---- the done signal ----


def test_an_agent_that_forgets_the_signal_is_nudged_once_and_then_failed() -> None:
    first = judge([text()], "end_turn", head(done="end_task"))
    assert (first.stop, first.note, first.nudged) == (None, decide.NUDGE, True)
    second = judge([text()], "end_turn", head(done="end_task", nudged=True))
    assert ended(second) == ("failed", "no_done_signal")


def test_a_nudge_is_remembered_over_calls() -> None:
    assert judge([use()], "tool_use", head(done="end_task", nudged=True)).nudged
    assert judge_results([use()], ["ok"], head(done="end_task", nudged=True)).nudged


def test_pausing_is_not_ending() -> None:
    judged = judge([text()], "pause_turn", head(done="end_task"))
    assert judged.stop is None
    assert judged.note is None


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        ({"status": "completed", "summary": "s"}, "completed", "completed"),
        ({"status": " Failed ", "summary": "s"}, "failed", " Failed "),
        ({"status": "gave_up"}, "failed", "gave_up"),
        ({}, "completed", "completed"),
        ({"status": None}, "completed", "None"),
        ({"status": ["failed"], "summary": {"a": 1}}, "completed", "['failed']"),
        ("just words", "completed", "completed"),
        ({"status": "x" * 100_000, "summary": "y" * 1_000_000}, "completed", "x" * decide.MAX_DETAIL_CHARS),
    ],
)
def test_end_task_ends_with_whatever_it_was_called_with(arguments: Any, status: str, said: str) -> None:
    call = {**use("end_task"), "input": arguments}
    judged = judge([call], "tool_use", head(done="end_task"))
    assert ended(judged) == (status, "end_task")
    assert judged.stop is not None
    assert judged.stop.detail["status"] == said
    assert len(judged.stop.detail["summary"]) <= decide.MAX_DETAIL_CHARS
    assert [told.outcome for _, told in judged.answers] == ["ok"]


def test_the_last_of_several_end_tasks_counts() -> None:
    calls = [use("end_task", number, status=status) for number, status in enumerate(["failed", "failed", "completed"])]
    judged = judge(calls, "tool_use", head(done="end_task"))
    assert ended(judged) == ("completed", "end_task")
    assert len(judged.answers) == 3


def test_saying_three_times_that_it_is_over_is_no_loop() -> None:
    calls = [use("end_task", number, status="completed", summary="s") for number in range(3)]
    assert ended(judge(calls, "tool_use", head(done="end_task"))) == ("completed", "end_task")


def test_end_task_beside_other_calls_ends_once_they_have_run() -> None:
    calls = [use("look", 1), use("end_task", 2, status="completed", summary="s")]
    of = head(done="end_task")
    assert judge(calls, "tool_use", of).stop is None
    assert ended(judge_results(calls, ["ok", "ok"], of)) == ("completed", "end_task")
    assert ended(judge_results(calls, ["error", "ok"], of)) == ("completed", "end_task")


def test_end_task_that_was_not_carried_out_ends_nothing() -> None:
    calls = [use("end_task", 1)]
    assert judge_results(calls, ["error"], head(done="end_task")).stop is None


def test_end_task_means_nothing_to_an_agent_that_ends_its_turns() -> None:
    assert judge([use("end_task", status="completed")], "tool_use").stop is None
    assert judge_results([use("end_task")], ["denied"]).stop is None


# ---- breakers ----


def test_the_last_strike_answers_every_call_of_the_answer() -> None:
    of = head(breakers=Breakers(window=(call_hash("look", {"a": 1}),) * 2))
    judged = judge([use("other", 1), use("look", 2, a=1.0)], "tool_use", of)
    assert ended(judged) == ("stopped", "repetition")
    assert judged.stop is not None
    assert judged.stop.detail["tool"] == "look"
    assert judged.stop.detail["times"] == 3
    assert judged.stop.detail["arguments"] == {"a": 1.0}
    assert len(judged.answers) == 2


def test_the_strike_before_warns() -> None:
    of = head(breakers=Breakers(window=(call_hash("look", {}),)))
    judged = judge([use("look")], "tool_use", of)
    assert judged.stop is None
    assert judged.warning is not None
    assert "look 2 times" in judged.warning


def test_arguments_that_are_no_object_do_not_break_the_breaker() -> None:
    call = {**use("look"), "input": ["a"]}
    of = head(breakers=Breakers(window=(call_hash("look", {"input": ["a"]}),) * 2))
    assert ended(judge([call], "tool_use", of)) == ("stopped", "repetition")


def test_polls_are_counted_by_their_results() -> None:
    assert judge([use("poll"), use("poll"), use("poll")], "tool_use", polls=("poll",)).breakers.window == ()


def test_an_error_streak_ends_the_turn() -> None:
    of = head(limits=Limits(error_streak=2), breakers=Breakers(error_streak=1))
    judged = judge_results([use("b"), use("a", 2)], ["error", "denied"], of)
    assert ended(judged) == ("stopped", "error_streak")
    assert judged.stop is not None
    assert judged.stop.detail == {"steps": 2, "tools": ["a", "b"]}
    assert judge_results([use("b"), use("a", 2)], ["error", "ok"], of).stop is None


# ---- what to do next ----


def entry(kind: Any, *content: Block, seq: int = 1, **more: Any) -> Entry:
    return Entry(seq=seq, type=kind, at=NOW, content=content, **more)


def act(of: Head, entries: list[Entry], **options: Any) -> decide.Action:
    given: dict[str, Any] = {
        "results_pending": False,
        "elapsed_seconds": 1.0,
        "left_seconds": None,
        "turn_seconds": 840.0,
    }
    return decide.next_action(of, entries, **given | options)


def test_open_calls_are_run_first() -> None:
    entries = [entry("user", text()), entry("assistant", use(), seq=2), entry("status", seq=3)]
    assert act(head(iterations=25), entries) == RunTools((use(),))
    assert act(head(), entries, elapsed_seconds=1e9) == RunTools((use(),))
    assert act(head(), entries, left_seconds=0.0) == RunTools((use(),))
    assert act(head(), entries, results_pending=True) == CallModel()


def test_a_cancel_comes_before_everything_and_answers_open_calls() -> None:
    entries = [entry("user", text()), entry("assistant", use(), seq=2)]
    finish = act(head(cancel_requested=True), entries)
    assert isinstance(finish, Finish)
    assert (status_of(finish.stop), len(finish.answers)) == ("cancelled", 1)
    finish = act(head(cancel_requested=True), entries, results_pending=True)
    assert isinstance(finish, Finish)
    assert finish.answers == ()


@pytest.mark.parametrize(
    ("done", "expected"), [("end_turn", ("stopped", "iteration_limit")), ("end_task", ("failed", "no_done_signal"))]
)
def test_the_iteration_limit(done: str, expected: tuple[str, str]) -> None:
    assert act(head(done=done, iterations=24), [entry("user", text())]) == CallModel()
    finish = act(head(done=done, iterations=25), [entry("user", text())])
    assert isinstance(finish, Finish)
    assert (status_of(finish.stop), finish.stop.reason) == expected
    assert finish.stop.detail["max_iterations"] == 25


def test_the_wall_clock_counts_over_all_runners() -> None:
    of = head(limits=Limits(max_seconds=60))
    assert act(of, [entry("user", text())], elapsed_seconds=60.0) == CallModel()
    finish = act(of, [entry("user", text())], elapsed_seconds=61.0)
    assert isinstance(finish, Finish)
    assert finish.stop.reason == "deadline"


def test_a_runner_hands_off_while_it_still_can() -> None:
    entries = [entry("user", text())]
    assert act(head(), entries, left_seconds=61.0) == CallModel()
    assert isinstance(act(head(), entries, left_seconds=59.0), HandOff)
    slow = head(step_millis=(1_000, 100_000, 2_000))
    assert isinstance(act(slow, entries, left_seconds=150.0), HandOff)
    assert act(slow, entries, left_seconds=160.0) == CallModel()
    # Exactly enough is enough.
    assert decide.step_estimate_seconds(slow.step_millis, 840.0) == 155.0
    assert act(slow, entries, left_seconds=155.0, turn_seconds=840.0) == CallModel()
    # With hardly any time at all there is still a guess that lets a first step be made.
    assert act(head(), entries, left_seconds=4.0, turn_seconds=5.0) == CallModel()


# ---- going on ----


def test_the_model_is_told_to_go_on_only_where_nothing_else_asks_it_to() -> None:
    user = entry("user", text())
    assert decide.go_on_note([user]) is None
    assert decide.go_on_note([user, entry("assistant", text(), seq=2), entry("status", seq=3)]) == decide.GO_ON
    assert decide.go_on_note([user, entry("assistant", use(), seq=2)]) is None
    assert decide.go_on_note([user, entry("tool_results", seq=2)]) is None
    assert decide.go_on_note([user, entry("assistant", text(), seq=2, stop_reason="pause_turn")]) is None
    assert decide.go_on_note([]) is None
