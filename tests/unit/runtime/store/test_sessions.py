"""Writing sessions: one transaction a change, fenced, and honest about who was first."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.support.kit import WHO, MemoryKit
from tests.support.scripted import begin, play, scripted_kit
from turnkeeper.core.errors import IdempotencyMismatch, LeaseLost, SessionBusy, SessionEnded, SessionNotFound
from turnkeeper.core.lifecycle import leaving, running, taking
from turnkeeper.core.session import Head, Stop
from turnkeeper.runtime.intake import Identity, NewSession
from turnkeeper.runtime.store import keys
from turnkeeper.runtime.store.idempotency import IDEMPOTENCY_SECONDS, AlreadyDone, Earlier, IdempotencyKey
from turnkeeper.runtime.store.sessions import SKEW_MILLIS
from turnkeeper.table import Operation, Update


@pytest.fixture
def kit() -> MemoryKit:
    return scripted_kit(lease_seconds=30)


def claimed(kit: MemoryKit, head: Head, owner: str = "me") -> Head:
    return kit.sessions.claim("acme", head.session_id, owner, "lambda")


def advance(kit: MemoryKit, seconds: float) -> None:
    kit.clock.advance(seconds)  # type: ignore[attr-defined]


def before_the_next_write(kit: MemoryKit, act: Callable[[], object]) -> None:
    """Somebody else does this between a read and the write that builds on it."""
    write, update = kit.table.write, kit.table.update

    def restored() -> None:
        kit.table.write, kit.table.update = write, update  # type: ignore[method-assign]
        act()

    def writes(operations: list[Operation]) -> None:
        restored()
        write(operations)

    def updates(operation: Update) -> Any:
        restored()
        return update(operation)

    kit.table.write, kit.table.update = writes, updates  # type: ignore[assignment,method-assign]


# ---- claims ----


def test_a_claim_is_stored_and_belongs_to_one(kit: MemoryKit) -> None:
    head = begin(kit, "plain")
    mine = claimed(kit, head)
    assert mine == kit.head(head.session_id)
    assert (mine.lease.owner, mine.lease.fencing_token, mine.runner) == ("me", 1, "lambda")
    with pytest.raises(SessionBusy):
        claimed(kit, head, "another")
    assert kit.head(head.session_id) == mine


def test_a_claim_whose_answer_was_lost_is_made_again_and_counts_once(kit: MemoryKit) -> None:
    head = begin(kit, "plain")
    mine = claimed(kit, head)
    assert claimed(kit, head) == mine
    assert kit.head(head.session_id).lease.claims == 1


def test_a_claim_that_was_carried_out_while_it_was_made_is_ones_own(kit: MemoryKit) -> None:
    """A client that tries again by itself: the first attempt arrives late."""
    head = begin(kit, "plain")
    before_the_next_write(kit, lambda: claimed(kit, head))
    assert claimed(kit, head) == kit.head(head.session_id)
    assert kit.head(head.session_id).lease.claims == 1


def test_whoever_is_second_is_told_what_became_of_the_session(kit: MemoryKit) -> None:
    head = begin(kit, "plain")
    before_the_next_write(kit, lambda: claimed(kit, head, "another"))
    with pytest.raises(SessionBusy):
        claimed(kit, head)
    head = begin(kit, "slow")
    before_the_next_write(kit, lambda: kit.cancelling.cancel(head, actor="ann"))
    with pytest.raises(SessionEnded):
        claimed(kit, head)
    with pytest.raises(SessionNotFound):
        kit.sessions.claim("acme", "ses_none", "me", "lambda")


def test_a_dead_runners_lease_is_taken_over_after_its_end(kit: MemoryKit) -> None:
    head = claimed(kit, begin(kit, "plain"))
    advance(kit, 30 + SKEW_MILLIS / 1000)
    with pytest.raises(SessionBusy):
        claimed(kit, head, "another")
    advance(kit, 0.001)
    other = claimed(kit, head, "another")
    assert (other.lease.owner, other.lease.fencing_token, other.lease.claims) == ("another", 2, 2)


def test_a_lease_that_was_extended_meanwhile_is_not_taken(kit: MemoryKit) -> None:
    head = claimed(kit, begin(kit, "plain"))
    advance(kit, 40)
    before_the_next_write(kit, lambda: kit.sessions.extend(head))
    with pytest.raises(SessionBusy):
        claimed(kit, head, "another")
    assert kit.head(head.session_id).lease.owner == "me"


# ---- fences ----


def test_whoever_lost_the_session_writes_nothing(kit: MemoryKit) -> None:
    head = claimed(kit, begin(kit, "plain"))
    advance(kit, 60)
    other = claimed(kit, head, "another")
    stored = kit.table.snapshot()
    rest = leaving.rest(head, kit.clock.now(), (), Stop(reason="end_turn"))
    with pytest.raises(LeaseLost) as lost:
        kit.sessions.commit(head, rest)
    # The head is another runner's, and so is the place of the entry: it has told of the lost one there.
    assert lost.value.data == {"session_id": head.session_id, "operations": [0, 1]}
    with pytest.raises(LeaseLost):
        kit.sessions.extend(head)
    assert kit.table.snapshot() == stored
    # A token alone is not enough, nor is an owner's name.
    for name, value in (("lease_owner", "a third"), ("fencing_token", 9)):
        kit.table.update(Update(keys.head_key("acme", head.session_id), set={name: value}))
        with pytest.raises(LeaseLost):
            kit.sessions.commit(other, leaving.rest(other, kit.clock.now(), (), Stop(reason="end_turn")))
        kit.table.update(
            Update(keys.head_key("acme", head.session_id), set={"lease_owner": "another", "fencing_token": 2})
        )
    assert kit.sessions.commit(other, leaving.rest(other, kit.clock.now(), (), Stop(reason="end_turn"))).resting


def test_a_lease_is_extended_from_now(kit: MemoryKit) -> None:
    head = claimed(kit, begin(kit, "plain"))
    advance(kit, 20)
    kit.sessions.extend(head)
    after = kit.head(head.session_id)
    assert after.lease.expires_at == head.lease.expires_at + 20_000
    assert after == running.extend(head, kit.clock.now(), lease_seconds=30)


def test_what_others_write_of_a_running_session_stays(kit: MemoryKit) -> None:
    """A cancel that comes between a runner's read and its write is not written over."""
    head = claimed(kit, begin(kit, "plain"))
    kit.sessions.request_cancel(head, "bob")
    advance(kit, 1)
    kit.sessions.commit(head, running.take_up_unbegun(head, kit.clock.now()))
    assert kit.head(head.session_id).turn.cancel_requested


