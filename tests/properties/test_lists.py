"""Pages of every list hold what a plain look at all sessions finds, in its order, whatever became of them."""

from __future__ import annotations

import typing
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from tests.support.heads import head
from turnkeeper.core.session import Head, Status
from turnkeeper.runtime.store import codec, keys
from turnkeeper.runtime.store.changes import head_update
from turnkeeper.runtime.store.lists import Lists
from turnkeeper.table import EXISTS, Put, Update
from turnkeeper.testing.memory_table import MemoryTable

STATUSES: tuple[Status, ...] = typing.get_args(Status)
TENANTS, USERS = ("acme", "acme#S", "globex"), ("ann", "ann#idle", "bob")

MADE = st.tuples(
    st.sampled_from(TENANTS), st.sampled_from(USERS), st.sampled_from(STATUSES), st.integers(0, 5), st.booleans()
)
CHANGES = st.lists(st.tuples(st.integers(0, 40), st.sampled_from([*STATUSES, "take in"])), max_size=15)


def stored(made: list[tuple[str, str, Status, int, bool]], changes: list[tuple[int, str]]) -> tuple[Lists, list[Head]]:
    """Sessions, some of them of 0.1, and what happens to them."""
    table, heads = MemoryTable(), []
    lists = Lists(table)
    for number, (tenant, user, status, second, old) in enumerate(made):
        at = f"2026-03-02T09:30:0{second}.000Z"
        made_head = head(tenant_id=tenant, user_id=user, status=status, session_id=f"ses_{number}", created_at=at)
        key = keys.head_key(tenant, made_head.session_id)
        table.write([Put(key, codec.head_item(made_head))])
        if old:
            table.update(Update(key, set={"tenant_key": keys.tenant_pk(tenant)}, remove=("status_key",)))
        heads.append(made_head)
    for number, what in changes:
        index = number % len(heads)
        if what == "take in":
            lists.take_in(heads[index].tenant_id)
            continue
        after = replace(heads[index], status=what, steps=heads[index].steps + 1)  # type: ignore[arg-type]
        table.update(head_update(heads[index], after, (EXISTS,), packs=True))
        heads[index] = codec.revised(heads[index], after, packs=True)
    return lists, heads


@given(st.lists(MADE, min_size=1, max_size=40), CHANGES, st.integers(1, 7))
def test_pages_are_what_filtering_all_sessions_finds(
    made: list[tuple[str, str, Status, int, bool]], changes: list[tuple[int, str]], limit: int
) -> None:
    lists, heads = stored(made, changes)
    newest_first = sorted(heads, key=codec.created_key, reverse=True)
    for tenant in TENANTS:
        assert list(lists.ids(tenant)) == [each.session_id for each in newest_first if each.tenant_id == tenant]
        for user in (None, *USERS):
            for status in (None, *STATUSES):
                wanted = [
                    each
                    for each in newest_first
                    if each.tenant_id == tenant and user in (None, each.user_id) and status in (None, each.status)
                ]
                cursor: str | None = None
                for start in range(0, max(1, len(wanted)), limit):
                    page, cursor = lists.page(tenant, user, status=status, limit=limit, cursor=cursor)
                    assert page == wanted[start : start + limit]
                    assert (cursor is not None) == (start + limit < len(wanted))
