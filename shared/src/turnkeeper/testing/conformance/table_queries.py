"""Reads of a table: batches, ranges, pages and indexes."""

from __future__ import annotations

from typing import Any

from turnkeeper.core.errors import InvalidRequest
from turnkeeper.table import Item, Key, Put, Table, Update
from turnkeeper.testing.conformance._help import eventually, fails, unique


class TableQueryConformance:
    table: Table

    def partition(self, *sks: str) -> str:
        pk = unique("queries")
        self.table.write([Put(Key(pk, sk), {"n": n}) for n, sk in enumerate(sks)])
        return pk

    def sks(self, pk: str, **arguments: Any) -> list[str]:
        page = self.table.query(pk, **arguments)
        return [item["sk"] for item in page.items]

    def walk(self, pk: str, **arguments: Any) -> list[Item]:
        items: list[Item] = []
        cursor: str | None = None
        while True:
            page = self.table.query(pk, cursor=cursor, **arguments)
            assert arguments.get("limit") is None or len(page.items) <= arguments["limit"]
            items.extend(page.items)
            cursor = page.cursor
            if cursor is None:
                return items

    # ---- batches ----

    def test_a_batch_keeps_the_order_of_its_keys(self) -> None:
        pk = self.partition(*(f"{n:02}" for n in range(60)))
        other = self.partition(*(f"{n:02}" for n in range(60)))
        keys = [Key(p, f"{n:02}") for n in range(59, -2, -1) for p in (pk, other) if n >= 0]
        keys.insert(5, Key(pk, "missing"))
        keys.append(keys[0])
        found = self.table.batch_get(keys)
        assert [Key(item["pk"], item["sk"]) for item in found] == [key for key in keys if key.sk != "missing"]
        assert self.table.batch_get([]) == []

    def test_a_batch_of_large_items(self) -> None:
        pk = unique("queries")
        for n in range(6):
            self.table.write([Put(Key(pk, str(n)), {"x": "x" * 390_000})])
        assert len(self.table.batch_get([Key(pk, str(n)) for n in range(6)])) == 6

    # ---- ranges ----

    def test_a_query_reads_one_partition_in_order(self) -> None:
        pk = self.partition("b", "a", "c#2", "c#10", "Z", "é")
        self.partition("a")
        assert self.sks(pk) == ["Z", "a", "b", "c#10", "c#2", "é"]
        assert self.sks(pk, descending=True) == ["é", "c#2", "c#10", "b", "a", "Z"]
        assert self.sks(unique("nothing")) == []

    def test_an_index_names_its_partitions(self) -> None:
        mine, other = unique("tenant"), unique("tenant")
        for n, tenant in enumerate([mine, other, mine]):
            self.table.write([Put(Key(unique("pk"), "HEAD"), {"tenant_key": tenant, "created_key": str(n)})])
        self.partition("no place in any index")
        unsorted = unique("tenant")
        self.table.write([Put(Key(unique("pk"), "HEAD"), {"tenant_key": unsorted})])
        assert set(self.table.partitions("by_tenant")) >= {mine, other}
        assert unsorted not in set(self.table.partitions("by_tenant"))
        assert mine not in set(self.table.partitions("by_user"))

    def test_bounds_are_inclusive_and_may_be_left_out(self) -> None:
        pk = self.partition("a", "b", "c", "d")
        assert self.sks(pk, first="b", last="c") == ["b", "c"]
        assert self.sks(pk, first="bb", last="cc") == ["c"]
        assert self.sks(pk, first="c") == ["c", "d"]
        assert self.sks(pk, last="b") == ["a", "b"]
        assert self.sks(pk, first="b", last="b") == ["b"]
        assert self.sks(pk, first="b", last="c", descending=True) == ["c", "b"]

    def test_an_empty_range_finds_nothing(self) -> None:
        pk = self.partition("a", "b", "c")
        for first, last in (("c", "a"), ("", ""), ("x", "\uffff"), ("a", "")):
            assert self.table.query(pk, first=first, last=last).items == []
            assert self.table.query_all(pk, first=first, last=last) == []

    def test_sort_keys_are_in_the_order_of_their_bytes(self) -> None:
        """Not in that of a language, nor of UTF-16; and every sign is one."""
        sks = ["\u0000", "A", "Z", "_", "a", "a\u0000", "a\u0000b", "aa", "ab", "z", "ä", "\uffee", "🙂"]
        pk = self.partition(*reversed(sks))
        assert self.sks(pk) == sks
        assert self.sks(pk, first="a", last="a\u0000b") == ["a", "a\u0000", "a\u0000b"]
        assert self.sks(pk, first="\uffee") == ["\uffee", "🙂"]
        assert [item["sk"] for item in self.walk(pk, limit=1)] == sks

    def test_keys_may_be_as_long_as_they_may_be(self) -> None:
        """Long ones that begin alike are told apart, in the table and in its indexes."""
        name = unique("long")
        pks = [name.ljust(2047, "x") + end for end in "ab"]
        tenants = [unique("tenant").ljust(2047, "y") + end for end in "ab"]
        for pk, tenant in zip(pks, tenants, strict=True):
            for n in range(3):
                item = {"n": n, "tenant_key": tenant, "created_key": str(n).ljust(1024, "z")}
                self.table.write([Put(Key(pk, str(n).rjust(1024, "0")), item)])
        for pk, tenant in zip(pks, tenants, strict=True):
            assert [item["n"] for item in self.table.query_all(pk)] == [0, 1, 2]
            eventually(lambda tenant=tenant: len(self.walk(tenant, index="by_tenant")), 3)  # type: ignore[misc]
            found = self.walk(tenant, index="by_tenant", limit=2)
            assert [(item["pk"], item["tenant_key"], item["created_key"][0]) for item in found] == [
                (pk, tenant, str(n)) for n in range(3)
            ]
        assert set(self.table.partitions("by_tenant")) >= set(tenants)

    def test_places_of_one_sort_key_in_an_index_are_each_read_once(self) -> None:
        tenant = unique("tenant")
        pks = [unique("pk") for _ in range(7)]
        for pk in pks:
            self.table.write([Put(Key(pk, "HEAD"), {"tenant_key": tenant, "created_key": "same"})])
        eventually(lambda: len(self.walk(tenant, index="by_tenant")), 7)
        for descending in (False, True):
            found = self.walk(tenant, index="by_tenant", limit=2, descending=descending)
            assert sorted(item["pk"] for item in found) == sorted(pks)

    # ---- pages ----

    def test_pages_by_limit(self) -> None:
        pk = self.partition(*"abcdefg")
        for descending in (False, True):
            for limit in (1, 3, 7, 100):
                read = [item["sk"] for item in self.walk(pk, limit=limit, descending=descending)]
                assert read == sorted("abcdefg", reverse=descending)
        assert [item["sk"] for item in self.walk(pk, first="b", last="f", limit=2)] == list("bcdef")
        first = self.table.query(pk, limit=3)
        assert len(first.items) == 3
        assert first.cursor

    def test_pages_by_size(self) -> None:
        pk = unique("queries")
        for n in range(7):
            self.table.write([Put(Key(pk, str(n)), {"n": n, "x": "x" * 300_000})])
        page = self.table.query(pk)
        assert 0 < len(page.items) < 7
        assert page.cursor
        assert [item["n"] for item in self.table.query_all(pk)] == list(range(7))
        assert [item["n"] for item in self.table.query_all(pk, first="2", last="5")] == [2, 3, 4, 5]

    def test_a_cursor_outlives_its_item_and_sees_what_came_after(self) -> None:
        pk = self.partition("a", "b", "d")
        cursor = self.table.query(pk, limit=2).cursor
        self.table.write([Put(Key(pk, "c"), {}), Put(Key(pk, "aa"), {})])
        assert self.sks(pk, cursor=cursor) == ["c", "d"]

    def test_a_cursor_of_another_list_is_refused(self) -> None:
        pk, other = self.partition("a", "b", "c"), self.partition("a", "b", "c")
        cursor = self.table.query(pk, limit=2).cursor
        assert cursor
        fails(InvalidRequest, lambda: self.table.query(other, cursor=cursor))
        fails(InvalidRequest, lambda: self.table.query(pk, first="c", cursor=cursor))
        fails(InvalidRequest, lambda: self.table.query(pk, index="by_user", cursor=cursor))
        for forged in ("", "x", "e30=", "W10=", cursor[:-4], "ü"):
            fails(InvalidRequest, lambda forged=forged: self.table.query(pk, cursor=forged))  # type: ignore[misc]

    # ---- indexes ----

    def indexed(self, tenant: str, n: int, created: str) -> Key:
        key = Key(unique("indexed"), "HEAD")
        keys = {"user_key": f"{tenant}#u", "tenant_key": tenant, "created_key": created, "due_shard": tenant}
        self.table.write([Put(key, {**keys, "due_at": created, "n": n})])
        return key

    def test_an_index_holds_keys_only_in_its_order(self) -> None:
        tenant = unique("tenant")
        late, early = self.indexed(tenant, 1, "2026-03-02"), self.indexed(tenant, 2, "2026-03-01")
        expected = [
            {"pk": key.pk, "sk": key.sk, "tenant_key": tenant, "created_key": created}
            for key, created in ((early, "2026-03-01"), (late, "2026-03-02"))
        ]
        eventually(lambda: self.table.query(tenant, index="by_tenant").items, expected)
        newest = self.table.query(tenant, index="by_tenant", descending=True, limit=1).items
        assert newest == expected[1:]
        assert self.table.query(tenant, index="by_tenant", first="2026-03-02").items == expected[1:]
        due = self.table.query(tenant, index="due", last="2026-03-01").items
        assert due == [{"pk": early.pk, "sk": early.sk, "due_shard": tenant, "due_at": "2026-03-01"}]
        assert len(self.table.query(f"{tenant}#u", index="by_user").items) == 2

    def test_an_index_holds_only_items_with_its_keys(self) -> None:
        shard = unique("shard")
        key = Key(unique("indexed"), "HEAD")
        self.table.write([Put(key, {"due_shard": shard})])
        assert self.table.query(shard, index="due").items == []
        self.table.update(Update(key, set={"due_at": "b"}))
        eventually(lambda: [item["due_at"] for item in self.table.query(shard, index="due").items], ["b"])
        self.table.update(Update(key, set={"due_at": "a"}))
        eventually(lambda: [item["due_at"] for item in self.table.query(shard, index="due").items], ["a"])
        self.table.update(Update(key, remove=("due_at",)))
        eventually(lambda: len(self.table.query(shard, index="due").items), 0)
        assert self.table.get(key) == {"pk": key.pk, "sk": key.sk, "due_shard": shard}

    def test_an_item_is_in_one_partition_of_an_index(self) -> None:
        tenant = unique("tenant")
        keys = [self.indexed(tenant, n, f"2026-03-0{n}") for n in range(1, 5)]
        for key in keys:
            self.table.update(Update(key, set={"status_key": f"{tenant}#running"}))
        self.table.update(Update(keys[1], set={"status_key": f"{tenant}#idle"}))
        self.table.update(Update(keys[2], set={"n": 7}))

        def days(status: str, **bounds: Any) -> list[str]:
            items = self.table.query(f"{tenant}#{status}", index="by_status", descending=True, **bounds).items
            return [item["created_key"][-1] for item in items]

        eventually(lambda: (days("running"), days("idle")), (["4", "3", "1"], ["2"]))
        assert days("running", last="2026-03-03") == ["3", "1"]
        assert days("running", last="2026-03-02~", limit=1) == ["1"]
        self.table.update(Update(keys[1], remove=("status_key",)))
        eventually(lambda: len(days("idle")), 0)

    def test_pages_of_an_index_lose_no_equals(self) -> None:
        tenant = unique("tenant")
        keys = {self.indexed(tenant, n, f"2026-03-0{n // 3 + 1}") for n in range(9)}
        for descending in (False, True):

            def read(descending: bool = descending) -> set[Key]:
                items = self.walk(tenant, index="by_tenant", limit=2, descending=descending)
                assert [i["created_key"] for i in items] == sorted(
                    (i["created_key"] for i in items), reverse=descending
                )
                assert len(items) <= 9
                return {Key(item["pk"], item["sk"]) for item in items}

            eventually(read, keys)