# ---- at rest ----


def test_of_two_who_build_on_the_same_state_one_is_first(kit: MemoryKit) -> None:
    head = play(kit, "plain")
    kit.intake.post(head, "one")
    for act in (
        lambda: kit.intake.post(head, "two"),
        lambda: kit.sessions.write_at_rest(head, taking.clear_flags(head, kit.clock.now(), "operator:eve")),
    ):
        with pytest.raises(SessionBusy):
            act()


@pytest.mark.parametrize("name", ["last_seq", "turn", "fencing_token"])
def test_a_session_at_rest_is_written_as_it_was_read_or_not_at_all(kit: MemoryKit, name: str) -> None:
    head = play(kit, "plain")
    kit.table.update(Update(keys.head_key("acme", head.session_id), set={name: 99}))
    with pytest.raises(SessionBusy):
        kit.intake.post(head, "more")


def test_a_session_of_an_id_that_is_taken_is_not_made_again(kit: MemoryKit) -> None:
    request = NewSession("plain", "go", {})
    first = kit.intake.create(WHO, request, session_id="ses_1")
    with pytest.raises(SessionBusy) as busy:
        kit.intake.create(WHO, NewSession("plain", "other", {}), session_id="ses_1")
    assert busy.value.data == {"session_id": "ses_1"}
    assert kit.head("ses_1") == first


# ---- idempotency ----


def test_a_key_is_remembered_for_a_day_with_what_it_made(kit: MemoryKit) -> None:
    key = IdempotencyKey("key", "hash")
    assert kit.sessions.earlier("acme", "ann", key) is None
    head = kit.intake.create(WHO, NewSession("plain", "go", {}), key=key)
    assert kit.sessions.earlier("acme", "ann", key) == Earlier(head.session_id, 1)
    assert kit.sessions.earlier("acme", "bob", key) is None
    assert kit.sessions.earlier("globex", "ann", key) is None
    with pytest.raises(IdempotencyMismatch):
        kit.sessions.earlier("acme", "ann", IdempotencyKey("key", "another"))
    item = kit.table.get(keys.idempotency_key("acme", "ann", "key"))
    assert item is not None
    assert item["expires_at_epoch"] == int(kit.clock.now().timestamp()) + IDEMPOTENCY_SECONDS


