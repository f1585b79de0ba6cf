from __future__ import annotations

import json
import threading
import time
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from fargate_worker.reading import Reader, Rejected
from tests.support.kit import WHO
from tests.unit.worker.conftest import Bench
from turnkeeper.core.errors import Unavailable
from turnkeeper.core.session import Entry
from turnkeeper.ports import Message, StoreBusy
from turnkeeper.runtime.intake import NewSession
from turnkeeper.runtime.jobs import session_id_of_job
from turnkeeper.runtime.store.sessions import Sessions
from turnkeeper.testing.clock import ManualClock


def valid(entries: tuple[Entry, ...]) -> None:
    assert [entry.seq for entry in entries] == list(range(1, len(entries) + 1))
    spoken = [entry for entry in entries if entry.type != "status"]
    for at, entry in enumerate(spoken):
        calls = [block["id"] for block in entry.content if block["type"] == "tool_use"]
        if calls:
            answers = [block["tool_use_id"] for block in spoken[at + 1].content if block["type"] == "tool_result"]
            assert answers == calls


def test_a_job_is_done_and_its_message_deleted(bench: Bench) -> None:
    session_id = bench.job("one")
    bench.worker()
    bench.empty()
    head = bench.kit.head(session_id)
    assert (head.status, head.placement, head.runner, head.steps) == ("idle", "background", "fargate", 1)
    assert head.account.reserved_nanousd == 0
    valid(bench.kit.entries(session_id))


def test_twenty_jobs_sent_twice_are_each_done_once(bench: Bench) -> None:
    text = '[[sleep 0.2]][[tool add {"a": 1, "b": 2}]][[say done]]'
    ids = [bench.job(f"job {n}", text, agent="helper", copies=2) for n in range(20)]
    bench.worker(concurrency=6)
    bench.worker(concurrency=6)
    bench.empty()
    assert bench.kit.queue.dead_letters == []
    for session_id in ids:
        head = bench.kit.head(session_id)
        assert (head.status, head.steps, head.lease.fencing_token) == ("idle", 2, 1)
        valid(bench.kit.entries(session_id))


def test_no_more_sessions_run_than_there_are_slots(bench: Bench) -> None:
    for n in range(8):
        bench.job(f"job {n}", "[[sleep 0.2]][[say done]]")
    worker = bench.worker(concurrency=2)
    most = 0
    until = time.monotonic() + 20
    while bench.kit.queue.bodies() and time.monotonic() < until:
        most = max(most, worker.running())
        time.sleep(0.01)
    assert most == 2
    assert bench.kit.queue.bodies() == []


def test_a_long_job_outlives_the_visibility_of_its_message(bench: Bench) -> None:
    worker = bench.worker(lease_seconds=0.5)
    assert worker._holding.visibility_seconds == 6
    session_id = bench.job("long", "[[sleep 8]][[say done]]")
    bench.wait(lambda: worker.running() == 1)
    [held] = worker._holding.all()
    bench.empty()
    assert held.extended_at > held.since
    assert (bench.kit.head(session_id).steps, bench.kit.queue.dead_letters) == (1, [])


# ---- what cannot work ----


def test_what_can_never_work_is_a_dead_letter_at_once_with_its_reason(bench: Bench) -> None:
    send = bench.kit.queue.send
    head = bench.kit.intake.create(WHO, NewSession("slow", "hello", {}))
    token = bench.kit.tokens.sign(_continuation(head))
    forged = token[:-2] + ("aa" if not token.endswith("aa") else "bb")
    job: dict[str, Any] = {
        "schema": "turnkeeper.job/v1", "job_id": "j", "tenant_id": "acme", "user_id": "ann", "agent": "plain",
        "input": "hi",
    }  # fmt: skip
    bodies = {
        "not json": "not_json",
        "[" * 100_000: "not_json",
        '{"schema": "something/v9"}': "unknown_schema",
        '"a string"': "unknown_schema",
        json.dumps({**job, "schema": None}): "unknown_schema",
        json.dumps({**job, "agent": "nobody"}): "agent_not_found",
        json.dumps({**job, "agent": "broken"}): "agent_not_found",
        json.dumps({**job, "agent": "unpriced"}): "unpriced_model",
        json.dumps({**job, "input": ""}): "invalid_job",
        json.dumps({**job, "input": []}): "invalid_job",
        json.dumps({**job, "input": 5}): "invalid_job",
        json.dumps({**job, "input": [{"type": "tool_result", "tool_use_id": "x", "content": "y"}]}): "invalid_job",
        json.dumps({**job, "surprise": 1}): "invalid_job",
        json.dumps({**job, "job_id": "x" * 129}): "invalid_job",
        json.dumps({**job, "tenant_id": "\ud800"}): "invalid_job",
        json.dumps({**job, "tenant_id": "\U0001f642" * 128, "user_id": "\U0001f642" * 128}): "invalid_job",
        json.dumps({**job, "metadata": {"x": "y" * 20_000}}): "invalid_job",
        json.dumps({"schema": "turnkeeper.job/v1", "continuation_token": forged}): "unauthenticated",
        json.dumps({"schema": "turnkeeper.job/v1", "continuation_token": "nonsense"}): "unauthenticated",
    }
    for body in bodies:
        send(body, group="acme")
    bench.worker()
    bench.empty()
    found = {letter.body: letter.error_code for letter in bench.kit.queue.dead_letters}
    assert found == bodies
    assert bench.kit.head(head.session_id).status == "queued"


