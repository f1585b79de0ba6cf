"""The price of waiting, on a local kit of its own: a warm answer, an entry seen late, a turn handed over.

- `answer`: from a POST that begins a session to the whole answer of a model that takes no time, on an open connection.
- `seen`: from the moment that an entry's write began to its arrival at a client that waits for events, after ten quiet
  seconds in which nothing happened; and how often a client that waits makes the table be read.
- `handoff`: from a turn Lambda's last write to the worker's claim, which is its first.
- `first write`: from the input's write to the claim of whoever runs the turn, by placement (docs/decisions/0143).

The last begins with `latency`, then the same kit is deployed once more with `economy`.
"""

from __future__ import annotations

import argparse
import itertools
import os
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks._results import Results
from functions.api.stages.wait import looks
from tests.e2e.outside import AGENTS, Caller, Stack, call, tools
from turnkeeper.adapters.aws import Aws
from turnkeeper.adapters.dynamodb import DynamoTable
from turnkeeper.core.session import Entry, Run
from turnkeeper.runtime.store.records import Records
from turnkeeper.testing.memory_blobs import MemoryBlobs
from turnkeeper_local.kit import Home, KitSettings, down, up

QUIET_SECONDS = 10
#: What a turn of the handoff's kit may take on Lambda.
TURN_SECONDS = 4
#: What follows a turn (observer, scorer, webhooks) is over by then: on this machine it would take the next turn's time.
REST_SECONDS = 0.5
_one_at_a_time = threading.Lock()


def main(arguments: Sequence[str] = ()) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.waiting", description=__doc__)
    parser.add_argument("--rounds", type=int, default=20, help="how often each is measured")
    rounds = parser.parse_args(arguments).rounds
    few = max(3, rounds // 4)
    with (
        Results("waiting") as results,
        tempfile.TemporaryDirectory() as folder,
        _down_again(Path(folder)) as deployed,
    ):
        for placement in ("latency", "economy"):
            stack = deployed(placement)
            caller = stack.caller()
            answers = [_answer(caller, wait=20) for _ in range(rounds)][2:]
            writes = [_first_write(stack, caller) for _ in range(rounds)][2:]
            _tell(results, "answer", answers, placement=placement)
            _tell(results, "first write", writes, placement=placement)
            if placement == "economy":
                continue
            _tell(results, "accepted, nobody waits", [_answer(caller, wait=0) for _ in range(rounds)][2:])
            with ThreadPoolExecutor(few) as threads:
                # Spread over the gap between two looks, neighbours in different batches of threads. As many as this,
                # for of twenty the median itself varies by a fifth.
                places = range(12 * few)
                later = [0.25 * place / len(places) for first in range(12) for place in places[first::12]]
                seen = list(threads.map(partial(_seen, stack), later))
            _tell(results, "seen", seen, quiet_seconds=QUIET_SECONDS)
            _tell(results, "handoff", [_handoff(stack, caller) for _ in range(few)])
        results.count("reads of one that waits", "a second", _reads_a_second())
    return 0


@contextmanager
def _down_again(folder: Path) -> Iterator[Callable[[str], Stack]]:
    home = Home(folder)

    def deployed(placement: str) -> Stack:
        settings = KitSettings.from_environment(
            {
                "TURNKEEPER_PORT": "0",
                "TURNKEEPER_AGENTS": str(AGENTS),
                "TURNKEEPER_TURN_SECONDS": str(TURN_SECONDS),
                "TURNKEEPER_AUTO_PLACEMENT": placement,
            }
        )
        return Stack(up(settings, home=home), home)

    try:
        yield deployed
    finally:
        down(home, forget=True)


def _answer(caller: Caller, *, wait: int) -> float:
    began = time.perf_counter()
    answer = caller.start("handy", "[[say hi]]", wait=wait)
    took = time.perf_counter() - began
    assert answer.status_code in (200, 202), answer.text
    caller.finish(answer)
    time.sleep(REST_SECONDS)
    return took


def _seen(stack: Stack, later_seconds: float) -> float:
    """The answer's entry, by a client that knows the input's."""
    caller = stack.caller()
    with _one_at_a_time:  # So that no two entries are written in one moment: it is one that waits.
        time.sleep(REST_SECONDS)
    session_id = caller.start("handy", f"[[sleep {QUIET_SECONDS}]] [[say hi]]", wait=0).json()["session_id"]
    time.sleep(later_seconds)
    events: list[Any] = []
    while not events:  # on a busy machine a turn may begin late
        events = caller.get(f"/v1/sessions/{session_id}/events", after=1, wait=25).json()["events"]
    return _seconds(events[0]["at"], datetime.now(UTC))


def _reads_a_second() -> float:
    """In the second of a wait in which it is read most, but for the first."""
    times = list(itertools.takewhile(lambda at: at < 30, looks()))
    return max(sum(begin <= at < begin + 1 for at in times) for begin in range(1, 29))


def _handoff(stack: Stack, caller: Caller) -> float:
    """Of a turn that outgrows its time on Lambda."""
    steps = " ".join(tools(call("wait", seconds=1.2 + n / 100, file="/dev/null")) for n in range(5))
    turn = caller.finish(caller.start("handy", f"{steps} [[say done]]", wait=0))
    entries = _entries(stack, caller, turn["session_id"])
    return _asked_to_claimed(next(entry.run for entry in entries if entry.run and entry.run.kind == "fargate"))


def _first_write(stack: Stack, caller: Caller) -> float:
    turn = caller.finish(caller.start("handy", "[[say hi]]", wait=20))
    time.sleep(REST_SECONDS)
    return _asked_to_claimed(next(entry.run for entry in _entries(stack, caller, turn["session_id"]) if entry.run))


def _asked_to_claimed(run: Run) -> float:
    assert run.asked_at is not None
    return _seconds(run.asked_at, datetime.fromisoformat(run.claimed_at))


def _entries(stack: Stack, caller: Caller, session_id: str) -> tuple[Entry, ...]:
    os.environ |= {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test"}
    requests = Aws(region=stack.kit.region, endpoint_url=stack.kit.aws_endpoint_url).table_requests
    table = DynamoTable(requests, stack.kit.table_name)
    return Records(table, MemoryBlobs()).load(caller.tenant, session_id).entries


def _seconds(begin: str, end: datetime) -> float:
    return (end - datetime.fromisoformat(begin)).total_seconds()


def _tell(results: Results, what: str, seconds: Sequence[float], unit: str = "ms", **by: str | float) -> None:
    results.wall(what, [1000 * each for each in seconds], unit, **by)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
