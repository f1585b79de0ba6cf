"""What a look at a session finds, whatever is written while it is made."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from tests.support.kit import MemoryKit
from tests.support.scripted import begin, scripted_kit
from turnkeeper.core.errors import SessionNotFound
from turnkeeper.core.session import Head
from turnkeeper.runtime.news import News, news_of, next_look
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


@pytest.mark.parametrize(("took", "from_begin_to_begin"), [(0.0, 0.125), (0.0625, 0.125), (0.5, 0.5625)])
def test_what_a_look_takes_is_part_of_the_gap_to_the_next(took: float, from_begin_to_begin: float) -> None:
    assert next_look(10.0, 10.0 + took, 0.125) == 10.0 + from_begin_to_begin
