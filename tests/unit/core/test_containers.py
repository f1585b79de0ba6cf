"""Which container the next request names."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from turnkeeper.core.branching import copied
from turnkeeper.core.containers import container_of, container_told
from turnkeeper.core.session import Container, Entry

NOW = datetime(2026, 3, 2, 9, 30, tzinfo=UTC)
LATER, EARLIER = "2026-03-02T09:35:00Z", "2026-03-02T09:30:00Z"


def said(seq: int, name: str | None = None, until: str = LATER, model: str | None = None) -> Entry:
    container = Container(name, until) if name else None
    return Entry(seq=seq, type="assistant", at=LATER, container=container, model=model)


def repaired(seq: int, *left_out: Any) -> Entry:
    return Entry(seq=seq, type="repair", at=LATER, left_out=left_out)


@pytest.mark.parametrize(
    ("entries", "sent", "expected"),
    [
        ([], {1}, None),
        ([said(1)], {1}, None),
        ([said(1, "a")], {1}, "a"),
        ([said(1, "a"), said(2)], {1, 2}, "a"),
        ([said(1, "a"), said(2, "b", model="another")], {1, 2}, "b"),
        # Withdrawn, or declined and not sent again.
        ([said(1, "a"), said(2, "b")], {1}, "a"),
        ([said(1, "a")], set(), None),
        # Whatever was before it is no place to go back to.
        ([said(1, "a"), said(2, "b", EARLIER)], {1, 2}, None),
        ([said(1, "a"), repaired(2)], {1}, None),
        ([said(1, "a"), repaired(2, "a block")], {1}, "a"),
        ([said(1, "a"), repaired(2), said(3, "b")], {1, 3}, "b"),
    ],
)
def test_the_latest_answer_that_is_sent_counts_until_it_expires(
    entries: list[Entry], sent: set[int], expected: str | None
) -> None:
    assert container_of(entries, sent, NOW) == expected


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(), st.lists))
def test_odd_words_about_a_container_are_none(odd: Any) -> None:
    for raw in (
        odd,
        {"id": odd},
        {"expires_at": odd},
        {"id": odd, "expires_at": EARLIER},
        {"id": "a", "expires_at": odd},
    ):
        told = container_told(raw)
        assert told is None or (told.id and datetime.fromisoformat(told.expires_at))


def test_a_time_without_a_zone_is_utc() -> None:
    told = container_told({"id": "a", "expires_at": "2026-03-02T09:30:01", "skills": None})
    assert told == Container("a", "2026-03-02T09:30:01")
    assert container_of([said(1, "a", "2026-03-02T09:30:01")], {1}, NOW) == "a"


def test_a_copy_has_no_container() -> None:
    assert [entry.container for entry in copied([said(1, "a")], 1)] == [None]
