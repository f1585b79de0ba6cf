"""How long a call waits, and how often it looks."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from functions.api.app import FrontDoor
from functions.api.stages.wait import until, worker_is_missing
from tests.support.http import Caller
from tests.support.kit import WHO, MemoryKit
from turnkeeper.runtime.intake import NewSession
from turnkeeper.testing.clock import ManualClock


@given(read_seconds=st.floats(0, 0.5), wait_seconds=st.floats(0, 30))
def test_looks_are_many_at_first_and_never_more_than_four_a_second_later(
    read_seconds: float, wait_seconds: float
) -> None:
    """By a table that takes its time: what a look takes is no reason for a longer gap."""
    clock = ManualClock()
    head: Any = SimpleNamespace(tenant_id="acme", session_id="s")
    began, looks = clock.monotonic(), list[float]()

    def read(*_: str) -> Any:
        looks.append(clock.monotonic() - began)
        clock.advance(read_seconds)
        return head

    kit: Any = SimpleNamespace(clock=clock, sessions=SimpleNamespace(head=read))
    until(kit, head, lambda _: False, wait_seconds)
    took = clock.monotonic() - began
    assert wait_seconds - 1e-3 <= took <= wait_seconds + 2 * read_seconds + 1e-3, "the last look is when the time is up"
    assert sum(at < 1 for at in looks[:-1]) <= 20, "a burst, and a small one"
    gaps = [after - before for before, after in pairwise(looks[:-1])]
    for at, gap in zip(looks, gaps, strict=False):
        assert gap <= max(min(0.25, max(at / 4, 0.007)), read_seconds + 0.125) + 1e-5
        assert gap >= 0.2499 or at < 1, "four a second"


class Sleeper(ManualClock):
    """Has something happen in the middle of a wait."""

    def __init__(self, happens: Callable[[], object]) -> None:
        super().__init__()
        self.happens, self.slept = happens, 0

    def sleep(self, seconds: float) -> None:
        super().sleep(seconds)
        self.slept += 1
        if self.slept == 20:
            self.happens()


def test_who_waits_for_events_reads_once_a_look_and_has_them_with_it() -> None:
    requests: list[str] = []

    def happens() -> None:
        kit.table.on_request = None
        kit.run(kit.head(session_id))
        kit.table.on_request = requests.append

    clock = Sleeper(happens)
    kit = MemoryKit(clock=clock, runner="none")
    ann = Caller(FrontDoor(kit))
    session_id = ann.post("/v1/sessions", {"agent": "plain", "input": "[[say hi]]"}, wait=0).ok(202)["session_id"]
    kit.table.on_request = requests.append
    page = ann.get(f"/v1/sessions/{session_id}/events?after=1&wait=20").ok()
    assert ([event["seq"] for event in page["events"]], page["status"]) == ([2, 3], "idle")
    assert requests == ["GetItem", *["Query"] * 20]


def test_nobody_waits_for_a_worker_that_is_not_there() -> None:
    clock = ManualClock()
    kit = MemoryKit(clock=clock, runner="none")
    queued = kit.intake.create(WHO, NewSession("slow", "[[say hi]]", {}))
    began = clock.monotonic()
    until(kit, queued, worker_is_missing(kit), 20)
    assert 2 <= clock.monotonic() - began < 2.5
    kit.workers.tell("a worker", 0)
    clock.advance(1)
    began = clock.monotonic()
    until(kit, queued, worker_is_missing(kit), 5)
    assert clock.monotonic() - began >= 4.99, "it may be full now and not in a moment"
    running = kit.intake.create(WHO, NewSession("plain", "[[say hi]]", {}))
    clock.advance(60)
    assert not worker_is_missing(kit)(running)
