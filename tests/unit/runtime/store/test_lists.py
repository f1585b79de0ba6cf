"""Lists of sessions: whose, of which status, page by page."""

from __future__ import annotations

import base64
import json
import logging
from collections import Counter

import pytest

from tests.support.kit import WHO, MemoryKit
from tests.support.scripted import begin, scripted_kit
from turnkeeper.core.errors import InvalidRequest
from turnkeeper.core.session import Head
from turnkeeper.runtime.intake import Identity
from turnkeeper.runtime.store import keys
from turnkeeper.table import Update
from turnkeeper.testing.clock import SeededIds

BOB = Identity("acme", "bob", "user")
GLOBEX = Identity("globex", "ann", "user")


@pytest.fixture
def kit() -> MemoryKit:
    return scripted_kit(ids=SeededIds())


def several(kit: MemoryKit, number: int, who: Identity = WHO) -> list[Head]:
    """Sessions, oldest first."""
    heads = []
    for _ in range(number):
        kit.clock.advance(1)  # type: ignore[attr-defined]
        heads.append(begin(kit, "plain", who=who))
    return heads


def ids_of(heads: list[Head]) -> list[str]:
    return [head.session_id for head in heads]


def as_of_0_1(kit: MemoryKit, head: Head) -> None:
    """Its head as that version wrote it."""
    old = {"tenant_key": keys.tenant_pk(head.tenant_id)}
    kit.table.update(Update(keys.head_key(head.tenant_id, head.session_id), set=old, remove=("status_key",)))


def pages(kit: MemoryKit, user_id: str | None, status: str | None, limit: int) -> list[list[str]]:
    """All pages of a list of acme's."""
    found: list[list[str]] = []
    cursor: str | None = None
    while True:
        heads, cursor = kit.sessions.lists.page("acme", user_id, status=status, limit=limit, cursor=cursor)
        found.append(ids_of(heads))
        if cursor is None:
            return found


def test_sessions_are_listed_newest_first_by_user_or_by_tenant(kit: MemoryKit) -> None:
    anns, bobs, others = several(kit, 2), several(kit, 2, BOB), several(kit, 1, GLOBEX)

    def listed(tenant_id: str, user_id: str | None) -> list[str]:
        heads, cursor = kit.sessions.lists.page(tenant_id, user_id, status=None, limit=20, cursor=None)
        assert cursor is None
        return ids_of(heads)

    assert listed("acme", "ann") == ids_of(anns[::-1])
    assert listed("acme", None) == ids_of([*bobs[::-1], *anns[::-1]])
    assert listed("globex", None) == listed("globex", "ann") == ids_of(others)
    assert listed("acme", "carol") == []
    assert list(kit.sessions.lists.ids("acme")) == listed("acme", None)


@pytest.mark.parametrize("limit", [1, 2, 3, 5])
def test_pages_hold_every_session_once(kit: MemoryKit, limit: int) -> None:
    every = ids_of(several(kit, 5)[::-1])
    found: list[str] = []
    cursor: str | None = None
    for _ in range(6):
        heads, cursor = kit.sessions.lists.page("acme", "ann", status=None, limit=limit, cursor=cursor)
        assert len(heads) <= limit
        found += ids_of(heads)
        if cursor is None:
            break
    assert found == every


def test_a_page_is_filled_past_those_that_a_status_leaves_out(kit: MemoryKit) -> None:
    heads = several(kit, 6)
    kit.run(heads[0])
    kit.run(heads[1])
    found, _ = kit.sessions.lists.page("acme", "ann", status="idle", limit=2, cursor=None)
    assert ids_of(found) == ids_of([heads[1], heads[0]])
    assert {head.status for head in found} == {"idle"}


# ---- by status ----


@pytest.mark.parametrize("user_id", ["ann", None], ids=["user", "admin"])
def test_one_that_is_looked_for_is_found_behind_however_many_others(kit: MemoryKit, user_id: str | None) -> None:
    heads = several(kit, 235)
    for head in heads[:3]:
        kit.run(head)
    assert pages(kit, user_id, "idle", 2) == [ids_of([heads[2], heads[1]]), ids_of(heads[:1])]
    assert pages(kit, user_id, "failed", 20) == [[]]
    assert pages(kit, user_id, "running", 100)[-1][-1] == heads[3].session_id


def test_the_tenants_few_are_found_without_a_look_at_all_others(kit: MemoryKit) -> None:
    """Whether the tenant's or the user's are the many: what is read depends on the fewer."""
    heads = several(kit, 400)
    kit.run(heads[0])
    several(kit, 3, BOB)
    requests: Counter[str] = Counter()
    kit.table.on_request = lambda name: requests.update([name])
    for user_id in (None, "ann", "bob"):
        requests.clear()
        heads, cursor = kit.sessions.lists.page("acme", user_id, status="idle", limit=20, cursor=None)
        assert (len(heads), cursor) == (user_id != "bob", None)
        assert requests.total() <= 8, user_id


def test_a_page_says_whether_there_are_more(kit: MemoryKit) -> None:
    several(kit, 4)
    for status in (None, "running"):
        assert [len(page) for page in pages(kit, "ann", status, 2)] == [2, 2]
        assert [len(page) for page in pages(kit, None, status, 4)] == [4]


def test_a_user_never_sees_anothers_whatever_its_status(kit: MemoryKit) -> None:
    mine, bobs = several(kit, 2), several(kit, 2, BOB)
    several(kit, 2, GLOBEX)
    for status in (None, "running"):
        assert pages(kit, "ann", status, 10) == [ids_of(mine[::-1])]
        assert pages(kit, "bob", status, 10) == [ids_of(bobs[::-1])]
        assert pages(kit, None, status, 10) == [ids_of([*bobs[::-1], *mine[::-1]])]
        assert pages(kit, "carol", status, 10) == [[]]


