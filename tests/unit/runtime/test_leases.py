"""A lease is kept while its session runs, and believed in no longer than it holds."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from functools import partial

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.kit import MemoryKit
from tests.support.scripted import begin, check_session, reply, say, scripted_kit, use
from turnkeeper import tool
from turnkeeper.core.errors import LeaseLost, SessionBusy, SessionEnded
from turnkeeper.core.session import Head, Looked
from turnkeeper.ports import ModelReply, ModelRequest
from turnkeeper.runtime.leases import HeldLease, LeaseKeeper
from turnkeeper.runtime.store import keys
from turnkeeper.runtime.threads import Sequential, Threads
from turnkeeper.runtime.world import Allowance
from turnkeeper.table import Item, Key, StoreBusy, Update
from turnkeeper.testing.clock import ManualClock
from turnkeeper.testing.memory_table import MemoryTable

LENGTH = 60.0


class Held:
    """A session that a runner has claimed, and its lease."""

    def __init__(self, on_beat: Callable[[], None] = lambda: None) -> None:
        self.clock = ManualClock()
        self.kit = MemoryKit(runner="none", lease_seconds=LENGTH, clock=self.clock)
        since = self.clock.monotonic()
        self.head = self.kit.sessions.claim("acme", begin(self.kit, "plain").session_id, "runner-1", "fargate")
        self.lease = HeldLease(self.kit.sessions, self.clock, self.head, since, on_beat)

    def pass_time(self, seconds: float) -> None:
        """With a beat as often as there should be one."""
        for _ in range(int(seconds / self.lease.beat_seconds)):
            self.clock.advance(self.lease.beat_seconds)
            self.lease.beat()


def test_it_runs_on_while_somebody_keeps_it() -> None:
    beats: list[float] = []
    held = Held(lambda: beats.append(held.clock.monotonic()))
    held.pass_time(600)
    assert not held.lease.lost
    assert len(beats) in range(28, 31), "every third of its length"
    now_millis = held.clock.now().timestamp() * 1000
    assert held.kit.head(held.head.session_id).lease.expires_at > now_millis + LENGTH * 1000 / 2
    with pytest.raises(SessionBusy):
        held.kit.sessions.claim("acme", held.head.session_id, "runner-2", "lambda")


def test_it_is_given_up_by_itself_where_it_cannot_be_extended(monkeypatch: pytest.MonkeyPatch) -> None:
    held = Held()

    def busy(head: Head) -> int:
        raise StoreBusy("no")

    monkeypatch.setattr(held.kit.sessions, "extend", busy)
    held.pass_time(LENGTH * 0.85)
    assert not held.lease.lost
    held.pass_time(LENGTH * 0.1)
    assert held.lease.lost
    # Before it ends for the others.
    assert held.clock.now().timestamp() * 1000 < held.kit.head(held.head.session_id).lease.expires_at


def test_an_error_of_a_beat_costs_nothing() -> None:
    def beat() -> None:
        raise RuntimeError("the message could not be extended")

    held = Held(beat)
    held.pass_time(600)
    assert not held.lease.lost


def test_another_runners_claim_is_noticed() -> None:
    held = Held()
    # What a runner with a clock far ahead would do.
    key = keys.head_key("acme", held.head.session_id)
    held.kit.table.update(Update(key, set={"lease_owner": "x"}, add={"fencing_token": 1}))
    held.pass_time(LENGTH / 3 + 2)
    assert held.lease.lost


def test_a_cancel_is_noticed() -> None:
    held = Held()
    held.pass_time(3)
    assert not held.lease.cancelled
    held.kit.sessions.request_cancel(held.head)
    held.pass_time(2)
    assert held.lease.cancelled


def test_a_cancel_from_before_the_claim_is_known_at_once() -> None:
    kit = MemoryKit(runner="none")
    head = begin(kit, "plain")
    kit.sessions.request_cancel(head)
    claimed = kit.sessions.claim("acme", head.session_id, "r", "lambda")
    assert HeldLease(kit.sessions, kit.clock, claimed, 0.0, lambda: None).cancelled


def test_a_stalled_process_does_not_believe_in_its_lease() -> None:
    held = Held()
    assert not held.lease.lost
    held.clock.advance(LENGTH - 5)
    assert held.lease.lost


# ---- many leases of a process ----


class ByHand(LeaseKeeper):
    """Beats when it is told to."""

    def _work(self) -> None: ...


class Hall:
    """Sessions that one process holds, all kept by one keeper, whose beats are the test's."""

    def __init__(self, count: int) -> None:
        self.clock = ManualClock()
        self.table = CountingTable()
        self.kit = MemoryKit(runner="none", lease_seconds=LENGTH, clock=self.clock)
        self.kit.__dict__["table"] = self.table
        self.keeper = ByHand(self.kit.sessions, self.clock, Threads())
        ids = [begin(self.kit, "plain").session_id for _ in range(count)]
        self.heads = [self.kit.sessions.claim("acme", session_id, "runner-1", "fargate") for session_id in ids]
        self.beats = [threading.Semaphore(0) for _ in ids]
        self.leases = [
            self.keeper.keep(head, self.clock.monotonic(), beats.release).__enter__()
            for head, beats in zip(self.heads, self.beats, strict=True)
        ]


class CountingTable(MemoryTable):
    """Counts batches, and has whoever extends the lease of a certain session wait."""

    def __init__(self) -> None:
        super().__init__()
        self.batches = 0
        self.stuck: str | None = None
        self.goes_on = threading.Event()

    def batch_get(self, keys: Sequence[Key]) -> list[Item]:
        self.batches += 1
        return super().batch_get(keys)

    def update(self, update: Update) -> Item:
        if self.stuck is not None and self.stuck in update.key.pk:
            assert self.goes_on.wait(10)
        return super().update(update)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.sampled_from(["left alone", "cancelled", "taken over", "watched", "left"]), min_size=1, max_size=8))
