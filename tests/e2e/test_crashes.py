"""Runners that die over and over while they work: no work is lost, no side effect happens twice, the money is right."""

from __future__ import annotations

import os
import signal
import time
import uuid
from collections import Counter
from decimal import Decimal
from pathlib import Path

import pytest

from tests.e2e.outside import (
    RESTING,
    Caller,
    Stack,
    assert_books,
    call,
    effects,
    eventually,
    good,
    lines,
    results,
    tools,
)
from tests.support.dying import dying

pytestmark = pytest.mark.stack


def submit(stack: Stack, caller: Caller, texts: list[str], *, agent: str = "tasker") -> None:
    for text in texts:
        job = {"job_id": uuid.uuid4().hex, "tenant_id": caller.tenant, "user_id": caller.user}
        stack.send({"schema": "turnkeeper.job/v1", **job, "agent": agent, "input": text}, group=caller.tenant)


def work(n: int, steps: int, paid: Path, stamped: Path) -> str:
    """A task of some steps that change something, each in its own words."""
    steps_of_it = effects(paid, stamped, [f"{n}/{step}" for step in range(steps)])
    return f"[[sleep 0.3]] {steps_of_it} {tools(call('end_task', status='completed', summary=f'task {n}'))}"


def all_rest(caller: Caller, number: int) -> bool:
    found = good(caller.get("/v1/sessions", limit=100))["sessions"]
    return len(found) == number and all(session["status"] in RESTING for session in found)


def check(stack: Stack, caller: Caller, number: int, steps: int, paid: Path, stamped: Path) -> Counter[str]:
    """Everything that has to be true in the end; how often each outcome of a payment came up."""
    listed = good(caller.get("/v1/sessions", limit=100))["sessions"]
    assert len(listed) == number
    sessions = []
    outcomes: Counter[str] = Counter()
    told_paid: set[str] = set()
    for each in listed:
        session, events = caller.checked(each["session_id"])
        sessions.append(session)
        assert (session["status"], session["stop"]["reason"]) == ("completed", "end_task"), session["stop"]
        found = results(events)
        assert len(found) == steps * 3 + 1
        for result in found:
            if result["tool"] == "pay":
                outcomes[result["outcome"]] += 1
                if result["outcome"] == "ok":
                    told_paid.add(result["tool_use_id"])
            else:
                assert result["outcome"] == "ok", result
    payments = [line.split()[1] for line in lines(paid)]
    assert len(set(payments)) == len(payments), "no payment twice"
    assert told_paid <= set(payments), "what is told as done was done"
    assert set(outcomes) <= {"ok", "unknown"}
    assert outcomes.total() == number * steps
    stamps = {tuple(line.split()[1:3]) for line in lines(stamped)}
    assert len(stamps) == len({tool_use_id for tool_use_id, _ in stamps}) == number * steps, "one key for each call"
    assert_books(caller, sessions)
    verified = stack.cli("audit", "verify", "--tenant", caller.tenant)
    assert verified["ok"], verified
    assert len(verified["chains"]) == number + 1
    return outcomes


def shoot(
    stack: Stack, folder: Path, *, number: int, steps: int, least_kills: int, within_seconds: float, seed: int
) -> None:
    caller = stack.caller()
    paid, stamped = folder / "paid", folder / "stamped"
    before = stack.depths(stack.kit.dlq_url)
    submit(stack, caller, [work(n, steps, paid, stamped) for n in range(number)])
    with dying(stack.worker_pid, signal.SIGKILL, signal.SIGTERM, every_seconds=(1.5, 5.0), seed=seed) as killed:
        give_up_at = time.monotonic() + within_seconds / 2
        while time.monotonic() < give_up_at and (len(killed) < least_kills or not all_rest(caller, number)):
            time.sleep(0.5)
    eventually(lambda: all_rest(caller, number), "every session rests", within_seconds=within_seconds)
    check(stack, caller, number, steps, paid, stamped)
    assert len(killed) >= least_kills
    assert stack.depths(stack.kit.dlq_url) == before
    eventually(lambda: stack.depths(stack.kit.queue_url) == (0, 0), "the queue is empty")


def test_workers_die_while_sessions_run(restless: Stack, tmp_path: Path) -> None:
    shoot(restless, tmp_path, number=10, steps=3, least_kills=3, within_seconds=60, seed=4)


