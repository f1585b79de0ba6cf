"""How long a call waits, and how often it looks."""

from __future__ import annotations

from itertools import accumulate, pairwise, takewhile

from functions.api.stages.wait import pauses, until, worker_is_missing
from tests.support.kit import WHO, MemoryKit
from turnkeeper.runtime.intake import NewSession
from turnkeeper.testing.clock import ManualClock


def test_what_lands_late_is_seen_as_soon_as_what_lands_early() -> None:
    looks = list(takewhile(lambda at: at < 25, accumulate(pauses())))
    gaps = [after - before for before, after in pairwise(looks)]
    assert max(gaps) < 0.2501, "an eighth of a second late on average"
    assert max(sum(second <= at < second + 1 for at in looks) for second in range(2, 24)) <= 4
    assert looks[0] <= 0.015 and sum(at < 1 for at in looks) <= 20, "a burst, and a small one"


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
