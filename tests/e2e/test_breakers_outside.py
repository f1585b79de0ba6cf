"""Runaway loops end long before a cap does, honest work does not; and the provider's bad days are lived through."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.outside import (
    Caller,
    Stack,
    assert_books,
    assert_problem,
    call,
    good,
    lines,
    results,
    text_of,
    tools,
)

pytestmark = pytest.mark.stack


def answers(events: list[dict[str, Any]]) -> int:
    return sum(event["type"] == "assistant" for event in events)


# ---- repetition ----


@pytest.mark.parametrize(
    "same",
    [
        [call("look", what="a b")] * 9,
        [f"tool look {json.dumps({'what': what})}" for what in ("a b", " a  b", "a\tb ", "a\n\nb")] * 3,
        [
            'tool typed {"points": [{"x": 1, "y": 2}], "label": "L"}',
            'tool typed {"label": "L", "points": [{"y": 2, "x": 1}]}',
            'tool typed {"points":[{"y":2.0,"x":1.00}],"label":" L "}',
            'tool typed {"label": "L ", "points": [{"x": 1e0, "y": 20e-1}]}',
        ],
        [call("look_at", what="door", at=str(second)) for second in range(9)],
        [call("standstill")] * 9,
    ],
    ids=["plain", "white space", "keys and numbers", "volatile", "a poll that sees nothing new"],
)
def test_the_same_call_three_times(caller: Caller, same: list[str]) -> None:
    turn = caller.turn("handy", " ".join(map(tools, same)))
    assert (turn["status"], turn["stop"]["reason"]) == ("stopped", "repetition"), turn
    detail = turn["stop"]["detail"]
    assert detail["tool"] == same[0].split()[1]
    assert detail["times"] == 3
    assert isinstance(detail["arguments"], dict)
    session, events = caller.checked(turn["session_id"])
    assert answers(events) == 3
    assert sum(result["outcome"] == "ok" for result in results(events)) <= 3
    warned = [note for event in events for note in event.get("notes", ())]
    assert len(warned) == 1, "the model was told before the last strike"
    assert_books(caller, [session])


@pytest.mark.parametrize(("length", "most"), [(2, 6), (3, 9)])
def test_cycles(caller: Caller, length: int, most: int) -> None:
    cycle = [tools(call("look", what=f"{n}")) for n in range(length)]
    turn = caller.turn("handy", " ".join(cycle * 8))
    assert turn["stop"]["reason"] == "repetition"
    _, events = caller.checked(turn["session_id"])
    assert length * 2 < answers(events) <= most


def test_a_loop_in_parallel_calls(caller: Caller) -> None:
    turn = caller.turn("handy", f"[[repeat 9]] {tools(call('look', what='x'), call('look', what='y'))}")
    assert turn["stop"]["reason"] == "repetition"
    _, events = caller.checked(turn["session_id"])
    assert answers(events) <= 3


def test_honest_polling_does_not_trip(caller: Caller, tmp_path: Path) -> None:
    poll = tools(call("progress", file=str(tmp_path / "job")))
    turn = caller.turn("handy", f"[[repeat 15]] {poll} [[say ready]]")
    assert turn["output_text"] == "ready", turn
    caller.checked(turn["session_id"])


def test_calls_that_differ_do_not_trip(caller: Caller) -> None:
    calls = [call("look", what=str(n)) for n in range(12)] + [call("look", what=str(n)) for n in range(8)]
    turn = caller.turn("handy", f"{' '.join(map(tools, calls))} [[say seen]]")
    assert turn["output_text"] == "seen"
    caller.checked(turn["session_id"])


def test_a_stopped_loop_can_go_on(caller: Caller) -> None:
    """Going on is somebody's explicit word, so what was held against the turn is forgotten."""
    loop = " ".join([tools(call("look", what="x"))] * 3)
    turn = caller.turn("handy", f"{loop} {tools(call('look', what='y'))} [[say out of it]]")
    assert turn["stop"]["reason"] == "repetition"
    after = caller.finish(caller.go_on(turn["continuation_token"]))
    assert (after["status"], after["output_text"]) == ("idle", "out of it")
    session, _ = caller.checked(turn["session_id"])
    assert_books(caller, [session])


# ---- iterations, errors, done ----


def test_twenty_five_iterations_are_the_default(stack: Stack, caller: Caller) -> None:
    calls = " ".join(tools(call("look", what=str(n))) for n in range(30))
    turn = caller.turn("handy", f"{calls} [[say at last]]", wait=25)
    assert (turn["status"], turn["stop"]["reason"]) == ("stopped", "iteration_limit")
    assert turn["steps"] == 25
    session, _ = caller.checked(turn["session_id"])
    assert session["limits"]["max_iterations"] == 25
    again = good(caller.go_on(turn["continuation_token"]))
    assert (again["status"], again["steps"]) == ("stopped", 25), "the limit still stands"
    options = ("--max-iterations", "40", "--tenant", caller.tenant, "--user", caller.user)
    stack.cli("resume", turn["session_id"], *options, exit_code=None)
    session = caller.rested(turn["session_id"])
    assert (session["status"], session["output_text"], session["steps"]) == ("idle", "at last", 31)
    caller.checked(turn["session_id"])


