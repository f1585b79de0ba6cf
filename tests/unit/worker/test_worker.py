"""Slots, messages that are held for long, and the end of the process."""

from __future__ import annotations

import time
from typing import Any

import pytest

from fargate_worker.threads import in_thread
from fargate_worker.worker import Options
from tests.support.kit import WHO, MemoryKit
from tests.support.scripted import check_session
from tests.unit.worker.conftest import Bench, send_job, worker_of
from turnkeeper.core.errors import Unavailable
from turnkeeper.runtime.intake import NewSession


def test_no_more_sessions_run_than_there_are_slots(bench: Bench) -> None:
    for number in range(8):
        bench.job(f"job {number}", "[[sleep 5]][[say done]]")
    worker = bench.worker(concurrency=2)
    most = 0

    def empty() -> bool:
        nonlocal most
        most = max(most, worker.running())
        return not bench.kit.queue.bodies()

    bench.wait(empty)
    assert most == 2
    assert 20 <= bench.now < 25


def test_a_long_job_outlives_the_visibility_of_its_message(bench: Bench) -> None:
    session_id = bench.job("long", "[[sleep 300]][[say done]]")
    workers = [bench.worker(), bench.worker()]
    assert {worker.holding.visibility_seconds for worker in workers} == {86}
    bench.empty()
    assert bench.now >= 300
    head = bench.kit.head(session_id)
    assert (head.steps, head.lease.fencing_token, bench.kit.queue.dead_letters) == (1, 1, [])
    assert sum(worker.status()["done"] for worker in workers) == 1, "nobody else received it"


