"""Turns that may run anywhere go to the worker where it has a slot free, and to Lambda else."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.e2e.outside import Stack, eventually, good, running_stack

pytestmark = [pytest.mark.stack, pytest.mark.long]
SLOTS = 2


@pytest.fixture(scope="module")
def thrifty(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    folder = tmp_path_factory.mktemp("thrifty")
    more = {"TURNKEEPER_AUTO_PLACEMENT": "economy", "TURNKEEPER_WORKER_CONCURRENCY": str(SLOTS)}
    with running_stack(folder, TURNKEEPER_LEASE_SECONDS="5", **more) as stack:
        yield stack


def test_a_worker_that_is_there_is_given_turns_until_its_slots_are_taken(thrifty: Stack) -> None:
    caller = thrifty.caller()
    on_lambda = caller.turn("desk", "[[say hi]]")
    assert caller.checked(on_lambda["session_id"])[0]["runner"] == "lambda", "its agent is to stay interactive"

    def goes_to_the_worker() -> bool:
        turn = caller.turn("handy", "[[say hi]]")
        said = caller.finish(caller.say(turn["session_id"], "[[say more]]"))
        assert (turn["output_text"], said["output_text"]) == ("hi", "more")
        return bool(caller.checked(turn["session_id"])[0]["runner"] == "fargate")

    eventually(goes_to_the_worker, "a turn ran on the worker")
    with ThreadPoolExecutor(3 * SLOTS) as threads:
        turns = list(threads.map(lambda n: caller.turn("handy", f"[[sleep 4]] [[say {n}]]"), range(3 * SLOTS)))
    assert [turn["output_text"] for turn in turns] == [str(n) for n in range(3 * SLOTS)]
    runners = [caller.checked(turn["session_id"])[0]["runner"] for turn in turns]
    assert runners.count("lambda") >= SLOTS, "nobody waited for a slot"
    assert all(turn["steps"] == 1 for turn in turns), "whoever came second did nothing"


def test_a_worker_that_dies_is_in_nobodys_way(thrifty: Stack) -> None:
    """It still counts as there for some seconds: what is offered to it begins on Lambda, and what it ran goes on."""
    caller = thrifty.caller()
    slow = [caller.start("handy", f"[[sleep 3]] [[say {n}]]", wait=0) for n in range(SLOTS)]
    time.sleep(1)
    os.kill(thrifty.worker_pid(), signal.SIGKILL)
    said = [caller.turn("handy", f"[[say {n}]]") for n in range(3)]
    assert [turn["output_text"] for turn in said] == ["0", "1", "2"]
    for n, response in enumerate(slow):
        turn = caller.finish(response)
        assert turn["output_text"] == str(n)
        caller.checked(turn["session_id"])


def test_nobody_waits_for_a_worker_that_is_not_there(thrifty: Stack) -> None:
    """The answer comes as soon as that is known, and says when to come back; another worker does the rest."""
    caller = thrifty.caller()
    stopped = thrifty.worker_pid()
    os.kill(stopped, signal.SIGSTOP)
    try:
        time.sleep(12)
        response = caller.start("batch", "[[say later]]", wait=20)
        assert response.status_code == 202
        assert (response.json()["status"], response.headers["retry-after"]) == ("queued", "5")
    finally:
        os.kill(stopped, signal.SIGCONT)
    assert good(caller.go_on(response.json()["continuation_token"]))["output_text"] == "later"