def test_a_task_that_never_says_that_it_is_done(caller: Caller) -> None:
    calls = " ".join(tools(call("look", what=str(n))) for n in range(30))
    turn = caller.turn("tasker", calls, wait=25)
    assert (turn["status"], turn["stop"]["reason"]) == ("failed", "no_done_signal")
    assert turn["continuation_token"] is None
    caller.checked(turn["session_id"])


def test_an_error_streak(caller: Caller) -> None:
    fails = " ".join(tools(call("refuse", why=f"no {n}")) for n in range(9))
    turn = caller.turn("handy", fails)
    assert (turn["status"], turn["stop"]["reason"]) == ("stopped", "error_streak")
    _, events = caller.checked(turn["session_id"])
    assert answers(events) == 5


def test_something_that_works_ends_a_streak(caller: Caller) -> None:
    fails = [tools(call("refuse", why=f"no {n}")) for n in range(8)]
    text = f"{' '.join(fails[:4])} {tools(call('look', what='x'))} {' '.join(fails[4:])} [[say through]]"
    assert caller.turn("handy", text)["output_text"] == "through"


def test_a_failing_tool_may_be_tried_again(caller: Caller, tmp_path: Path) -> None:
    once_more = tools(call("fails_first", file=str(tmp_path / "tries"), times=1))
    turn = caller.turn("handy", f"{once_more} {once_more} [[say worked]]")
    assert turn["output_text"] == "worked"
    _, events = caller.checked(turn["session_id"])
    assert [result["outcome"] for result in results(events)] == ["error", "ok"]


# ---- the provider's bad days ----


@pytest.mark.parametrize(
    "fault",
    [
        "[[fail 529]]",
        "[[fail 529 x3]]",
        "[[fail 429]]",
        "[[fail 500]]",
        "[[fail 503]]",
        "[[cut]]",
        "[[cut]] [[fail 529]]",
    ],
)
def test_faults_are_lived_through(stack: Stack, fault: str, tmp_path: Path) -> None:
    caller = stack.caller()
    paid = tmp_path / "paid"
    text = f"{tools(call('pay', file=str(paid), what='x'))} {fault} [[say {'a longer text ' * 20}]]"
    turn = caller.turn("handy", text, wait=25)
    assert turn["status"] == "idle", turn
    session, events = caller.checked(turn["session_id"])
    assert answers(events) == 2
    assert len(lines(paid)) == 1
    assert_books(caller, [session])


def test_a_provider_that_stays_away(caller: Caller, tmp_path: Path) -> None:
    """The turn ends resumable, nothing of it lost; going on later makes the missing call only."""
    paid = tmp_path / "paid"
    text = f"{tools(call('pay', file=str(paid), what='x'))} [[fail 529 x4]] [[say back again]]"
    turn = caller.turn("short", text, wait=25)
    assert (turn["status"], turn["stop"]["reason"]) == ("stopped", "provider_error"), turn
    assert turn["continuation_token"]
    caller.checked(turn["session_id"])
    after = caller.finish(caller.go_on(turn["continuation_token"]))
    assert (after["status"], after["output_text"]) == ("idle", "back again")
    session, events = caller.checked(turn["session_id"])
    assert len(lines(paid)) == 1
    assert len(results(events)) == 1
    assert_books(caller, [session])


def test_many_sessions_on_a_bad_day(stack: Stack, caller: Caller) -> None:
    """Those of one worker at once: what protects the provider costs none of them its turn."""
    with ThreadPoolExecutor(6) as pool:
        started = list(
            pool.map(
                lambda n: caller.start("handy", f"[[fail 529 x2]] [[say {n}]]", placement="background", wait=0),
                range(6),
            )
        )
    sessions = [caller.rested(response.json()["session_id"], within_seconds=120) for response in started]
    assert [session["status"] for session in sessions] == ["idle"] * 6, [session["stop"] for session in sessions]
    assert_books(caller, sessions)


def test_a_refused_request_is_not_tried_again(caller: Caller) -> None:
    turn = caller.turn("handy", "[[fail 400 x2]] [[say never]]")
    assert turn["stop"]["reason"] == "provider_error"
    assert turn["stop"]["detail"]["attempts"] == 1
    assert_problem(caller.go_on("forged"), 401, "unauthenticated")


def test_text_of_a_stop_is_for_people(caller: Caller) -> None:
    turn = caller.turn("handy", " ".join(tools(call("refuse", why=f"no {n}")) for n in range(9)))
    _, events = caller.checked(turn["session_id"])
    assert "refuse" in json.dumps(turn["stop"]["detail"])
    assert all(text_of(result["content"]) for result in results(events))
