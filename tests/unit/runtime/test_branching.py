"""Ways on: an end that is taken back, and a copy of an earlier state."""

from __future__ import annotations

import json
from collections.abc import Sequence

import pytest

from tests.support.kit import MemoryKit
from tests.support.scripted import begin, check_audit, check_session, play, reply, say, scripted_kit, use
from turnkeeper import ToolContext, tool, update_plan
from turnkeeper.core.branching import copied
from turnkeeper.core.errors import InvalidRequest, SessionBusy, SessionEnded
from turnkeeper.core.session import Head
from turnkeeper.core.transcript import unanswered
from turnkeeper.ports import ModelReply
from turnkeeper.runtime.intake import Identity
from turnkeeper.runtime.store import keys
from turnkeeper.runtime.store.idempotency import AlreadyDone, IdempotencyKey
from turnkeeper.table import Operation

WHO = Identity("acme", "ann", "user")


@tool(effect="once")
def pay(ctx: ToolContext, amount: int) -> str:
    """Pay."""
    return f"paid {amount}"


def talked() -> tuple[MemoryKit, Head]:
    """Three turns; in the second something was paid."""
    kit = scripted_kit(
        reply(say("one")), reply(use("pay", amount=7)), reply(say("two")), reply(say("three")), tools=[pay]
    )
    head = play(kit, text="first")
    for words in ("second", "third"):
        head = kit.run(kit.intake.post(head, words))
    check_session(kit, head)
    return kit, head


def last_request(kit: MemoryKit) -> str:
    return json.dumps(kit.model.requests[-1].messages)  # type: ignore[attr-defined]


def test_turns_are_taken_back_and_what_was_done_in_them_is_named() -> None:
    kit, head = talked()
    spent = head.account.cost_nanousd
    after = kit.branching.rewind(WHO, head, turns=2)
    rewound = kit.branching.rewound(after)
    assert [(call.tool, call.outcome) for call in rewound.once_calls] == [("pay", "ok")]
    assert (after.status, after.stop, after.account.cost_nanousd) == ("idle", None, spent)
    assert kit.sessions.audit("acme", head.session_id)[-1]["kind"] == "rewind"
    again = kit.run(kit.intake.post(after, "instead"))
    check_session(kit, again)
    sent = last_request(kit)
    assert "first" in sent and "instead" in sent
    assert "second" not in sent and "third" not in sent and "paid 7" not in sent
    # Nothing is deleted.
    assert "paid 7" in str([entry.content for entry in kit.entries(head.session_id)])


def test_turns_that_were_taken_back_are_not_counted_again() -> None:
    kit, head = talked()
    head = kit.branching.rewind(WHO, head, turns=1)
    head = kit.branching.rewind(WHO, head, turns=1)
    kit.run(kit.intake.post(head, "instead"))
    sent = last_request(kit)
    assert "first" in sent and "second" not in sent


def test_everything_behind_an_entry_is_taken_back_and_the_key_makes_it_once() -> None:
    kit, head = talked()
    key = IdempotencyKey("k", "body")
    after = kit.branching.rewind(WHO, head, to_seq=0, key=key)
    with pytest.raises(AlreadyDone):
        kit.branching.rewind(WHO, after, turns=1, key=key)
    kit.run(kit.intake.post(after, "anew"))
    assert "first" not in last_request(kit)
    with pytest.raises(InvalidRequest):
        kit.branching.rewind(WHO, kit.head(head.session_id), to_seq=10_000)


def test_a_session_that_runs_or_has_ended_is_not_rewound() -> None:
    kit = scripted_kit(tools=[])
    head = begin(kit)
    with pytest.raises(SessionBusy):
        kit.branching.rewind(WHO, head)
    cancelled = kit.cancelling.cancel(head, actor="ann")
    kit.run(head) if not cancelled.ended else None
    with pytest.raises(SessionEnded):
        kit.branching.rewind(WHO, kit.head(head.session_id))


def test_a_copy_goes_on_from_an_earlier_state_with_money_of_its_own() -> None:
    kit, head = talked()
    second = [entry.seq for entry in kit.entries(head.session_id) if entry.type == "user"][1]
    other = Identity("acme", "bob", "user")
    forked = kit.branching.fork(other, head, at_seq=second - 1, value="instead")
    assert (forked.user_id, forked.account.cost_nanousd, forked.status) == ("bob", 0, "running")
    assert {(entry.call, entry.run) for entry in kit.entries(forked.session_id)} == {(None, None)}
    assert forked.forked_from is not None and forked.forked_from.session_id == head.session_id
    done = kit.run(forked)
    check_audit(kit, done)
    assert (done.status, done.turn.number) == ("idle", 2)
    sent = last_request(kit)
    assert "first" in sent and "instead" in sent and "second" not in sent
    assert sum(entry.cost_nanousd for entry in kit.entries(done.session_id)) == done.account.cost_nanousd
    assert kit.head(head.session_id) == head