def test_a_message_held_too_long_is_replaced(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    session_id = bench.job("very long", '[[repeat 50]][[sleep 900]][[tool read_note {"title": "a"}]][[say done]]')
    monkeypatch.setattr("fargate_worker.holding.MAX_HOLD_SECONDS", 200.0)
    worker = bench.worker(concurrency=2)
    bench.wait(lambda: len(worker.followers) == 1)
    assert 200 < bench.now < 240
    [body] = bench.kit.queue.bodies()
    assert "continuation_token" in body
    assert bench.kit.head(session_id).status == "running"


def test_a_receive_that_fails_is_tried_again(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    fails = iter(range(1100))
    receive = bench.kit.queue.receive

    def flaky(**kwargs: Any) -> Any:
        if next(fails, None) is not None:
            raise Unavailable("SQS is out of reach")
        return receive(**kwargs)

    monkeypatch.setattr(bench.kit.queue, "receive", flaky)
    monkeypatch.setattr("fargate_worker.worker.LOOK_AGAIN_SECONDS", 30.0)
    session_id = bench.job("patient")
    worker = bench.worker()
    bench.wait(lambda: not bench.kit.queue.bodies(), seconds=40_000)
    assert bench.kit.head(session_id).status == "idle"
    assert bench.now > 1_090 * 30
    assert worker.quiet_seconds() < 31


# ---- draining ----


def test_a_drain_hands_sessions_on_at_the_next_safe_point(bench: Bench) -> None:
    text = '[[sleep 1]][[tool add {"a": 1, "b": 2}]][[say done]]'
    ids = [bench.job(f"job {number}", text, agent="helper") for number in range(4)]
    worker = bench.worker(concurrency=4)
    bench.wait(lambda: all(bench.status(session_id) == "running" for session_id in ids))
    worker.stop()
    worker.stop()
    assert worker.drain()
    heads = [bench.kit.head(session_id) for session_id in ids]
    assert {(head.status, head.lease.owner) for head in heads} == {("queued", None)}
    assert all(head.steps <= 1 for head in heads)  # one that had begun its call may finish it
    assert len(bench.kit.queue.bodies()) == 4
    bench.worker()
    bench.empty()
    for session_id in ids:
        head = bench.kit.head(session_id)
        assert (head.status, head.steps, head.lease.fencing_token) == ("idle", 2, 2)
        check_session(bench.kit, head)


def test_one_that_is_told_to_stop_before_it_starts_receives_nothing(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.job("left alone")
    monkeypatch.setattr(bench.kit.queue, "receive", lambda **_: pytest.fail("it asked for messages"))
    worker = bench.worker(start=False)
    worker.stop()
    worker.start()
    assert worker.drain()
    assert len(bench.kit.queue.bodies()) == 1


def test_what_does_not_end_in_time_is_not_waited_for(bench: Bench) -> None:
    session_id = bench.job("slow one", "[[sleep 900]][[say done]]")
    worker = bench.worker()
    bench.wait(lambda: bench.status(session_id) == "running" and bench.kit.head(session_id).account.pending is not None)
    began = bench.now
    worker.stop()
    assert worker.drain()
    assert 100 <= bench.now - began < 108
    head = bench.kit.head(session_id)
    assert (head.status, head.account.pending, head.lease.owner) == ("queued", None, None)
    assert [call["state"] for call in bench.kit.sessions.calls("acme", session_id)] == ["in_doubt"]


def test_what_hangs_does_not_hold_the_process(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    hangs: list[bool] = []

    def hang(*_: Any) -> None:
        hangs.append(True)
        bench.scheduler.sleep(10_000)

    monkeypatch.setattr(bench.kit.engine, "run", hang)
    bench.job("hangs")
    worker = bench.worker()
    bench.wait(lambda: bool(hangs))
    began = bench.now
    worker.stop()
    assert not worker.drain()
    assert 107 < bench.now - began < 109
    [message] = bench.kit.queue.receive(most=10, wait_seconds=0, visibility_seconds=1)
    assert message.receive_count == 2, "visible at once"


def test_a_handoff_that_could_not_be_sent_keeps_its_message(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    session_id = bench.job("unsent", "[[sleep 2]][[tool add {}]][[say done]]", agent="helper")
    worker = bench.worker()
    bench.wait(lambda: worker.running() == 1 and bench.status(session_id) == "running")

    def refuse(*_: Any, **__: Any) -> None:
        raise Unavailable("SQS is out of reach")

    with monkeypatch.context() as patched:
        patched.setattr(bench.kit.queue, "send", refuse)
        worker.stop()
        assert worker.drain()
    head = bench.kit.head(session_id)
    assert (head.status, head.lease.owner, len(bench.kit.queue.bodies())) == ("queued", None, 1)
    bench.worker()
    bench.empty()
    assert (bench.kit.head(session_id).status, bench.kit.head(session_id).steps) == ("idle", 2)


def test_followed_messages_are_given_back_at_once_and_drains_do_not_use_them_up(bench: Bench) -> None:
    kit = bench.kit
    head = kit.intake.create(WHO, NewSession("slow", "[[say hello]]", {}))
    bench.go_on(head)
    kit.sessions.claim("acme", head.session_id, "another runner", "fargate")
    for _ in range(5):
        kit.sessions.extend(kit.head(head.session_id))
        worker = bench.worker()
        bench.wait(lambda worker=worker: len(worker.followers) == 1)
        worker.stop()
        assert worker.drain()
        assert len(kit.queue.bodies()) == 1
    assert kit.queue.dead_letters == []
    assert kit.queue.receive(most=1, wait_seconds=0, visibility_seconds=1) != []


def test_an_idle_worker_ends_with_its_last_poll(bench: Bench) -> None:
    worker = bench.worker()
    bench.scheduler.sleep(12)
    began = bench.now
    worker.stop()
    assert worker.drain()
    assert bench.now - began <= worker.options.poll_seconds + 0.1


def test_a_message_that_arrives_while_draining_is_given_back(bench: Bench) -> None:
    worker = bench.worker(start=False)
    worker.stop()
    bench.job("late")
    worker.receive()
    assert len(bench.kit.queue.receive(most=1, wait_seconds=0, visibility_seconds=60)) == 1
    assert worker.holding.all() == []


# ---- real threads ----


def test_twenty_jobs_sent_twice_are_each_done_once_by_threads() -> None:
    kit = MemoryKit(runner="none")
    workers = [worker_of(kit, Options(concurrency=6, poll_seconds=1, look_seconds=0.1), in_thread) for _ in range(2)]
    text = '[[sleep 0.1]][[tool add {"a": 1, "b": 2}]][[say done]]'
    ids = [send_job(kit, f"job {number}", text, agent="helper", copies=2) for number in range(20)]
    for worker in workers:
        worker.start()
    until = time.monotonic() + 20
    while kit.queue.bodies():
        assert time.monotonic() < until, [worker.status() for worker in workers]
        time.sleep(0.01)
    for worker in workers:
        worker.stop()
    assert all(worker.drain() for worker in workers)
    for session_id in ids:
        head = kit.head(session_id)
        assert (head.status, head.steps, head.lease.fencing_token) == ("idle", 2, 1)
        check_session(kit, head)
    assert kit.queue.dead_letters == []