def test_each_lease_is_told_what_became_of_its_session_by_one_read(fates: list[str]) -> None:
    hall = Hall(len(fates))
    looked: dict[int, Looked] = {}
    for number, (fate, head, lease) in enumerate(zip(fates, hall.heads, hall.leases, strict=True)):
        lease.on_look(partial(looked.__setitem__, number))
        if fate == "cancelled":
            hall.kit.sessions.request_cancel(head)
        elif fate == "taken over":
            key = keys.head_key("acme", head.session_id)
            hall.table.update(Update(key, set={"lease_owner": "x"}, add={"fencing_token": 1}))
        elif fate == "watched":
            hall.table.update(Update(keys.stream_key("acme", head.session_id), set={"looked_until": 2**50}))
        elif fate == "left":
            lease.__exit__(None, None, None)
    hall.clock.advance(LENGTH / 3)
    hall.table.batches = 0
    hall.keeper.look()
    assert [lease.cancelled for lease in hall.leases] == [fate == "cancelled" for fate in fates]
    assert hall.table.batches == 1
    hall.keeper.beat()
    for fate, beats in zip(fates, hall.beats, strict=True):
        assert beats.acquire(timeout=5 if fate not in ("taken over", "left") else 0.0) == (
            fate not in ("taken over", "left")
        )
    until = time.monotonic() + 5
    while [lease.lost for lease in hall.leases] != [fate == "taken over" for fate in fates]:
        assert time.monotonic() < until
        time.sleep(0.001)
    assert [lease.cancelled for lease in hall.leases] == [fate == "cancelled" for fate in fates]
    assert {number for number, seen in looked.items() if seen.until} == {
        number for number, fate in enumerate(fates) if fate == "watched"
    }
    assert set(looked) == {number for number, fate in enumerate(fates) if fate != "left"}


def test_a_lease_that_cannot_be_extended_holds_up_no_other() -> None:
    hall = Hall(5)
    hall.table.stuck = hall.heads[2].session_id
    for _ in range(3):
        hall.clock.advance(LENGTH / 3)
        hall.keeper.beat()
        for number, beats in enumerate(hall.beats):
            assert number == 2 or beats.acquire(timeout=5)
    assert [lease.lost for lease in hall.leases] == [number == 2 for number in range(5)]
    assert not hall.beats[2].acquire(blocking=False)
    hall.table.goes_on.set()


@pytest.mark.parametrize("hangs", [False, True])
def test_a_table_that_cannot_be_read_ends_no_lease(monkeypatch: pytest.MonkeyPatch, hangs: bool) -> None:
    hall = Hall(2)

    def batch_get(_keys: Sequence[Key]) -> list[Item]:
        assert not hangs or hall.table.goes_on.wait(10)
        raise StoreBusy("no")

    monkeypatch.setattr(hall.table, "batch_get", batch_get)
    for _ in range(5):
        hall.clock.advance(LENGTH / 3)
        hall.keeper.beat()
        assert all(beats.acquire(timeout=5) for beats in hall.beats)
    assert not any(lease.lost for lease in hall.leases)
    hall.table.goes_on.set()


def test_where_no_more_threads_are_to_be_had_every_lease_is_kept_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    hall = Hall(3)

    def none_left(_self: Threads, _job: Callable[[], object]) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(Threads, "start", none_left)
    for _ in range(2):
        hall.clock.advance(LENGTH / 2)
        hall.keeper.beat()
        assert [lease.lost for lease in hall.leases] == [False] * 3
    hall.kit.sessions.request_cancel(hall.heads[2])
    hall.keeper.beat()
    assert [lease.cancelled for lease in hall.leases] == [False, False, True]


def test_a_lease_that_nobody_can_keep_is_not_kept_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its runner never began: kept by the thread that the next one gets, its session would run for nobody."""
    kit = MemoryKit(runner="none", lease_seconds=1)
    keeper = LeaseKeeper(kit.sessions, kit.clock, Threads())
    head = kit.sessions.claim("acme", begin(kit, "plain").session_id, "runner-1", "fargate")

    def none_left(_self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", none_left)
        with pytest.raises(RuntimeError), keeper.keep(head, kit.clock.monotonic(), lambda: None):
            raise AssertionError("it is not entered")
    beats = threading.Semaphore(0)
    other = kit.sessions.claim("acme", begin(kit, "plain").session_id, "runner-2", "fargate")
    with keeper.keep(other, kit.clock.monotonic(), beats.release):
        assert beats.acquire(timeout=5) and beats.acquire(timeout=5)
    assert kit.sessions.head("acme", head.session_id).lease.expires_at == head.lease.expires_at


def test_a_thread_beats_for_as_long_as_a_lease_is_held() -> None:
    kit = MemoryKit(runner="none", lease_seconds=1)
    keeper = LeaseKeeper(kit.sessions, kit.clock, Threads())
    beats = threading.Semaphore(0)
    for _ in range(2):
        head = kit.sessions.claim("acme", begin(kit, "plain").session_id, "runner-1", "fargate")
        with keeper.keep(head, kit.clock.monotonic(), beats.release) as lease:
            assert beats.acquire(timeout=5) and beats.acquire(timeout=5)
            assert not lease.lost
    assert [thread.name for thread in threading.enumerate()].count("leases") >= 1


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
