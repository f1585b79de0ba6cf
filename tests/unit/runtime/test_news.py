"""What a look at a session finds, whatever is written while it is made."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from tests.support.kit import WHO, MemoryKit
from tests.support.scripted import begin, reply, say, scripted_kit, use
from turnkeeper.core.errors import SessionNotFound
from turnkeeper.core.session import Head
from turnkeeper.core.transcript import text_of
from turnkeeper.runtime.news import Awaited, News, news_of, next_look
from turnkeeper.runtime.store import keys
from turnkeeper.table import Page


@pytest.fixture
def kit() -> MemoryKit:
    return scripted_kit()


def seen(kit: MemoryKit, head: Head, after: int) -> News:
    return news_of(kit.table, kit.blobs, head, after=after)


def test_head_and_entries_behind_a_seq_are_one_read(kit: MemoryKit) -> None:
    before = begin(kit, "plain")
    assert seen(kit, before, 1) == News(before)
    head = kit.run(before)
    kit.sessions.put_result(head, "toolu_1", {"outcome": "ok"})
    every = kit.entries(head.session_id)
    requests: list[str] = []
    kit.table.on_request = requests.append
    for after in range(4):
        assert seen(kit, before, after) == News(head, every[after:])
    assert requests == ["Query"] * 4


def test_a_session_that_is_gone(kit: MemoryKit) -> None:
    head = replace(begin(kit, "plain"), session_id="ses_none")
    with pytest.raises(SessionNotFound) as missing:
        seen(kit, head, 1)
    assert missing.value.data == {"session_id": "ses_none"}


@pytest.mark.parametrize(
    ("torn", "seqs", "rests"),
    [
        ([0, 1], [1, 2], False),
        ([0, 2, 3], [1], True),
        ([1, 2, 3], [], True),
        ([3], [], True),
    ],
)
def test_writes_that_came_into_a_read_leave_no_gap(
    kit: MemoryKit, monkeypatch: pytest.MonkeyPatch, torn: Sequence[int], seqs: list[int], rests: bool
) -> None:
    """A query is no snapshot: of three entries and the head, it may have found these as they are now."""
    before = begin(kit, "plain")
    head = kit.run(before)
    items = kit.table.query_all(keys.session_pk("acme", head.session_id), first="ENTRY#", last="HEAD")
    assert [item["sk"][:4] for item in items] == ["ENTR", "ENTR", "ENTR", "HEAD"]
    monkeypatch.setattr(kit.table, "query", lambda *_, **__: Page([items[at] for at in torn]))
    news = seen(kit, before, 0)
    assert [entry.seq for entry in news.entries] == seqs
    assert news.head == (head if rests else before)


def answer_of(awaited: Awaited) -> str | None:
    answer = awaited.answer()
    return answer and text_of(answer.content)


def test_an_answer_comes_with_the_head_that_tells_of_it() -> None:
    """And each of a turn's entries is read once, however often it is looked at."""
    kit = scripted_kit(reply(say("One moment."), use("nothing")), reply(say("first")), reply(say("second")))
    head = begin(kit, "plain")
    awaited = Awaited(kit.table, kit.blobs, head)
    requests: list[str] = []
    kit.table.on_request = requests.append
    assert (awaited.look(), answer_of(awaited)) == (head, None)
    assert requests == ["Query"]
    head = kit.run(head)
    requests.clear()
    assert (awaited.look(), answer_of(awaited)) == (head, "first")
    assert (awaited.look(), answer_of(awaited)) == (head, "first")
    assert requests == ["Query"] * 2
    head = kit.intake.post(head, "more")
    awaited = Awaited(kit.table, kit.blobs, head)
    assert answer_of(awaited) is None, "what was said before belongs to another turn"
    head = kit.run(head)
    assert (awaited.look(), answer_of(awaited)) == (head, "second")


@pytest.mark.parametrize("torn", [[0, 3], [1, 3], [2, 3], [3], [0, 2, 3]])
def test_an_answer_that_a_look_has_missed_is_read(
    kit: MemoryKit, monkeypatch: pytest.MonkeyPatch, torn: Sequence[int]
) -> None:
    head = kit.run(before := begin(kit, "plain"))
    items = kit.table.query_all(keys.session_pk("acme", head.session_id), first="ENTRY#", last="HEAD")
    awaited = Awaited(kit.table, kit.blobs, before)
    with monkeypatch.context() as patched:
        patched.setattr(kit.table, "query", lambda *_, **__: Page([items[at] for at in torn if at]))
        assert awaited.look() == head
    assert awaited.answer() == kit.sessions.latest_answer("acme", head.session_id, since=1)


def test_what_was_said_before_the_wait_began_is_told() -> None:
    """And nothing else of a turn that may be long is read for it."""
    kit = scripted_kit(reply(say("One moment."), use("nothing")), reply(say("Here it is.")))
    head = kit.run(begin(kit, "plain"))
    awaited = Awaited(kit.table, kit.blobs, head)
    asked: list[str] = []
    query = kit.table.query
    kit.table.query = lambda *of, **more: (asked.append(more["first"]), query(*of, **more))[1]  # type: ignore[method-assign]
    assert awaited.look() == head
    assert asked == [f"ENTRY#{head.last_seq + 1:09d}"]
    assert answer_of(awaited) == "Here it is."


def test_what_is_erased_is_not_told_from_memory(kit: MemoryKit) -> None:
    awaited = Awaited(kit.table, kit.blobs, begin(kit, "plain"))
    kit.run(awaited.head)
    assert awaited.look().resting
    assert answer_of(awaited)
    kit.erasure.erase(awaited.head, actor="eve")
    assert awaited.look().status == "erased"
    assert awaited.answer() == kit.sessions.latest_answer("acme", awaited.head.session_id, since=1)
    assert not answer_of(awaited)


@pytest.mark.parametrize(("took", "from_begin_to_begin"), [(0.0, 0.125), (0.0625, 0.125), (0.5, 0.5625)])
def test_what_a_look_takes_is_part_of_the_gap_to_the_next(took: float, from_begin_to_begin: float) -> None:
    assert next_look(10.0, 10.0 + took, 0.125) == 10.0 + from_begin_to_begin


def test_what_was_taken_back_meanwhile_is_not_told(kit: MemoryKit) -> None:
    awaited = Awaited(kit.table, kit.blobs, begin(kit, "plain"))
    kit.run(awaited.head)
    assert answer_of(Awaited(kit.table, kit.blobs, awaited.look()))
    kit.branching.rewind(WHO, awaited.head)
    awaited.look()
    assert (awaited.head.status, awaited.head.turn.number) == ("idle", 1)
    assert awaited.answer() is None
    assert kit.sessions.latest_answer("acme", awaited.head.session_id, since=awaited.head.turn.seq) is None