def test_a_token_that_is_too_old_or_of_no_session_is_rejected(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    head = bench.kit.intake.create(WHO, NewSession("slow", "hello", {}))
    bench.go_on(replace(head, session_id="ses_nobody"))
    bench.worker()
    bench.empty()
    assert bench.error_codes() == ["session_not_found"]
    monkeypatch.setattr(bench.kit.tokens, "_valid_seconds", -1)
    bench.go_on(head)
    bench.empty()
    assert bench.error_codes() == ["session_not_found", "continuation_expired"]


def test_an_undescribed_role_gains_nothing_and_an_absent_one_is_the_default(bench: Bench) -> None:
    ids = [bench.job(f"as {role}", agent="helper", **({"role": role} if role else {})) for role in ("", "boss")]
    bench.worker()
    bench.empty()
    granted = [bench.kit.head(session_id).granted_tools for session_id in ids]
    assert "read_note" in granted[0]
    assert not {"read_note", "write_note"} & set(granted[1])


def test_a_paused_tenants_job_is_kept_as_stopped_and_can_be_resumed(bench: Bench) -> None:
    kit = bench.kit
    kit.tenants.set("acme", actor="op", paused=True)
    session_id = bench.job("paused")
    bench.worker()
    bench.empty()
    head = kit.head(session_id)
    assert head.stop is not None
    assert (head.status, head.stop.reason, head.steps, kit.queue.dead_letters) == ("stopped", "paused", 0, [])
    kit.tenants.set("acme", actor="op", paused=False)
    kit.dispatch.send(kit.intake.resume(head))
    bench.empty()
    assert (kit.head(session_id).status, kit.head(session_id).steps) == ("idle", 1)


def test_a_token_of_a_stopped_session_resumes_it_once(bench: Bench) -> None:
    kit = bench.kit
    session_id = bench.job("stopped", "[[stop refusal]][[say no]]")
    bench.worker()
    bench.empty()
    stopped = kit.head(session_id)
    assert stopped.status == "stopped"
    for _ in range(3):
        bench.go_on(stopped)
    bench.empty()
    head = kit.head(session_id)
    assert (head.status, head.steps, kit.queue.dead_letters) == ("idle", 2, [])
    valid(kit.entries(session_id))


def test_an_earlier_token_does_not_undo_what_stopped_a_session(bench: Bench) -> None:
    """A handoff's message that is delivered once more must not start a loop again that a breaker has ended."""
    kit = bench.kit
    session_id = bench.job("loop", '[[repeat 5]][[tool add {"a": 1, "b": 2}]]', agent="helper")
    bench.worker()
    bench.empty()
    stopped = kit.head(session_id)
    assert stopped.stop is not None
    assert stopped.stop.reason == "repetition"
    bench.go_on(replace(stopped, last_seq=stopped.last_seq - 1))
    bench.empty()
    assert kit.head(session_id) == stopped


# ---- duplicates and dead runners ----


def test_a_message_of_a_session_that_another_runner_has_is_followed(bench: Bench) -> None:
    kit = bench.kit
    head = kit.intake.create(WHO, NewSession("slow", "[[say hello]]", {}))
    bench.go_on(head)
    bench.go_on(head)
    alive = kit.sessions.claim("acme", head.session_id, "another runner", "fargate")
    worker = bench.worker(concurrency=1)
    bench.wait(lambda: len(worker._followers) == 2)
    assert worker.running() == 0
    # It is dead: its lease ends, and one of the messages carries the session on.
    bench.empty()
    done = kit.head(head.session_id)
    assert (done.status, done.steps, done.lease.fencing_token) == ("idle", 1, alive.lease.fencing_token + 1)
    assert kit.queue.dead_letters == []


def test_a_message_is_deleted_where_somebody_else_carries_the_session_on(bench: Bench) -> None:
    kit = bench.kit
    head = kit.intake.create(WHO, NewSession("slow", "[[say hello]]", {}))
    bench.go_on(head)
    first = kit.sessions.claim("acme", head.session_id, "first", "fargate")
    worker = bench.worker()
    bench.wait(lambda: len(worker._followers) == 1)
    [follower] = worker._followers._waiting
    released = kit.sessions.send_again(first)
    worker._followers.look(follower)
    assert len(worker._followers) == 1, "nobody has it yet: the message is not to be lost"
    kit.sessions.claim("acme", released.session_id, "second", "fargate")
    bench.empty()
    assert worker.status()["following"] == 0


def test_runners_that_die_do_not_use_up_a_message(bench: Bench) -> None:
    kit = bench.kit
    head = kit.intake.create(WHO, NewSession("slow", "[[say hello]]", {}))
    bench.go_on(head)
    for _ in range(2):  # Two that received it and died, the second with the lease.
        assert len(kit.queue.receive(most=1, wait_seconds=0, visibility_seconds=0)) == 1
    kit.sessions.claim("acme", head.session_id, "dead", "fargate")
    bench.worker()
    bench.wait(lambda: kit.head(head.session_id).resting)
    assert kit.queue.dead_letters == []
    bench.empty()
    assert kit.queue.dead_letters == []


def test_a_lost_lease_is_followed_and_its_session_done_once(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fargate_worker.following.GRACE_SECONDS", 1.0)
    kit = bench.kit
    session_id = bench.job("stolen", "[[sleep 1]][[say done]]")
    worker = bench.worker()
    bench.wait(lambda: worker.running() == 1 and _status(bench, session_id) == "running")
    bench.wait(lambda: kit.head(session_id).account.pending is not None)
    later = kit.clock.now() + timedelta(seconds=60)
    # Somebody whose clock is far ahead steals it, and dies.
    ahead = Sessions(kit.table, kit.blobs, ManualClock(later), kit.redactor, lease_seconds=kit.settings.lease_seconds)
    ahead.claim("acme", session_id, "thief", "fargate")
    bench.wait(lambda: len(worker._followers) == 1)
    thief = kit.head(session_id)
    assert (thief.steps, thief.lease.owner) == (0, "thief")
    kit.sessions.send_again(thief)
    bench.empty()
    head = kit.head(session_id)
    assert (head.status, head.steps, head.account.pending) == ("idle", 1, None)
    assert [call["state"] for call in kit.sessions.calls("acme", session_id)] == ["in_doubt", "settled"]


def test_a_busy_table_puts_the_message_back_and_never_makes_it_a_dead_letter(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fargate_worker.worker.RETRY_SECONDS", 0)
    session_id = bench.job("busy")
    fails = iter(range(6))
    run = bench.kit.engine.run

    def flaky(*args: Any, **kwargs: Any) -> Any:
        if next(fails, None) is not None:
            raise StoreBusy("the table is busy")
        return run(*args, **kwargs)

    monkeypatch.setattr(bench.kit.engine, "run", flaky)
    bench.worker()
    bench.empty()
    assert (bench.kit.head(session_id).status, bench.kit.queue.dead_letters) == ("idle", [])


def test_a_bug_ends_as_a_dead_letter_and_takes_nothing_else_down(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fargate_worker.worker.FAILED_SECONDS", 0)
    run = bench.kit.engine.run
    bad = session_id_of_job("acme", "bad")

    def buggy(tenant_id: str, session_id: str, *args: Any) -> Any:
        if session_id == bad:
            raise ZeroDivisionError
        return run(tenant_id, session_id, *args)

    monkeypatch.setattr(bench.kit.engine, "run", buggy)
    bench.job("bad")
    good = bench.job("good")
    bench.worker()
    bench.empty()
    assert bench.error_codes() == ["internal_error"]
    assert bench.kit.head(good).status == "idle"


def test_a_handoff_that_could_not_be_sent_keeps_its_message(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fargate_worker.worker.RETRY_SECONDS", 0)
    session_id = bench.job("unsent", "[[sleep 2]][[tool add {}]][[say done]]", agent="helper")
    worker = bench.worker()
    bench.wait(lambda: worker.running() == 1 and _status(bench, session_id) == "running")

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


def test_a_receive_that_fails_is_tried_again(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    fails = iter(range(2))
    receive = bench.kit.queue.receive

    def flaky(**kwargs: Any) -> Any:
        if next(fails, None) is not None:
            raise Unavailable("SQS is out of reach")
        return receive(**kwargs)

    monkeypatch.setattr(bench.kit.queue, "receive", flaky)
    session_id = bench.job("patient")
    bench.worker()
    bench.empty()
    assert bench.kit.head(session_id).status == "idle"


def test_a_message_held_too_long_is_replaced(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fargate_worker.holding.LONGEST_HOLD_SECONDS", 1.0)
    session_id = bench.job("very long", "[[sleep 4]][[say done]]")
    worker = bench.worker(lease_seconds=0.1, concurrency=2)
    bench.wait(lambda: len(worker._followers) == 1)
    assert "continuation_token" in bench.kit.queue.bodies()[0]
    bench.empty()
    assert (bench.kit.head(session_id).steps, bench.kit.queue.dead_letters) == (1, [])


# ---- draining ----


def test_a_drain_hands_sessions_on_at_the_next_safe_point(bench: Bench) -> None:
    text = '[[sleep 1]][[tool add {"a": 1, "b": 2}]][[say done]]'
    ids = [bench.job(f"job {n}", text, agent="helper") for n in range(4)]
    worker = bench.worker(concurrency=4)
    bench.wait(lambda: all(_status(bench, session_id) == "running" for session_id in ids))
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
        valid(bench.kit.entries(session_id))


def test_what_does_not_end_in_time_is_not_waited_for(bench: Bench) -> None:
    session_id = bench.job("slow one", "[[sleep 30]][[say done]]")
    worker = bench.worker(stop_seconds=3.0)
    bench.wait(lambda: bench.kit.sessions.calls("acme", session_id) != [] if _exists(bench, session_id) else False)
    began = time.monotonic()
    worker.stop()
    assert worker.drain()
    assert time.monotonic() - began < 3.0
    head = bench.kit.head(session_id)
    assert (head.status, head.account.pending, head.lease.owner) == ("queued", None, None)
    assert [call["state"] for call in bench.kit.sessions.calls("acme", session_id)] == ["in_doubt"]


def test_what_hangs_does_not_hold_the_process(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    hangs = threading.Event()

    def hang(*_: Any) -> None:
        hangs.set()
        time.sleep(60)

    monkeypatch.setattr(bench.kit.engine, "run", hang)
    bench.job("hangs")
    worker = bench.worker(stop_seconds=1.0)
    assert hangs.wait(5)
    began = time.monotonic()
    worker.stop()
    assert not worker.drain()
    assert time.monotonic() - began < 1.5
    [message] = bench.kit.queue.receive(most=10, wait_seconds=0, visibility_seconds=1)
    assert message.receive_count == 2, "visible at once"


def test_followed_messages_are_given_back_at_once_and_drains_do_not_use_them_up(bench: Bench) -> None:
    kit = bench.kit
    head = kit.intake.create(WHO, NewSession("slow", "[[say hello]]", {}))
    bench.go_on(head)
    kit.sessions.claim("acme", head.session_id, "another runner", "fargate")
    for _ in range(5):
        kit.sessions.extend(kit.head(head.session_id))
        worker = bench.worker()
        bench.wait(lambda worker=worker: len(worker._followers) == 1)
        worker.stop()
        assert worker.drain()
        assert len(kit.queue.bodies()) == 1
    assert kit.queue.dead_letters == []
    assert kit.queue.receive(most=1, wait_seconds=0, visibility_seconds=1) != []


def test_an_idle_worker_ends_with_its_last_poll(bench: Bench) -> None:
    worker = bench.worker()
    worker.stop()
    began = time.monotonic()
    assert worker.drain()
    assert time.monotonic() - began < 1.5


def test_a_message_that_arrives_while_draining_is_given_back(bench: Bench) -> None:
    worker = bench.worker(start=False)
    worker.stop()
    bench.job("late")
    [message] = bench.kit.queue.receive(most=1, wait_seconds=0, visibility_seconds=60)
    worker._begin(message)
    assert len(bench.kit.queue.receive(most=1, wait_seconds=0, visibility_seconds=60)) == 1


# ---- reading ----


def test_a_table_out_of_reach_is_no_reason_to_reject(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.job("unlucky")

    def down(*_: Any) -> None:
        raise StoreBusy("busy")

    monkeypatch.setattr(bench.kit.table, "write", down)
    reader = Reader(bench.kit.intake, bench.kit.tokens, bench.kit.policy)
    [message] = bench.kit.queue.receive(most=1, wait_seconds=0, visibility_seconds=60)
    with pytest.raises(StoreBusy):
        reader.read(message)
    with pytest.raises(Rejected):
        reader.read(Message("m", "r", "{}", 1))


def _continuation(head: Any) -> Any:
    from turnkeeper.core.continuation import continuation_of

    return continuation_of(head)


def _exists(bench: Bench, session_id: str) -> bool:
    return _status(bench, session_id) is not None


def _status(bench: Bench, session_id: str) -> str | None:
    from turnkeeper.core.errors import SessionNotFound

    try:
        return bench.kit.head(session_id).status
    except SessionNotFound:
        return None