@pytest.mark.nightly
@pytest.mark.timeout(900)
@pytest.mark.parametrize("seed", [1, 2])
def test_workers_die_while_fifty_sessions_run(restless: Stack, tmp_path: Path, seed: int) -> None:
    shoot(restless, tmp_path, number=50, steps=6, least_kills=15, within_seconds=300, seed=seed)


def test_a_worker_told_to_stop_gives_its_work_back_at_once(restless: Stack, tmp_path: Path) -> None:
    """Nothing is unknown after a drain where the tools had the time to end, and nothing waits for a lease to end."""
    caller = restless.caller()
    paid, stamped = tmp_path / "paid", tmp_path / "stamped"
    submit(restless, caller, [work(n, 5, paid, stamped) for n in range(6)])
    eventually(lambda: len(lines(paid)) >= 6, "they work")
    pid = restless.worker_pid()
    os.kill(pid, signal.SIGTERM)
    eventually(lambda: restless.worker_pid() != pid, "another worker lives")
    eventually(lambda: all_rest(caller, 6), "every session rests")
    outcomes = check(restless, caller, 6, 5, paid, stamped)
    assert outcomes == {"ok": 30}


def test_a_tool_longer_than_the_lease(restless: Stack, tmp_path: Path) -> None:
    """The lease is kept while a tool and a model call take their time; nobody takes the session over."""
    caller = restless.caller()
    paid = tmp_path / "paid"
    end = tools(call("end_task", status="completed", summary="s"))
    submit(restless, caller, [f"{tools(call('pay', file=str(paid), what='x', seconds=9))} [[sleep 9]] {end}"])
    eventually(lambda: all_rest(caller, 1), "it rests")
    [listed] = good(caller.get("/v1/sessions"))["sessions"]
    session, events = caller.checked(listed["session_id"])
    assert session["status"] == "completed"
    assert [result["outcome"] for result in results(events)] == ["ok", "ok"]
    assert len(lines(paid)) == 1
    assert_books(caller, [session])


def test_a_death_in_the_middle_of_a_payment(restless: Stack, tmp_path: Path) -> None:
    """Nobody can know what became of it: it is not made again, and the model is told so."""
    caller = restless.caller()
    paid, stamped = tmp_path / "paid", tmp_path / "stamped"
    both = tools(
        call("pay", file=str(paid), what="x", seconds=6),
        call("stamp", file=str(stamped), what="x", seconds=6),
        call("look", what="x"),
    )
    end = tools(call("end_task", status="completed", summary="s"))
    submit(restless, caller, [f"{both} {end}"])
    eventually(lambda: lines(paid) and lines(stamped), "the payment was begun")
    os.kill(restless.worker_pid(), signal.SIGKILL)
    eventually(lambda: all_rest(caller, 1), "it rests")
    [listed] = good(caller.get("/v1/sessions"))["sessions"]
    session, events = caller.checked(listed["session_id"])
    assert session["status"] == "completed"
    assert [result["outcome"] for result in results(events)] == ["unknown", "ok", "ok", "ok"]
    assert len(lines(paid)) == 1
    keys = [line.split()[2] for line in lines(stamped)]
    assert len(keys) == 2
    assert len(set(keys)) == 1, "the same key both times"
    assert_books(caller, [session])


def test_a_death_in_the_middle_of_a_model_call(restless: Stack) -> None:
    """What was set aside for it counts in full, for nobody knows; and the call is made again."""
    caller = restless.caller()
    submit(restless, caller, ["[[sleep 6]] [[say after all]]"], agent="handy")
    [listed] = eventually(lambda: good(caller.get("/v1/sessions"))["sessions"], "there is a session")
    caller.until(listed["session_id"], lambda now: now["iterations"] == 1 and now["status"] == "running")
    os.kill(restless.worker_pid(), signal.SIGKILL)
    session = caller.rested(listed["session_id"])
    assert (session["status"], session["output_text"]) == ("idle", "after all")
    session, events = caller.checked(listed["session_id"])
    user, lost, answer = [event for event in events if event["type"] != "status"]
    assert [user["type"], lost["type"], answer["type"]] == ["user", "runner_lost", "assistant"]
    assert (lost["runner"], lost["open_calls"]) == ("fargate", [])
    assert Decimal(lost["in_doubt_usd"]) == Decimal(session["in_doubt_usd"]) > Decimal(answer["cost_usd"]) > 0
    assert "in_doubt_usd" not in answer, "the answer costs what it costs"
    assert_books(caller, [session])
