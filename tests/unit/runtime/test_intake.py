"""What a session is given when it is created, and what may be said to it afterwards."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.kit import MODEL, POLICY, WHO
from tests.support.scripted import begin, check_session, play, reply, say, scripted_kit, use
from turnkeeper import Agent, Limits, tool
from turnkeeper.core.continuation import Continuation, continuation_of
from turnkeeper.core.errors import (
    AgentNotFound,
    IdempotencyMismatch,
    SessionBusy,
    SessionEnded,
    SessionNotFound,
    UnpricedModel,
)
from turnkeeper.runtime.intake import Identity, NewSession
from turnkeeper.runtime.store.idempotency import AlreadyDone, IdempotencyKey


@pytest.mark.parametrize(
    ("agent", "asked", "placement", "status", "to"),
    [
        ("plain", None, "auto", "running", "function"),
        ("slow", None, "background", "queued", "queue"),
        ("quick", None, "interactive", "running", "function"),
        ("plain", "background", "background", "queued", "queue"),
        ("slow", "interactive", "interactive", "running", "function"),
    ],
)
def test_placement(agent: str, asked: Any, placement: str, status: str, to: str) -> None:
    kit = scripted_kit()
    head = begin(kit, agent, placement=asked)
    assert (head.placement, head.status, head.handoff and head.handoff.to) == (placement, status, to)
    assert kit.head(head.session_id) == head


def test_limits_combine_to_the_tightest() -> None:
    plan = {**POLICY["plans"]["standard"], "limits": {"max_iterations": 9, "max_tokens": 4_000}}
    policy = {**POLICY, "plans": {"standard": plan}, "roles": {"user": {"limits": {"max_iterations": 7}}}}
    agent = Agent(name="a", model=MODEL, system="s", limits=Limits(max_iterations=8, max_tokens=9_000, max_seconds=60))
    head = begin(scripted_kit(agents=[agent], policy=policy), "a")
    assert (head.limits.max_iterations, head.limits.max_tokens, head.limits.max_seconds) == (7, 4_000, 60)


def test_a_paused_tenant_asks_no_model_and_its_inputs_are_kept() -> None:
    kit = scripted_kit(reply(say("ok")))
    head = play(kit, "plain")
    kit.tenants.set("acme", actor="ops", paused=True)
    kept = begin(kit, "plain")
    check_session(kit, kept)
    assert (kept.status, kept.stop and kept.stop.reason, kept.handoff) == ("stopped", "paused", None)
    head = kit.run(kit.intake.post(head, "more"))
    check_session(kit, head)
    assert (head.status, head.stop and head.stop.reason) == ("stopped", "paused")
    assert len(kit.model.requests) == 1
    kit.tenants.set("acme", actor="ops", paused=False)
    head = kit.run(kit.intake.resume(head))
    check_session(kit, head)
    assert head.status == "idle"
    assert kit.run(kit.intake.resume(kept)).status == "idle"


def test_a_job_of_a_paused_tenant_is_taken_in_and_stopped() -> None:
    kit = scripted_kit()
    kit.tenants.set("acme", actor="ops", paused=True)
    head = kit.intake.create(WHO, NewSession("plain", "go", {}))
    assert (head.status, head.stop and head.stop.reason) == ("stopped", "paused")


def test_a_pause_stops_a_running_session_at_its_next_call() -> None:
    @tool
    def pause() -> str:
        """Pause the tenant."""
        kit.tenants.set("acme", actor="ops", paused=True)
        return "paused"

    kit = scripted_kit(reply(use("pause")), reply(say("never")), tools=[pause])
    head = play(kit)
    assert (head.status, head.stop and head.stop.reason, head.steps) == ("stopped", "paused", 1)


@pytest.mark.parametrize(
    ("agent", "error"), [("nobody", AgentNotFound), ("broken", AgentNotFound), ("unpriced", UnpricedModel)]
)
def test_what_cannot_begin_writes_nothing(agent: str, error: type[Exception]) -> None:
    kit = scripted_kit()
    with pytest.raises(error):
        begin(kit, agent)
    assert kit.table.snapshot() == []


def test_a_session_takes_one_turn_at_a_time() -> None:
    kit = scripted_kit(reply(say("ok")))
    head = begin(kit, "plain")
    with pytest.raises(SessionBusy):
        kit.intake.post(head, "more")
    with pytest.raises(SessionBusy):
        kit.intake.resume(head)
    head = kit.run(head)
    first = kit.intake.post(head, "one")
    with pytest.raises(SessionBusy):
        kit.intake.post(head, "two")
    with pytest.raises(SessionEnded):
        kit.intake.resume(head)
    assert (first.turn.number, first.turn.iterations) == (2, 0)
    left = kit.run(first)
    check_session(kit, left)
    assert "two" not in str(kit.entries(head.session_id))


def test_an_idempotency_key_stands_for_its_first_use() -> None:
    kit = scripted_kit(reply(say("ok")))
    request = NewSession("plain", "go", {})
    first = kit.intake.create(WHO, request, key=IdempotencyKey("key", "hash"))
    with pytest.raises(AlreadyDone) as done:
        kit.intake.create(WHO, request, key=IdempotencyKey("key", "hash"))
    assert (done.value.earlier.session_id, done.value.earlier.turn) == (first.session_id, 1)
    with pytest.raises(IdempotencyMismatch):
        kit.intake.create(WHO, request, key=IdempotencyKey("key", "another"))
    # Another user's key of the same name is another key.
    other = kit.intake.create(Identity("acme", "bob", "user"), request, key=IdempotencyKey("key", "another"))
    assert other.session_id != first.session_id
    head = kit.run(first)
    turn = kit.intake.post(head, "more", key=IdempotencyKey("next", "hash"))
    with pytest.raises(AlreadyDone) as done:
        kit.intake.post(head, "more", key=IdempotencyKey("next", "hash"))
    assert (done.value.earlier.session_id, done.value.earlier.turn) == (turn.session_id, 2)


@pytest.mark.parametrize(
    ("who", "allowed"),
    [
        (WHO, True),
        (Identity("acme", "bob", "user"), False),
        (Identity("acme", "bob", "writer"), False),
        (Identity("acme", "boss", "admin"), True),
        (Identity("other", "ann", "user"), False),
        (Identity("other", "ann", "admin"), False),
        (Identity("acme#S", "ann", "admin"), False),
        (Identity("ACME", "ann", "user"), False),
        (Identity("acme", "ann ", "user"), False),
    ],
)
def test_another_ones_session_does_not_exist(who: Identity, allowed: bool) -> None:
    kit = scripted_kit()
    head = begin(kit, "plain")
    if allowed:
        assert kit.intake.owned(who, head.session_id) == head
    else:
        with pytest.raises(SessionNotFound):
            kit.intake.owned(who, head.session_id)


def test_a_continuation_belongs_to_its_user() -> None:
    kit = scripted_kit()
    head = begin(kit, "plain")
    assert kit.intake.continued(WHO, continuation_of(head)) == head
    for who in (Identity("acme", "bob", "admin"), Identity("other", "ann", "user")):
        with pytest.raises(SessionNotFound):
            kit.intake.continued(who, continuation_of(head))
    gone = Continuation(tenant_id="acme", user_id="ann", session_id="ses_none", turn=1, seq=1)
    with pytest.raises(SessionNotFound):
        kit.intake.continued(WHO, gone)
