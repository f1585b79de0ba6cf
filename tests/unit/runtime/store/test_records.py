"""What can be read of sessions: by one query, by page, and by when they are due."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from tests.support.kit import MemoryKit
from tests.support.scripted import WHO, begin, play, reply, say, scripted_kit, use
from turnkeeper.core.errors import SessionNotFound
from turnkeeper.core.kit_tools import update_plan
from turnkeeper.core.session import Head, Transcript
from turnkeeper.runtime.intake import Identity
from turnkeeper.runtime.store import keys
from turnkeeper.table import Update
from turnkeeper.testing.clock import ManualClock, SeededIds
from turnkeeper.testing.memory_table import MemoryTable


@pytest.fixture
def kit() -> MemoryKit:
    return scripted_kit(ids=SeededIds())


def several(kit: MemoryKit, number: int, agent: str = "plain") -> list[Head]:
    """Sessions, oldest first."""
    heads = []
    for _ in range(number):
        kit.clock.advance(1)  # type: ignore[attr-defined]
        heads.append(begin(kit, agent))
    return heads


def ids_of(heads: list[Head]) -> list[str]:
    return [head.session_id for head in heads]


# ---- one session ----


def test_a_session_that_is_not_there(kit: MemoryKit) -> None:
    begin(kit, "plain")
    for read in (kit.sessions.head, kit.sessions.load):
        with pytest.raises(SessionNotFound) as missing:
            read("acme", "ses_none")
        assert missing.value.data == {"session_id": "ses_none"}


def begun(kit: MemoryKit, head: Head) -> Transcript | None:
    """As the runner does that takes a session: what may be all of it is read first, then the session is claimed."""
    items = [kit.table.get(key) for key in keys.beginning("acme", head.session_id)]
    claimed = kit.sessions.claim("acme", head.session_id, "a runner", "lambda")
    return kit.sessions.begun(claimed, *items[1:])


@pytest.mark.parametrize("looks", [False, True])
@pytest.mark.parametrize("text", ["go", "x" * 200_000])
def test_what_a_session_was_begun_with_is_all_of_it(kit: MemoryKit, text: str, looks: bool) -> None:
    head = begin(kit, "plain", text)
    if looks:
        kit.table.update(Update(keys.stream_key("acme", head.session_id), set={"looked_until": 2**50}))
    read = begun(kit, head)
    assert read is not None
    assert read == kit.sessions.load("acme", head.session_id)
    assert read.looked.at(kit.clock.now()) == looks


def test_what_a_runner_had_or_what_was_copied_is_loaded(kit: MemoryKit) -> None:
    lost = begin(kit, "plain")
    kit.sessions.claim("acme", lost.session_id, "lost", "lambda")
    kit.clock.advance(3_600)  # type: ignore[attr-defined]
    assert begun(kit, lost) is None
    copy = kit.branching.fork(WHO, play(kit, "plain"), at_seq=0, value="instead")
    assert copy.last_seq == 1
    assert begun(kit, copy) is None
    again = kit.intake.post(play(kit, "plain"), "again")
    assert begun(kit, again) is None


def test_of_what_was_not_all_there_yet_all_is_loaded(kit: MemoryKit) -> None:
    """A batch is no snapshot: the head may have been read after it was written, and the entry before."""
    head = begin(kit, "plain")
    claimed = kit.sessions.claim("acme", head.session_id, "a runner", "lambda")
    assert kit.sessions.begun(claimed, None, None) is None


def test_a_first_input_that_is_gone_is_loaded_so_that_it_is_told(kit: MemoryKit) -> None:
    head = begin(kit, "plain", "".join(chr(0x4E00 + number * 7 % 20_000) for number in range(100_000)))
    assert kit.blobs.contents
    kit.blobs.contents.clear()
    assert begun(kit, head) is None


def test_a_new_turn_waits_for_three_requests_before_its_model(kit: MemoryKit) -> None:
    """What it needs is read at once, then it is claimed, and the money is set aside."""
    requests: list[str] = []
    kit.__dict__["table"] = MemoryTable(on_request=requests.append)
    play(kit, "plain")  # The first call of a month lays its counters out.
    head = begin(kit, "plain")
    requests.clear()
    call, before = kit.model.call, list[str]()

    def asked(*of: Any, **more: Any) -> Any:
        before[:] = before or requests
        return call(*of, **more)

    kit.model.call = asked  # type: ignore[method-assign]
    kit.run(head)
    assert before == ["BatchGetItem", "UpdateItem", "TransactWriteItems"]


def test_entries_are_read_from_behind_a_seq(kit: MemoryKit) -> None:
    head = play(kit, "plain")
    every = list(kit.entries(head.session_id))
    assert [entry.seq for entry in every] == [1, 2, 3]
    assert kit.sessions.entries("acme", head.session_id) == every
    assert kit.sessions.entries("acme", head.session_id, after=1) == every[1:]
    assert kit.sessions.entries("acme", head.session_id, after=1, limit=1) == every[1:2]
    assert kit.sessions.entries("acme", head.session_id, after=3) == []
    assert kit.sessions.entries("globex", head.session_id) == []


def test_results_that_wait_are_no_entries_and_are_read_with_them(kit: MemoryKit) -> None:
    head = begin(kit, "plain")
    kit.sessions.put_result(head, "toolu_1", {"outcome": "ok"})
    assert [entry.seq for entry in kit.sessions.entries("acme", head.session_id)] == [1]
    loaded = kit.sessions.load("acme", head.session_id)
    assert loaded.early_results == {"toolu_1": {"outcome": "ok"}}
    assert (loaded.head, loaded.plan, len(loaded.entries)) == (head, None, 1)
    assert loaded.spec is None
    assert head.version is not None
    assert kit.sessions.spec("acme", head.version).system.startswith("You talk.")


def test_the_latest_answer_of_a_turn_is_found_however_far_back_it_is() -> None:
    kit = scripted_kit(reply(say("first")), reply(use("nothing")), reply(say("second")))
    head = play(kit, "plain")
    first = kit.sessions.latest_answer("acme", head.session_id, since=1)
    assert first is not None
    assert (first.seq, first.content[0]["text"]) == (2, "first")
    head = kit.run(kit.intake.post(kit.head(head.session_id), "more"))
    second = kit.sessions.latest_answer("acme", head.session_id, since=head.turn.seq)
    assert second is not None
    assert second.content[0]["text"] == "second"
    assert kit.sessions.latest_answer("acme", head.session_id, since=second.seq) == second
    assert kit.sessions.latest_answer("acme", head.session_id, since=second.seq + 1) is None


def test_an_answer_behind_many_other_entries_is_found(kit: MemoryKit) -> None:
    head = play(kit, "plain")
    for _ in range(9):
        # Cancelled in the queue, each turn adds an input and a status and no answer.
        head = kit.intake.post(kit.head(head.session_id), "more")
        head = kit.run(kit.sessions.request_cancel(head))
        kit.table.update(Update(keys.head_key("acme", head.session_id), set={"status": "idle"}))
    found = kit.sessions.latest_answer("acme", head.session_id, since=1)
    assert found is not None
    assert found.seq == 2
    assert kit.sessions.latest_answer("acme", head.session_id, since=3) is None


def test_a_plan_is_read_by_itself_and_with_the_session() -> None:
    items = [{"title": "one", "state": "done"}]
    kit = scripted_kit(reply(use("update_plan", goal="all", items=items)), tools=[update_plan])
    head = play(kit)
    plan = kit.sessions.plan("acme", head.session_id)
    assert plan is not None
    assert (plan.goal, [item.title for item in plan.items]) == ("all", ["one"])
    assert kit.sessions.load("acme", head.session_id).plan == plan
    assert kit.sessions.plan("acme", "ses_none") is None


def test_the_audit_of_a_tenant_is_not_that_of_its_sessions(kit: MemoryKit) -> None:
    head = begin(kit, "plain")
    kit.tenants.audit("acme", "operator_action", "operator:eve", {"action": "looked"})
    kit.tenants.audit("acme", "operator_action", "operator:eve", {"action": "again"})
    own = kit.sessions.audit("acme", None)
    assert [(item["seq"], item["actor"], item["detail"]["action"]) for item in own] == [
        (1, "operator:eve", "looked"),
        (2, "operator:eve", "again"),
    ]
    assert [item["kind"] for item in kit.sessions.audit("acme", head.session_id)] == ["session_created", "grant"]
    assert kit.sessions.audit("globex", None) == []


# ---- the sweep ----


def due(kit: MemoryKit) -> list[Head]:
    return [head for shard in range(keys.DUE_SHARDS) for head in kit.sessions.due(kit.clock.now(), shard)]


def test_what_nobody_looked_after_in_time_is_due(kit: MemoryKit) -> None:
    lost, resting = begin(kit, "slow"), begin(kit, "plain")
    kit.run(resting)
    assert due(kit) == []
    kit.clock.advance(61)  # type: ignore[attr-defined]
    assert ids_of(due(kit)) == [lost.session_id]


def test_one_that_cannot_be_read_does_not_hide_the_others(kit: MemoryKit, caplog: pytest.LogCaptureFixture) -> None:
    heads = several(kit, 8, agent="slow")
    broken = heads[3].session_id
    kit.table.update(Update(keys.head_key("acme", broken), set={"status": "dreaming"}))
    kit.clock.advance(600)  # type: ignore[attr-defined]
    with caplog.at_level(logging.ERROR):
        found = due(kit)
    assert sorted(ids_of(found)) == sorted(set(ids_of(heads)) - {broken})
    assert broken in caplog.text
    assert sorted(kit.sessions.lists.ids("acme")) == sorted(ids_of(heads))


def test_more_than_a_page_is_due() -> None:
    kit = scripted_kit(ids=SeededIds(), clock=ManualClock())
    heads = [begin(kit, "slow", who=Identity("acme", f"u{number}", "user")) for number in range(450)]
    kit.clock.advance(61)  # type: ignore[attr-defined]
    found: Any = due(kit)
    assert sorted(ids_of(found)) == sorted(ids_of(heads))
