"""A lease is kept while its session runs, and believed in no longer than it holds."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tests.support.kit import MemoryKit
from tests.support.scripted import begin, check_session, reply, say, scripted_kit, use
from turnkeeper import tool
from turnkeeper.core.errors import LeaseLost, SessionBusy, SessionEnded
from turnkeeper.core.session import Head
from turnkeeper.ports import ModelReply, ModelRequest, StoreBusy
from turnkeeper.runtime.leases import LeaseThread
from turnkeeper.runtime.threads import Sequential
from turnkeeper.runtime.world import Allowance
from turnkeeper.testing.clock import ManualClock

LENGTH = 1.0


@pytest.fixture
def kit() -> MemoryKit:
    return MemoryKit(runner="none", lease_seconds=LENGTH)


@contextmanager
def held(kit: MemoryKit, on_beat: Callable[[], None] = lambda: None) -> Iterator[tuple[Head, LeaseThread]]:
    since = kit.clock.monotonic()
    head = kit.sessions.claim("acme", begin(kit, "plain").session_id, "runner-1", "fargate")
    with LeaseThread(kit.sessions, kit.clock, head, since, on_beat) as lease:
        yield head, lease


def until(holds: Callable[[], Any], seconds: float = 8.0) -> None:
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_it_runs_on_while_somebody_keeps_it(kit: MemoryKit) -> None:
    beats: list[float] = []
    with held(kit, lambda: beats.append(time.monotonic())) as (head, lease):
        until(lambda: len(beats) >= 4)
        assert not lease.lost
        assert kit.head(head.session_id).lease.expires_at > head.lease.expires_at + 900
        with pytest.raises(SessionBusy):
            kit.sessions.claim("acme", head.session_id, "runner-2", "lambda")


def test_it_is_given_up_by_itself_where_it_cannot_be_extended(kit: MemoryKit, monkeypatch: pytest.MonkeyPatch) -> None:
    def busy(head: Head) -> int:
        raise StoreBusy("no")

    monkeypatch.setattr(kit.sessions, "extend", busy)
    started = time.monotonic()
    with held(kit) as (head, lease):
        until(lambda: lease.lost)
        # Before it ends for the others.
        assert time.time() * 1000 < kit.head(head.session_id).lease.expires_at
        assert time.monotonic() - started >= LENGTH * 0.8


def test_an_error_of_a_beat_costs_nothing(kit: MemoryKit) -> None:
    beats: list[int] = []

    def beat() -> None:
        beats.append(1)
        raise RuntimeError("the message could not be extended")

    with held(kit, beat) as (_, lease):
        until(lambda: len(beats) >= 4)
        assert not lease.lost


def test_another_runners_claim_is_noticed(kit: MemoryKit) -> None:
    with held(kit) as (head, lease):
        stolen = kit.table.update  # What a runner with a clock far ahead would do.
        from turnkeeper.ports import Update
        from turnkeeper.runtime.store import keys

        stolen(Update(keys.head_key("acme", head.session_id), set={"lease_owner": "x"}, add={"fencing_token": 1}))
        until(lambda: lease.lost)


def test_a_cancel_is_noticed(kit: MemoryKit) -> None:
    with held(kit) as (head, lease):
        assert not lease.cancelled
        kit.sessions.request_cancel(head)
        until(lambda: lease.cancelled)


def test_a_cancel_from_before_the_claim_is_known_at_once(kit: MemoryKit) -> None:
    head = begin(kit, "plain")
    kit.sessions.request_cancel(head)
    claimed = kit.sessions.claim("acme", head.session_id, "r", "lambda")
    assert LeaseThread(kit.sessions, kit.clock, claimed, 0.0, lambda: None).cancelled


def test_a_stalled_process_does_not_believe_in_its_lease() -> None:
    clock = ManualClock()
    kit = MemoryKit(runner="none", lease_seconds=60, clock=clock)
    with held(kit) as (_, lease):
        assert not lease.lost
        clock.advance(55)
        assert lease.lost


def test_the_thread_ends_with_the_lease(kit: MemoryKit) -> None:
    with held(kit) as (head, _):
        name = f"lease-{head.session_id}"
        assert any(thread.name == name for thread in threading.enumerate())
    until(lambda: not any(thread.name == name for thread in threading.enumerate()))


# ---- two runners ----


def test_a_lease_is_taken_over_only_after_it_ended_and_a_margin_for_clocks() -> None:
    clock = ManualClock()
    kit = MemoryKit(runner="none", lease_seconds=60, clock=clock)
    session_id = begin(kit, "plain").session_id
    first = kit.sessions.claim("acme", session_id, "one", "lambda")
    clock.advance(62)
    with pytest.raises(SessionBusy):
        kit.sessions.claim("acme", session_id, "two", "lambda")
    clock.advance(2)
    second = kit.sessions.claim("acme", session_id, "two", "fargate")
    assert second.lease.fencing_token == first.lease.fencing_token + 1
    assert second.lease.claims == 2
    with pytest.raises(LeaseLost):
        kit.sessions.extend(first)


def test_claiming_twice_with_the_same_word_is_one_claim() -> None:
    kit = scripted_kit()
    session_id = begin(kit, "plain").session_id
    first = kit.sessions.claim("acme", session_id, "one", "lambda")
    assert kit.sessions.claim("acme", session_id, "one", "lambda") == first


def test_of_two_runners_exactly_one_makes_progress() -> None:
    """The first stalls inside its model call until its lease is over; the second takes the session and ends the turn.
    The first wakes up and must write nothing."""
    clock = ManualClock()
    seen: list[Head] = []

    def stall(request: ModelRequest) -> ModelReply:
        clock.advance(70)
        seen.append(kit.run(kit.head(session_id), Allowance(runner="fargate")))
        return reply(say("too late"))

    kit = scripted_kit(stall, reply(say("in time")), clock=clock, lease_seconds=60)
    kit.parallel = Sequential()  # type: ignore[assignment] - the stall is the whole process's
    session_id = begin(kit, "plain").session_id
    with pytest.raises(LeaseLost):
        kit.run(kit.head(session_id))
    [left] = seen
    assert kit.head(session_id) == left
    assert "too late" not in str(kit.entries(session_id))
    assert (left.status, left.steps, left.runner) == ("idle", 1, "fargate")
    check_session(kit, left)


def test_a_runner_that_was_fenced_off_inside_a_tool_writes_nothing() -> None:
    clock = ManualClock()
    ran: list[str] = []
    left: list[Head] = []

    @tool(effect="once")
    def pay() -> str:
        """Pay."""
        ran.append("paid")
        clock.advance(70)
        left.append(kit.run(kit.head(session_id), Allowance(runner="fargate")))
        return "paid"

    kit = scripted_kit(reply(use("pay")), reply(say("over")), tools=[pay], clock=clock, lease_seconds=60)
    kit.parallel = Sequential()  # type: ignore[assignment] - the stall is the whole process's
    session_id = begin(kit).session_id
    with pytest.raises(LeaseLost):
        kit.run(kit.head(session_id))
    assert ran == ["paid"]
    assert kit.head(session_id) == left[0]
    [told] = [outcome for entry in kit.entries(session_id) for outcome in entry.outcomes]
    assert told.outcome == "unknown"
    check_session(kit, left[0])


def test_many_runners_at_once_run_a_turn_once() -> None:
    kit = MemoryKit(runner="none")
    head = begin(kit, "helper", '[[sleep 0.2]] [[tool add {"a": 1, "b": 2}]] [[say over]]')
    went: list[str] = []

    def runner() -> None:
        try:
            kit.run(head)
            went.append("ran")
        except (SessionBusy, SessionEnded) as refused:
            went.append(type(refused).__name__)

    threads = [threading.Thread(target=runner) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert went.count("ran") == 1
    assert len(went) == 6
    assert kit.head(head.session_id).steps == 2
    check_session(kit, kit.head(head.session_id))