def test_a_key_whose_day_is_over_is_free_also_while_the_table_still_has_it(kit: MemoryKit) -> None:
    first = kit.intake.create(WHO, NewSession("plain", "go", {}), key=IdempotencyKey("key", "hash"))
    advance(kit, IDEMPOTENCY_SECONDS - 1)
    with pytest.raises(AlreadyDone):
        kit.intake.create(WHO, NewSession("plain", "go", {}), key=IdempotencyKey("key", "hash"))
    advance(kit, 1)
    again = IdempotencyKey("key", "another")
    assert kit.sessions.earlier("acme", "ann", again) is None
    second = kit.intake.create(WHO, NewSession("plain", "go on", {}), key=again)
    assert kit.sessions.earlier("acme", "ann", again) == Earlier(second.session_id, 1) != Earlier(first.session_id, 1)


def test_a_key_is_of_whoever_used_it_not_of_whose_session_it_is(kit: MemoryKit) -> None:
    head = play(kit, "plain")
    turn = kit.intake.post(head, "more", key=IdempotencyKey("key", "hash", "boss"))
    assert kit.sessions.earlier("acme", "boss", IdempotencyKey("key", "hash")) == Earlier(head.session_id, 2)
    assert kit.sessions.earlier("acme", "ann", IdempotencyKey("key", "hash")) is None
    kit.run(turn)
    with pytest.raises(AlreadyDone) as done:
        kit.intake.post(kit.head(head.session_id), "more", key=IdempotencyKey("key", "hash", "boss"))
    assert str(done.value) == head.session_id


# ---- cancels ----


@pytest.mark.parametrize("agent", ["plain", "slow"])
def test_a_cancel_is_asked_for_with_who_asks(kit: MemoryKit, agent: str) -> None:
    """``plain`` runs, ``slow`` is queued."""
    head = begin(kit, agent)
    assert not kit.sessions.asked(head)[0]
    assert kit.sessions.cancel_actor(head) is None
    asked = kit.sessions.request_cancel(head, "bob")
    assert asked == kit.head(head.session_id)
    assert (asked.turn.cancel_requested, asked.turn.cancel_actor) == (True, "bob")
    assert kit.sessions.asked(head)[0]
    assert kit.sessions.cancel_actor(head) == "bob"
    assert kit.sessions.request_cancel(asked, "carol") == asked, "the first one counts"


def test_what_rests_or_is_gone_cannot_be_asked_to_stop(kit: MemoryKit) -> None:
    running_still = begin(kit, "plain")
    kit.run(running_still)
    with pytest.raises(SessionEnded) as ended:
        kit.sessions.request_cancel(running_still, "bob")
    assert ended.value.data["status"] == "idle"
    elsewhere = scripted_kit().intake.create(Identity("acme", "ann", "user"), NewSession("plain", "go", {}))
    with pytest.raises(SessionNotFound, match=elsewhere.session_id) as missing:
        kit.sessions.request_cancel(elsewhere)
    assert missing.value.data == {"session_id": elsewhere.session_id}
    assert not kit.sessions.asked(elsewhere)[0]
    assert kit.sessions.cancel_actor(elsewhere) is None


# ---- early results, and sessions that got lost ----


def test_a_result_is_put_down_once_and_not_where_the_session_was_erased(kit: MemoryKit) -> None:
    head = claimed(kit, begin(kit, "plain"))
    kit.sessions.put_result(head, "toolu_1", "first")
    kit.sessions.put_result(head, "toolu_1", "second")
    assert kit.sessions.load("acme", head.session_id).early_results == {"toolu_1": "first"}
    kit.erasure.erase(kit.head(head.session_id), actor="ann")
    kit.sessions.put_result(head, "toolu_2", "late")
    assert kit.table.get(keys.result_key("acme", head.session_id, "toolu_2")) is None


def test_a_session_is_sent_again_by_one_sweep(kit: MemoryKit) -> None:
    head = begin(kit, "slow")
    advance(kit, 61)
    again = kit.sessions.send_again(head)
    assert again == kit.head(head.session_id)
    assert again.handoff is not None
    assert again.handoff.sends == 2
    with pytest.raises(LeaseLost) as lost:
        kit.sessions.send_again(head)
    assert lost.value.data == {"session_id": head.session_id}


def test_a_session_that_was_taken_up_is_not_sent_again(kit: MemoryKit) -> None:
    head = begin(kit, "slow")
    claimed(kit, head)
    with pytest.raises(LeaseLost):
        kit.sessions.send_again(head)
    assert kit.head(head.session_id).lease.owner == "me"
