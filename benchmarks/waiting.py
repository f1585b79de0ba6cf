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
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from functions.api.stages.wait import pauses
from tests.e2e.outside import AGENTS, Caller, Stack, call, tools
from turnkeeper.adapters.dynamodb import DynamoTable
from turnkeeper.core.session import Entry, Run
from turnkeeper.runtime.store.records import Records
from turnkeeper.testing.memory_blobs import MemoryBlobs
from turnkeeper_local.kit import Home, KitSettings, down, up

QUIET_SECONDS = 10
#: What a turn of the handoff's kit may take on Lambda.
TURN_SECONDS = 4


def main(arguments: Sequence[str] = ()) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.waiting", description=__doc__)
    parser.add_argument("--rounds", type=int, default=20, help="how often each is measured")
    rounds = parser.parse_args(arguments).rounds
    with tempfile.TemporaryDirectory() as folder, _down_again(Path(folder)) as deployed:
        stack = deployed("latency")
        caller = stack.caller()
        _tell("answer, no waiting", [_answer(caller, wait=0) for _ in range(rounds)][2:])
        _tell("answer", [_answer(caller, wait=20) for _ in range(rounds)][2:])
        with ThreadPoolExecutor(rounds) as threads:
            seen = list(threads.map(lambda _: _seen(stack.caller()), range(max(3, rounds // 4))))
        _tell(f"seen after {QUIET_SECONDS} s", seen)
        print(f"{'reads a second of one that waits':36} {_reads_a_second():5.1f}")
        _tell("handoff", [_handoff(stack, caller) for _ in range(max(3, rounds // 4))])
        _tell("first write, latency", [_first_write(stack, caller) for _ in range(rounds)][2:])
        stack = deployed("economy")
        caller = stack.caller()
        _tell("first write, economy", [_first_write(stack, caller) for _ in range(rounds)][2:])
        _tell("answer, economy", [_answer(caller, wait=20) for _ in range(rounds)][2:])
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
    return took


def _seen(caller: Caller) -> float:
    """The answer's entry, by a client that knows the input's."""
    session_id = caller.start("handy", f"[[sleep {QUIET_SECONDS}]] [[say hi]]", wait=0).json()["session_id"]
    events: list[Any] = []
    while not events:  # on a busy machine a turn may begin late
        events = caller.get(f"/v1/sessions/{session_id}/events", after=1, wait=25).json()["events"]
    return _seconds(events[0]["at"], datetime.now(UTC))


def _reads_a_second() -> float:
    """In the second of a wait in which it is read most, but for the first."""
    times = list(itertools.takewhile(lambda at: at < 30, itertools.accumulate(pauses())))
    return max(sum(begin <= at < begin + 1 for at in times) for begin in range(1, 29))


def _handoff(stack: Stack, caller: Caller) -> float:
    """Of a turn that outgrows its time on Lambda."""
    steps = " ".join(tools(call("wait", seconds=1.2 + n / 100, file="/dev/null")) for n in range(5))
    turn = caller.finish(caller.start("handy", f"{steps} [[say done]]", wait=0))
    entries = _entries(stack, caller, turn["session_id"])
    return _asked_to_claimed(next(entry.run for entry in entries if entry.run and entry.run.kind == "fargate"))


def _first_write(stack: Stack, caller: Caller) -> float:
    turn = caller.finish(caller.start("handy", "[[say hi]]", wait=20))
    return _asked_to_claimed(next(entry.run for entry in _entries(stack, caller, turn["session_id"]) if entry.run))


def _asked_to_claimed(run: Run) -> float:
    assert run.asked_at is not None
    return _seconds(run.asked_at, datetime.fromisoformat(run.claimed_at))


def _entries(stack: Stack, caller: Caller, session_id: str) -> tuple[Entry, ...]:
    table = DynamoTable(stack.client("dynamodb"), stack.kit.table_name)
    return Records(table, MemoryBlobs()).load(caller.tenant, session_id).entries


def _seconds(begin: str, end: datetime) -> float:
    return (end - datetime.fromisoformat(begin)).total_seconds()


def _tell(what: str, seconds: Sequence[float]) -> None:
    ordered = sorted(seconds)
    median, most = statistics.median(ordered), ordered[-1]
    print(f"{what:36} {median * 1000:5.0f} ms at the median, {ordered[0] * 1000:.0f} to {most * 1000:.0f}", flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
