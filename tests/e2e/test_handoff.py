"""A turn that outgrows Lambda moves to the worker in its middle, and the conversation comes back."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.e2e.outside import Stack, assert_books, call, good, lines, results, text_of, tools

pytestmark = pytest.mark.stack


def test_a_long_task_moves_in_its_middle_and_comes_back(restless: Stack, tmp_path: Path) -> None:
    caller = restless.caller()
    seen, paid = tmp_path / "seen", tmp_path / "paid"
    steps = [
        tools(call("wait", seconds=1.2 + n / 100, file=str(seen)), call("pay", file=str(paid), what=f"step {n}"))
        for n in range(10)
    ]
    plan = call("update_plan", goal="ten steps", items=[{"title": "all", "state": "in_progress"}])
    response = caller.start("handy", f"{tools(plan)} {' '.join(steps)} [[say all ten]]", wait=2)
    assert response.status_code == 202
    first_token, session_id = response.json()["continuation_token"], response.json()["session_id"]
    statuses = []
    while response.status_code == 202:
        statuses.append(response.json()["status"])
        response = caller.go_on(response.json()["continuation_token"], wait=2)
    turn = good(response)
    assert turn["output_text"] == "all ten"
    assert good(caller.go_on(first_token))["last_seq"] == turn["last_seq"], "the first token still leads there"
    session, events = caller.checked(session_id)
    assert session["runner"] == "fargate"
    assert session["plan"]["goal"] == "ten steps"
    assert set(statuses) <= {"running", "queued"}
    assert [result["outcome"] for result in results(events)] == ["ok"] * 21
    assert [line.split(maxsplit=2)[2] for line in lines(paid)] == [f"step {n}" for n in range(10)]
    assert len(lines(seen)) == 10, "no finished step is done again"
    moved = [event for event in events if event["type"] == "status" and event["status"] == "queued"]
    assert moved
    answers = [event["seq"] for event in events if event["type"] == "assistant"]
    assert min(answers) < moved[0]["seq"] < max(answers)

    said = caller.finish(caller.say(session_id, "and what did you do?"))
    assert said["status"] == "idle"
    after, more = caller.checked(session_id)
    assert after["runner"] == "lambda"
    assert more[: len(events)] == events
    sent = [_read(event) for event in more if event["type"] == "assistant"]
    assert sent[-1] > sent[-2], "the whole history was sent"
    assert_books(caller, [after])


def _read(event: dict[str, dict[str, int]]) -> int:
    names = ("input_tokens", "cache_read_input_tokens", "cache_creation_input_tokens")
    return sum(event["usage"].get(name) or 0 for name in names)


def test_a_tool_that_takes_longer_than_lambda_has(restless: Stack, tmp_path: Path) -> None:
    """It is given its time, or answered as an error or unknown; it is never run twice, and nothing is stranded."""
    caller = restless.caller()
    paid = tmp_path / "paid"
    text = (
        f"{tools(call('look', what='a'))} {tools(call('pay', file=str(paid), what='slow', seconds=9))} [[say done so]]"
    )
    turn = caller.turn("handy", text)
    assert turn["output_text"] == "done so"
    caller.checked(turn["session_id"])
    assert len(lines(paid)) == 1


@pytest.mark.parametrize("agent", ["handy", "batch", "desk"])
@pytest.mark.parametrize("placement", [None, "interactive", "background"])
def test_placement_is_honoured(restless: Stack, agent: str, placement: str | None) -> None:
    caller = restless.caller()
    more = {} if placement is None else {"placement": placement}
    response = caller.start(agent, "[[say hi]]", **more)
    session, events = caller.checked(caller.finish(response)["session_id"])
    wanted = placement or {"handy": "auto", "batch": "background", "desk": "interactive"}[agent]
    assert session["placement"] == wanted
    assert session["runner"] == ("fargate" if wanted == "background" else "lambda")
    assert text_of(events[-2]["content"]) == "hi"


def test_breakers_outlive_a_move_to_the_worker(restless: Stack) -> None:
    """Two calls on Lambda and the third on the worker are three."""
    caller = restless.caller()
    same = tools(call("wait", seconds=2.5))
    between = [tools(call("wait", seconds=2.2 + n / 10)) for n in range(2)]
    turn = caller.turn("endless", f"{same} {between[0]} {same} {between[1]} {same} [[say never]]")
    assert turn["stop"]["reason"] == "repetition"
    session, _ = caller.checked(turn["session_id"])
    assert session["runner"] == "fargate"


def test_an_interactive_session_stays_on_lambda(restless: Stack) -> None:
    """Its turn goes on in further runs of the function."""
    caller = restless.caller()
    text = " ".join(tools(call("wait", seconds=1.5 + n / 100)) for n in range(8)) + " [[say all]]"
    turn = caller.turn("desk", text)
    assert turn["output_text"] == "all"
    session, events = caller.checked(turn["session_id"])
    assert session["runner"] == "lambda"
    assert not [event for event in events if event["type"] == "status" and event.get("runner") == "fargate"]
    assert len(results(events)) == 8


def test_cancel_in_the_middle_of_a_move(restless: Stack) -> None:
    caller = restless.caller()
    text = " ".join(tools(call("wait", seconds=1.2 + n / 100)) for n in range(30))
    session_id = caller.start("endless", text, wait=0).json()["session_id"]
    caller.until(session_id, lambda now: now["runner"] == "fargate" or now["status"] == "queued")
    good(caller.cancel(session_id))
    session = caller.rested(session_id)
    assert (session["status"], session["stop"]["reason"]) == ("cancelled", "cancelled")
    caller.checked(session_id)