def test_a_copy_has_no_more_tools_than_either() -> None:
    kit, head = talked()
    assert kit.branching.fork(WHO, head).granted_tools == ("pay",)
    assert kit.branching.fork(WHO, head, agent="helper", value="x").granted_tools == ()
    assert kit.branching.fork(WHO, head).status == "idle"


def test_a_copy_of_a_session_that_has_ended_is_its_way_on() -> None:
    kit, head = talked()
    cancelled = kit.cancelling.cancel(head, actor="ann")
    forked = kit.branching.fork(WHO, cancelled, value="go on")
    assert kit.run(forked).status == "idle"
    kit.erasure.erase(kit.head(head.session_id), actor="ann")
    with pytest.raises(SessionEnded):
        kit.branching.fork(WHO, kit.head(head.session_id))


def test_calls_without_results_are_not_copied() -> None:
    """They would be made again."""
    kit, head = talked()
    entries = kit.entries(head.session_id)
    for at_seq in range(head.last_seq + 1):
        assert unanswered(copied(entries, at_seq)) == []


def planned() -> tuple[MemoryKit, Head]:
    """Three turns; the first two each made a plan, and so did one that was refused."""

    def plan(goal: str) -> ModelReply:
        return reply(use("update_plan", goal=goal, items=[{"title": goal}]))

    refused = reply(use("update_plan", goal="refused", items=7))
    answers = plan("one"), reply(say("1")), plan("two"), reply(say("2")), refused, reply(say("3"))
    kit = scripted_kit(*answers, tools=[update_plan])
    head = play(kit, text="first")
    for words in ("second", "third"):
        head = kit.run(kit.intake.post(head, words))
    return kit, head


@pytest.mark.parametrize(("turns", "goal"), [(1, "two"), (2, "one"), (3, None)])
def test_a_plan_is_taken_back_with_the_turn_that_made_it(turns: int, goal: str | None) -> None:
    """It would stand in the next summary otherwise."""
    kit, head = planned()
    for _ in range(turns):
        head = kit.branching.rewind(WHO, head)
    for plan in (kit.sessions.plan("acme", head.session_id), kit.sessions.load("acme", head.session_id).plan):
        assert (plan and plan.goal) == goal
    assert kit.branching.rewind(WHO, head, to_seq=0).left_out >= head.left_out
    assert kit.sessions.plan("acme", head.session_id) is None


def test_a_copy_has_the_plan_that_stood_there() -> None:
    kit, head = planned()
    firsts = [entry.seq for entry in kit.entries(head.session_id) if entry.by_user]
    for at_seq, goal in ((firsts[0], None), (firsts[1], "one"), (firsts[2], "two"), (None, "two")):
        plan = kit.sessions.plan("acme", kit.branching.fork(WHO, head, at_seq=at_seq).session_id)
        assert (plan and plan.goal) == goal
    head = kit.branching.rewind(WHO, head, turns=2)
    twice = kit.branching.fork(WHO, kit.branching.fork(WHO, head))
    plan = kit.sessions.plan("acme", twice.session_id)
    assert plan is not None and plan.goal == "one"


def test_a_copy_of_a_long_conversation_is_written_in_parts() -> None:
    kit = scripted_kit(*[reply(say(str(number))) for number in range(60)], tools=[])
    head = play(kit, text="0")
    for number in range(1, 50):
        head = kit.run(kit.intake.post(head, str(number)))
    assert head.last_seq > 120
    forked = kit.branching.fork(WHO, head)
    assert [entry.seq for entry in kit.entries(forked.session_id)] == list(range(1, head.last_seq + 1))
    assert kit.run(kit.intake.post(forked, "on")).status == "idle"


@pytest.mark.parametrize("when", ["before it is read", "before it is written"])
def test_what_is_erased_meanwhile_is_not_copied(when: str, monkeypatch: pytest.MonkeyPatch) -> None:
    kit = scripted_kit(reply(say("secret")))
    head = play(kit, "plain", "secret")
    write = kit.table.write

    def erased_first(operations: Sequence[Operation]) -> None:
        monkeypatch.setattr(kit.table, "write", write)
        kit.erasure.erase(head, actor="ann")
        write(operations)

    if when == "before it is read":
        kit.erasure.erase(head, actor="ann")
    else:
        monkeypatch.setattr(kit.table, "write", erased_first)
    with pytest.raises((SessionEnded, SessionBusy)):
        kit.branching.fork(WHO, head)
    assert {item["pk"] for item in kit.table.snapshot() if item["sk"] == "HEAD"} == {
        keys.session_pk("acme", head.session_id)
    }
    with pytest.raises(SessionEnded):
        kit.branching.fork(WHO, kit.head(head.session_id))
