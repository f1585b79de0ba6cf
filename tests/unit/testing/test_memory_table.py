from __future__ import annotations

import base64
from typing import Any, Literal

import pytest

from turnkeeper.core.errors import InvalidRequest
from turnkeeper.table import ABSENT, EXISTS, Check, Cond, ConditionFailed, Item, Key, Put, StoreBusy, Update
from turnkeeper.testing.faulty_table import Call, Crash, FaultyTable
from turnkeeper.testing.memory_table import MemoryTable

KEY, OTHER = Key("p", "a"), Key("p", "b")


def test_the_stream_tells_what_changed_in_order() -> None:
    changes: list[tuple[Item | None, Item | None]] = []
    table = MemoryTable(on_change=lambda old, new: changes.append((old, new)))
    table.write([Put(KEY, {"n": 1}), Put(OTHER, {"n": 1})])
    table.write([Update(KEY, add={"n": 1}), Check(OTHER, (EXISTS,))])
    with pytest.raises(ConditionFailed):
        table.write([Put(KEY, {}, (ABSENT,))])
    table.update(Update(OTHER, set={"n": 1}))  # changes nothing, so the stream does not tell

    first = {"pk": "p", "sk": "a", "n": 1}
    assert changes == [(None, first), (None, {**first, "sk": "b"}), (first, {**first, "n": 2})]


def test_requests_are_counted_as_on_dynamodb() -> None:
    names: list[str] = []
    table = MemoryTable(on_request=names.append)
    table.write([Put(KEY, {})])
    table.update(Update(KEY, set={"n": 1}))
    table.get(KEY)
    table.query_all("p")
    table.batch_get([KEY])
    assert names == ["TransactWriteItems", "UpdateItem", "GetItem", "Query", "BatchGetItem"]


def test_a_cursor_that_is_nested_too_deep_is_refused_as_any_other_that_was_altered() -> None:
    with pytest.raises(InvalidRequest, match="not one of this list"):
        MemoryTable().query("p", cursor=base64.urlsafe_b64encode(b"[" * 3_000).decode())


def test_a_write_has_a_limit_in_bytes() -> None:
    table = MemoryTable()
    with pytest.raises(ValueError, match="bytes"):
        table.write([Put(Key("p", str(n)), {"x": "x" * 390_000}) for n in range(11)])
    assert table.snapshot() == []


def test_a_crash_before_leaves_nothing_and_one_after_leaves_all() -> None:
    for moment in ("before", "after"):
        memory = MemoryTable()

        def fault(now: Literal["before", "after"], call: Call, moment: str = moment) -> None:
            if now == moment and call.writes:
                raise Crash

        table = FaultyTable(memory, fault)
        with pytest.raises(Crash):
            table.write([Put(KEY, {})])
        assert table.get(KEY) == ({"pk": "p", "sk": "a"} if moment == "after" else None)


def test_a_crash_is_not_handled_as_an_error() -> None:
    assert not issubclass(Crash, Exception)


def test_faults_see_every_call() -> None:
    calls: list[Call] = []

    def fault(now: Literal["before", "after"], call: Call) -> None:
        if now == "before":
            calls.append(call)
            if call.method == "update":
                raise StoreBusy("busy")

    table = FaultyTable(MemoryTable(), fault)
    put: Any = [Put(KEY, {"n": 1})]
    change = Update(KEY, add={"n": 1}, conditions=(Cond("n", "=", 1),))
    table.write(put)
    with pytest.raises(StoreBusy):
        table.update(change)
    table.get(KEY)
    table.batch_get([KEY])
    table.query("p")
    table.query_all("p")
    assert calls == [
        Call("write", put),
        Call("update", change),
        Call("get", KEY),
        Call("batch_get", [KEY]),
        Call("query", "p"),
        Call("query_all", "p"),
    ]