def test_an_erased_session_is_in_lists_as_such(kit: MemoryKit) -> None:
    head, other = several(kit, 2)
    kit.erasure.erase(head, actor="ann")
    for user_id in ("ann", None):
        assert pages(kit, user_id, "erased", 5) == [[head.session_id]]
        assert pages(kit, user_id, "running", 5) == [[other.session_id]]
        assert pages(kit, user_id, None, 5) == [ids_of([other, head])]


@pytest.mark.parametrize("user_id", ["ann", None], ids=["user", "admin"])
@pytest.mark.parametrize("status", [None, "running"])
def test_pages_go_on_where_they_ended_whatever_happened_meanwhile(
    kit: MemoryKit, user_id: str | None, status: str | None
) -> None:
    heads = several(kit, 6)
    first, cursor = kit.sessions.lists.page("acme", user_id, status=status, limit=2, cursor=None)
    assert ids_of(first) == ids_of([heads[5], heads[4]])
    several(kit, 2)
    kit.run(heads[4])  # The last of the page is not of this status any more.
    second, _ = kit.sessions.lists.page("acme", user_id, status=status, limit=2, cursor=cursor)
    assert ids_of(second) == ids_of([heads[3], heads[2]])


LISTS = [("acme", "ann", None), ("acme", "ann", "running"), ("acme", "ann", "idle"), ("acme", None, "running")]
LISTS += [("acme", None, None), ("acme", "bob", "running"), ("globex", "ann", "running"), ("globex", None, None)]


def test_a_cursor_is_of_use_for_its_own_list_only(kit: MemoryKit) -> None:
    for who in (WHO, BOB, GLOBEX):
        for head in several(kit, 4, who)[:2]:
            kit.run(head)
    for of in LISTS:
        _, cursor = kit.sessions.lists.page(of[0], of[1], status=of[2], limit=1, cursor=None)
        assert cursor is not None
        for other in LISTS:
            if other == of:
                assert kit.sessions.lists.page(of[0], of[1], status=of[2], limit=1, cursor=cursor)[0]
            else:
                with pytest.raises(InvalidRequest, match="not one of this list"):
                    kit.sessions.lists.page(other[0], other[1], status=other[2], limit=1, cursor=cursor)


@pytest.mark.parametrize(
    "place",
    ["", "x" * 1_025, 7, None, "\ud800", {"list": "T#acme"}],
    ids=["empty", "too long", "a number", "nothing", "half a character", "an object"],
)
def test_a_cursor_that_nobody_was_given_is_refused(kit: MemoryKit, place: object) -> None:
    forged = base64.urlsafe_b64encode(json.dumps({"list": "T#acme#U#ann", "before": place}).encode()).decode()
    with pytest.raises(InvalidRequest, match="not one of this list"):
        kit.sessions.lists.page("acme", "ann", status=None, limit=1, cursor=forged)


def test_one_that_cannot_be_read_hides_no_other(kit: MemoryKit, caplog: pytest.LogCaptureFixture) -> None:
    heads = several(kit, 3)
    kit.table.update(Update(keys.head_key("acme", heads[1].session_id), set={"status": "dreaming"}))
    with caplog.at_level(logging.ERROR):
        assert pages(kit, "ann", None, 2) == pages(kit, None, "running", 2) == [ids_of([heads[2], heads[0]])]
    assert heads[1].session_id in caplog.text


# ---- heads of 0.1 ----


@pytest.mark.parametrize("user_id", ["ann", None], ids=["user", "admin"])
def test_heads_of_0_1_are_in_every_list(kit: MemoryKit, user_id: str | None) -> None:
    heads = several(kit, 8)
    for head in heads[:4]:
        kit.run(head)
    for head in heads[::2]:
        as_of_0_1(kit, head)
    every = ids_of(heads[::-1])
    for limit in (1, 3, 20):
        assert [each for page in pages(kit, user_id, None, limit) for each in page] == every
        assert [each for page in pages(kit, user_id, "running", limit) for each in page] == every[:4]
        assert [each for page in pages(kit, user_id, "idle", limit) for each in page] == every[4:]
    assert list(kit.sessions.lists.ids("acme")) == every


def in_old_place(kit: MemoryKit) -> list[str]:
    found = kit.table.query(keys.tenant_pk("acme"), index="by_tenant").items
    return [item["pk"].rpartition("#")[2] for item in found]


def test_a_head_of_0_1_moves_over_with_its_status(kit: MemoryKit) -> None:
    head, other = several(kit, 2)
    as_of_0_1(kit, head)
    as_of_0_1(kit, other)
    assert in_old_place(kit) == ids_of([head, other])
    kit.run(head)
    assert in_old_place(kit) == [other.session_id]
    assert pages(kit, None, "idle", 5) == [[head.session_id]]
    assert pages(kit, None, "running", 5) == [[other.session_id]]


def test_heads_of_0_1_are_taken_in_once(kit: MemoryKit) -> None:
    heads = several(kit, 3)
    for head in heads[:2]:
        as_of_0_1(kit, kit.run(head))
    before = [kit.head(head.session_id) for head in heads]
    assert kit.sessions.lists.take_in("acme") == 2
    assert in_old_place(kit) == []
    assert [kit.head(head.session_id) for head in heads] == before
    assert pages(kit, None, "idle", 5) == [ids_of([heads[1], heads[0]])]
    assert kit.sessions.lists.take_in("acme") == 0
    assert kit.sessions.lists.take_in("globex") == 0
