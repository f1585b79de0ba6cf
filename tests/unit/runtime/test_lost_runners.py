"""A runner that dies is told of in the transcript, with its money, by whoever takes its session away."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.kit import WHO, MemoryKit
from tests.support.scripted import begin, check_session, die_with_tools, reply, say, scripted_kit, use
from turnkeeper import tool
from turnkeeper.core.lifecycle import leaving
from turnkeeper.core.session import Entry, Head
from turnkeeper.runtime.store import codec, keys
from turnkeeper.runtime.world import Allowance
from turnkeeper.testing.faulty_table import Crash

FIRST = Allowance(runner="fargate", name="task-1")
SECOND = Allowance(runner="lambda", name="req-2")


@tool(effect="once", untrusted=False)
def pay(cents: int) -> str:
    """Pay."""
    raise Crash("dead")


def dies(kit: MemoryKit, head: Head) -> Head:
    with pytest.raises(Crash):
        kit.run(head, FIRST)
    kit.clock.advance(75)  # type: ignore[attr-defined]
    return kit.head(head.session_id)


def in_the_call(_: Any) -> Any:
    raise Crash("dead")


def told(kit: MemoryKit, head: Head) -> list[Entry]:
    return [entry for entry in kit.entries(head.session_id) if entry.type == "runner_lost"]


def test_the_next_runner_tells_and_the_next_answer_costs_what_it_costs() -> None:
    kit = scripted_kit(in_the_call, reply(say("ok")))
    before = dies(kit, begin(kit, "plain"))
    amount = before.account.reserved_nanousd
    assert amount > 0
    head = kit.run(before, SECOND)
    check_session(kit, head)
    [entry] = told(kit, head)
    assert (entry.runner, entry.cost_nanousd, entry.in_doubt_nanousd) == ("fargate", amount, amount)
    assert entry.lost_runner is not None
    assert (entry.lost_runner.id, entry.lost_runner.taken_over_by_id) == ("task-1", "req-2")
    [answer] = [entry for entry in kit.entries(head.session_id) if entry.type == "assistant"]
    assert answer.in_doubt_nanousd == 0
    assert 0 < answer.cost_nanousd < amount
    assert head.account.in_doubt_nanousd == amount
    sent = str(kit.model.requests[-1].messages)  # type: ignore[attr-defined]
    assert "lost" not in sent
    assert "task-1" not in sent


def test_the_sweep_tells_and_whoever_follows_does_not_tell_it_again() -> None:
    kit = scripted_kit(in_the_call, reply(say("ok")))
    before = dies(kit, begin(kit, "plain"))
    assert kit.sweep.run(lambda: 10.0).resumed == 1
    head = kit.run(kit.head(before.session_id), SECOND)
    check_session(kit, head)
    [entry] = told(kit, head)
    assert entry.lost_runner is not None
    assert entry.lost_runner.taken_over_by == "sweep"
    assert head.account.in_doubt_nanousd == entry.in_doubt_nanousd == before.account.reserved_nanousd


def test_a_cancel_tells_whom_it_did_not_wait_for() -> None:
    kit = scripted_kit(in_the_call)
    before = dies(kit, begin(kit, "plain"))
    head = kit.cancelling.cancel(before, actor="ann")
    check_session(kit, head)
    [entry] = told(kit, head)
    assert entry.lost_runner is not None
    assert (head.status, entry.lost_runner.taken_over_by_id) == ("cancelled", "cancel")


def test_tools_that_it_may_have_used_are_named() -> None:
    kit = scripted_kit(reply(use("pay", cents=1)), reply(say("ok")), tools=[pay])
    die_with_tools(kit)
    before = dies(kit, begin(kit))
    head = kit.run(before, SECOND)
    check_session(kit, head)
    [entry] = told(kit, head)
    assert entry.lost_runner is not None
    assert [call.tool for call in entry.lost_runner.open_calls] == ["pay"]
    [results] = [entry for entry in kit.entries(head.session_id) if entry.type == "tool_results"]
    assert [outcome.outcome for outcome in results.outcomes] == ["unknown"]
    assert results.seq == entry.seq + 1


def test_a_transcript_with_it_can_be_taken_back_and_copied() -> None:
    kit = scripted_kit(in_the_call, reply(say("ok")), reply(say("again")), reply(say("copy")))
    head = kit.run(dies(kit, begin(kit, "plain")), SECOND)
    head = kit.branching.rewind(WHO, head, turns=1)
    head = kit.run(kit.intake.post(head, "again"))
    check_session(kit, head)
    copy = kit.run(kit.branching.fork(WHO, head, value="go on"))
    assert (copy.status, sum(entry.in_doubt_nanousd for entry in kit.entries(copy.session_id))) == ("idle", 0)
    assert copy.account.in_doubt_nanousd == 0


def test_a_version_that_does_not_know_it_passes_it_over(monkeypatch: pytest.MonkeyPatch) -> None:
    kit = scripted_kit(in_the_call, reply(say("ok")), reply(say("more")))
    head = kit.run(dies(kit, begin(kit, "plain")), SECOND)
    monkeypatch.setattr(codec, "_ENTRY_TYPES", codec._ENTRY_TYPES - {"runner_lost"})
    head = kit.run(kit.intake.post(head, "more"))
    assert head.status == "idle"
    assert [entry.type for entry in kit.entries(head.session_id)][1] == "other"


def test_a_head_of_before_has_nothing_in_doubt() -> None:
    kit = scripted_kit(reply(say("ok")))
    item = codec.head_item(kit.run(begin(kit, "plain")))
    old = {name: value for name, value in item.items() if "in_doubt" not in name}
    assert codec.head_of(old).account.in_doubt_nanousd == 0


def test_a_runner_whose_lease_was_let_go_of_was_not_lost() -> None:
    kit = scripted_kit(reply(say("ok")))
    head = kit.run(begin(kit, "plain"), Allowance(runner="fargate", draining=lambda: True))
    assert head.handoff is not None
    head = kit.run(head, SECOND)
    assert told(kit, head) == []
    assert leaving.send_again(head, kit.clock.now()).entries == ()


def test_words_of_its_latest_entries_that_cannot_be_read_hold_nobody_up() -> None:
    from turnkeeper.table import Update

    kit = scripted_kit(in_the_call)
    before = dies(kit, begin(kit, "plain"))
    kit.table.update(Update(keys.entry_key("acme", before.session_id, 1), set={"data": b"\x78damaged"}))
    head = kit.run(before, SECOND)
    assert (head.status, head.stop and head.stop.reason) == ("stopped", "internal_error")
    assert head.account.in_doubt_nanousd == before.account.reserved_nanousd
