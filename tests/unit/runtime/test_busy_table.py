"""A table that cannot be written for a while: what is paid for, or was done, waits until it can be."""

from __future__ import annotations

import random
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest

from tests.support.kit import MODEL, WHO, MemoryKit
from tests.support.scripted import ScriptedModel, begin, check_session, failure, reply, say, states, use
from turnkeeper import Agent, tool
from turnkeeper.core.errors import LeaseLost, SessionEnded, Unavailable
from turnkeeper.core.session import Head
from turnkeeper.ports import ModelReply, ModelRequest
from turnkeeper.runtime.leases import HeldLease, Lease
from turnkeeper.runtime.world import Allowance
from turnkeeper.table import StoreBusy
from turnkeeper.testing.clock import ManualClock

LEASE_SECONDS = 60.0
#: A failed attempt, a call of a tool, and the end: begun and answered, that is a write each.
WRITES = range(1, 7)


class BeatingLease(HeldLease):
    def __enter__(self) -> BeatingLease:
        return self

    def __exit__(self, *_: object) -> None:
        pass


class BeatingClock(ManualClock):
    """The lease beats whenever somebody waits."""

    lease: BeatingLease | None = None

    def sleep(self, seconds: float) -> None:
        super().sleep(seconds)
        if self.lease is not None:
            self.lease.beat()


class BusyKit(MemoryKit):
    """Its table is busy for ``seconds`` from its write number ``at`` on; ``wholly``: also for leases."""

    def __init__(self, at: int, seconds: float, *, wholly: bool = False) -> None:
        self.paid: list[int] = []
        self.text = "ok"

        @tool(effect="once")
        def pay(number: int) -> str:
            """Pay."""
            self.paid.append(number)
            return "paid"

        self.beating = BeatingClock()
        self.scripted = ScriptedModel(failure(529, certainty="unknown"), *[self._by_position] * 9)
        agent = Agent(name="scripted", model=MODEL, system="You act.", tools=[pay])
        super().__init__([agent], model=self.scripted, clock=self.beating, runner="none", lease_seconds=LEASE_SECONDS)
        self.tenants.lay_out(self.tenants.terms(WHO.tenant_id))
        self.started = begin(self)
        self._make_busy(at, seconds, wholly)

    def _by_position(self, request: ModelRequest) -> ModelReply:
        said = say(self.text)
        return reply(said, use("pay", number=1)) if len(request.messages) == 1 else reply(said)

    def keep_lease(self, head: Head, held_since: float, on_beat: Callable[[], None]) -> Lease:
        self.beating.lease = BeatingLease(self.sessions, self.clock, head, held_since, on_beat)
        return self.beating.lease

    def _make_busy(self, at: int, seconds: float, wholly: bool) -> None:
        writes, until = iter(range(1, 10**6)), [-1.0]

        def unless_busy(request: Callable[[Any], Any], *, counts: bool) -> Callable[[Any], Any]:
            def checked(argument: Any) -> Any:
                if counts and next(writes) == at:
                    until[0] = self.clock.monotonic() + seconds
                if (counts or wholly) and self.clock.monotonic() < until[0]:
                    raise StoreBusy("busy")
                return request(argument)

            return checked

        self.table.write = unless_busy(self.table.write, counts=True)  # type: ignore[assignment, method-assign]
        self.table.update = unless_busy(self.table.update, counts=False)  # type: ignore[assignment, method-assign]


@pytest.mark.parametrize("at", WRITES)
def test_a_busy_minute_costs_nothing_but_time(at: int) -> None:
    kit = BusyKit(at, 60.0)
    before = kit.clock.monotonic()
    head = kit.run(kit.started, Allowance(runner="fargate"))
    assert kit.clock.monotonic() - before >= 60.0
    check_session(kit, head)
    assert (head.status, head.steps) == ("idle", 2)
    assert (len(kit.scripted.requests), kit.paid) == (3, [1])
    assert states(kit, head) == {"in_doubt": 1, "settled": 2}


def test_so_does_a_minute_without_a_place_for_large_contents() -> None:
    """What S3, a folder or a database's table of contents refuses costs no answer either."""
    kit, until = BusyKit(0, 0.0), [60.0]
    long = "".join(random.Random(5).choices("abcdefghijklmnopqrstuvwxyz0123456789", k=140_000))
    kit.text = long
    put = kit.blobs.put

    def refused(key: str, data: bytes) -> None:
        if kit.clock.monotonic() < until[0]:
            raise Unavailable("S3 is busy")
        put(key, data)

    kit.blobs.put = refused  # type: ignore[method-assign]
    head = kit.run(kit.started, Allowance(runner="fargate"))
    check_session(kit, head)
    assert (head.status, len(kit.scripted.requests), kit.paid) == ("idle", 3, [1])
    assert states(kit, head) == {"in_doubt": 1, "settled": 2}


@pytest.mark.parametrize("written", [False, True])
@pytest.mark.parametrize("at", [2, 4, 6])
def test_an_answer_whose_write_got_no_answer_is_written_once(at: int, written: bool) -> None:
    """A database that failed over at that moment. What it had written already is not written again, and found there."""
    kit = BusyKit(0, 0.0)
    write, numbers = kit.table.write, iter(range(1, 100))

    def loses(operations: Any) -> None:
        lost = next(numbers) == at
        if written or not lost:
            write(operations)
        if lost:
            raise Unavailable("the answer was lost")

    kit.table.write = loses  # type: ignore[method-assign]
    with suppress(LeaseLost, Unavailable):
        kit.run(kit.started, Allowance(runner="fargate"))
    kit.beating.advance(1_000)
    with suppress(SessionEnded):
        kit.run(kit.started, Allowance(runner="fargate"))
    head = kit.head(kit.started.session_id)
    check_session(kit, head)
    assert (head.status, len(kit.scripted.requests)) == ("idle", 3)
    assert kit.paid in ([1], [])


@pytest.mark.parametrize("at", WRITES)
def test_a_table_that_never_recovers_is_tried_as_long_as_the_lease_lasts(at: int) -> None:
    kit = BusyKit(at, 1_000.0, wholly=True)
    before = kit.clock.monotonic()
    with pytest.raises(LeaseLost):
        kit.run(kit.started, Allowance(runner="fargate"))
    assert LEASE_SECONDS * 0.5 < kit.clock.monotonic() - before < LEASE_SECONDS
    kit.beating.advance(1_000)
    head = kit.run(kit.started, Allowance(runner="fargate"))
    check_session(kit, head)
    assert head.status == "idle"
    assert kit.paid == [1], "what nobody knows the outcome of is not done again"


@pytest.mark.parametrize("at", WRITES)
def test_a_runners_hard_end_ends_it_too(at: int) -> None:
    kit = BusyKit(at, 1_000.0)
    before = kit.clock.monotonic()
    with pytest.raises(StoreBusy):
        kit.run(kit.started, Allowance(runner="lambda", turn_seconds=85, hard_seconds=100))
    assert 90 < kit.clock.monotonic() - before < 100


def test_so_does_the_end_of_a_drain() -> None:
    kit = BusyKit(2, 1_000.0)
    expired = lambda: kit.clock.monotonic() > 200  # noqa: E731
    with pytest.raises(StoreBusy):
        kit.run(kit.started, Allowance(runner="fargate", draining=expired, expired=expired))
    assert 200 < kit.clock.monotonic() < 205
