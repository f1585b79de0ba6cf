"""What is done with a message, whatever it holds and whoever has its session."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from fargate_worker.reading import Reader, Rejected
from tests.support.kit import WHO
from tests.support.scripted import check_session
from tests.unit.worker.conftest import LEASE_SECONDS, Bench
from turnkeeper.core.contents import Download
from turnkeeper.core.continuation import continuation_of
from turnkeeper.core.errors import NotFetched
from turnkeeper.core.session import Head
from turnkeeper.ports import Message
from turnkeeper.runtime.catalog import Catalog
from turnkeeper.runtime.intake import NewSession
from turnkeeper.runtime.jobs import session_id_of_job
from turnkeeper.runtime.store import keys
from turnkeeper.table import StoreBusy, Update


def queued(bench: Bench) -> Head:
    """A session that waits for a worker; no message for it is on the queue."""
    return bench.kit.intake.create(WHO, NewSession("slow", "[[say hello]]", {}))


def test_a_job_is_done_and_its_message_deleted(bench: Bench) -> None:
    session_id = bench.job("one")
    bench.worker()
    bench.empty()
    head = bench.kit.head(session_id)
    assert (head.status, head.placement, head.runner, head.steps) == ("idle", "background", "fargate", 1)
    check_session(bench.kit, head)


# ---- what cannot work ----


def test_what_can_never_work_is_a_dead_letter_at_once_with_its_reason(bench: Bench) -> None:
    head = queued(bench)
    token = bench.kit.tokens.sign(continuation_of(head))
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
        bench.kit.queue.send(body, group="acme")
    bench.worker()
    bench.empty()
    found = {letter.body: letter.error_code for letter in bench.kit.queue.dead_letters}
    assert found == bodies
    assert bench.kit.head(head.session_id).status == "queued"


def test_a_job_that_names_a_content_that_is_gone_is_a_dead_letter(bench: Bench) -> None:
    gone, here = "https://example.com/gone", "https://example.com/here"
    bench.kit.web.pages = {
        gone: NotFetched("The server answers 404.", retryable=False),
        here: Download("text/plain", b"words"),
    }
    for url in (gone, here):
        text = {"type": "text", "text": "[[say read]]"}
        bench.job(url, [text, {"type": "document", "source": {"type": "url", "url": url}}])
    bench.worker()
    bench.empty()
    assert bench.error_codes() == ["content_unusable"]
    [entry, *_] = bench.kit.entries(session_id_of_job("acme", here))
    assert entry.content[1]["source"]["data"] == "words"


def test_a_token_that_is_too_old_or_of_no_session_is_rejected(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    head = queued(bench)
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


def test_a_table_out_of_reach_is_no_reason_to_reject(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.job("unlucky")

    def down(*_: Any) -> None:
        raise StoreBusy("busy")

    monkeypatch.setattr(bench.kit.table, "write", down)
    reader = Reader(bench.kit.intake, bench.kit.tokens)
    [message] = bench.kit.queue.receive(most=1, wait_seconds=0, visibility_seconds=60)
    with pytest.raises(StoreBusy):
        reader.read(message)
    with pytest.raises(Rejected):
        reader.read(Message("m", "r", "{}", 1))


# ---- sessions that stopped ----


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
    check_session(kit, head)


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


def test_a_job_that_was_done_is_no_dead_letter_when_its_agent_is_gone_since(bench: Bench) -> None:
    session_id = bench.job("one")
    bench.worker()
    bench.empty()
    done = bench.kit.head(session_id)
    bench.kit.intake.catalog = Catalog({}, {})
    assert bench.job("one") == session_id
    bench.empty()
    assert (bench.kit.head(session_id), bench.kit.queue.dead_letters) == (done, [])
    bench.job("another")
    bench.empty()
    [letter] = bench.kit.queue.dead_letters
    assert letter.error_code == "agent_not_found"


def test_a_message_of_a_session_that_another_runner_has_is_followed(bench: Bench) -> None:
    kit = bench.kit
    head = queued(bench)
    bench.go_on(head)
    bench.go_on(head)
    alive = kit.sessions.claim("acme", head.session_id, "another runner", "fargate")
    worker = bench.worker(concurrency=1)
    bench.wait(lambda: len(worker.followers) == 2)
    assert worker.running() == 0
    # It is dead: its lease ends, and one of the messages carries the session on.
    bench.empty()
    done = kit.head(head.session_id)
    assert (done.status, done.steps, done.lease.fencing_token) == ("idle", 1, alive.lease.fencing_token + 1)
    assert kit.queue.dead_letters == []
    assert LEASE_SECONDS < bench.now < LEASE_SECONDS + 15


def test_a_message_is_deleted_when_a_later_claim_is_alive(bench: Bench) -> None:
    kit = bench.kit
    head = queued(bench)
    bench.go_on(head)
    first = kit.sessions.claim("acme", head.session_id, "first", "fargate")
    worker = bench.worker()
    bench.wait(lambda: len(worker.followers) == 1)
    released = kit.sessions.send_again(first)
    bench.scheduler.sleep(8)
    assert len(worker.followers) == 1, "nobody has it yet: the message is not to be lost"
    kit.sessions.claim("acme", released.session_id, "second", "fargate")
    bench.empty()
    assert worker.status()["following"] == 0
    assert kit.head(head.session_id).lease.owner == "second"


def test_runners_that_die_do_not_use_up_a_message(bench: Bench) -> None:
    kit = bench.kit
    head = queued(bench)
    bench.go_on(head)
    for _ in range(2):  # Two that received it and died, the second with the lease.
        assert len(kit.queue.receive(most=1, wait_seconds=0, visibility_seconds=0)) == 1
    kit.sessions.claim("acme", head.session_id, "dead", "fargate")
    worker = bench.worker()
    bench.wait(lambda: kit.head(head.session_id).resting)
    bench.empty()
    assert kit.queue.dead_letters == []
    assert worker.holding.all() == []


def test_a_runner_that_dies_at_the_last_receive_leaves_a_new_message_behind(bench: Bench) -> None:
    kit = bench.kit
    session_id = bench.job("unlucky", "[[sleep 30]][[say done]]")
    for _ in range(2):
        assert len(kit.queue.receive(most=1, wait_seconds=0, visibility_seconds=0)) == 1
    kit.intake.create(WHO, NewSession("plain", "[[sleep 30]][[say done]]", {}, "background"), session_id=session_id)
    kit.sessions.claim("acme", session_id, "dead", "fargate")
    worker = bench.worker()
    bench.wait(lambda: worker.running() == 1 and kit.head(session_id).account.pending is not None)
    bench.scheduler.kill_all()
    [body] = kit.queue.bodies()
    assert "continuation_token" in body
    bench.worker()
    bench.empty()
    assert (kit.head(session_id).status, kit.head(session_id).steps, kit.queue.dead_letters) == ("idle", 1, [])


def test_a_lost_lease_is_followed_and_its_session_done_once(bench: Bench) -> None:
    kit = bench.kit
    session_id = bench.job("stolen", "[[sleep 5]][[say done]]")
    worker = bench.worker()
    bench.wait(lambda: worker.running() == 1 and bench.status(session_id) == "running")
    bench.wait(lambda: kit.head(session_id).account.pending is not None)
    # Somebody whose clock is far ahead steals it, and dies.
    kit.table.write([Update(keys.head_key("acme", session_id), set={"lease_owner": "thief"}, add={"fencing_token": 1})])
    bench.wait(lambda: len(worker.followers) == 1)
    thief = kit.head(session_id)
    assert (thief.steps, thief.lease.owner) == (0, "thief")
    kit.sessions.send_again(thief)
    bench.empty()
    head = kit.head(session_id)
    assert (head.status, head.steps, head.account.pending) == ("idle", 1, None)
    assert [call["state"] for call in kit.sessions.calls("acme", session_id)] == ["in_doubt", "settled"]


# ---- what fails ----


def test_a_busy_table_puts_the_message_back_and_never_makes_it_a_dead_letter(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
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
    assert 6 * 15 <= bench.now < 6 * 15 + 10


def test_what_only_a_newer_release_can_read_waits_for_one(bench: Bench) -> None:
    """During a deployment, longer than a message is given out."""
    head = queued(bench)
    written = Update(keys.head_key("acme", head.session_id), set={"status": "queued well"})
    bench.kit.table.write([written])
    bench.go_on(head)
    bench.at(120, lambda: bench.kit.table.write([replace(written, set={"status": "queued"})]))
    bench.worker()
    bench.empty()
    assert (bench.kit.head(head.session_id).status, bench.kit.queue.dead_letters) == ("idle", [])


def test_a_bug_ends_as_a_dead_letter_and_takes_nothing_else_down(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
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
    assert 2 * 30 <= bench.now < 2 * 30 + 10
