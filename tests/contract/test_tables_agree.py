"""Whatever is asked of them, the table in memory answers as the one on the emulator does, and as those in databases."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.examples import examples
from turnkeeper.adapters.sql.database import Database
from turnkeeper.adapters.sql.table import SqlTable
from turnkeeper.adapters.table_values import InvalidOperation
from turnkeeper.table import AnyOf, Check, Cond, ConditionFailed, Key, Operation, Put, Table, Update
from turnkeeper.testing.memory_table import MemoryTable

names = st.sampled_from(["a", "b", "size"])
values: st.SearchStrategy[Any] = st.sampled_from(
    [0, 1, -2, "", "1", "x", None, True, False, b"", b"x", [], [1], {"a": 1}]
)
sks = st.sampled_from(["1", "2", "3"])
conditions = st.one_of(
    st.builds(Cond, names, st.sampled_from(["exists", "absent"]), st.none()),
    st.builds(Cond, names, st.sampled_from(["=", "<>", "<", "<=", ">", ">="]), values),
    st.builds(Cond, st.just("pk"), st.sampled_from(["exists", "absent"]), st.none()),
)
some_conditions = st.lists(
    conditions | st.builds(AnyOf, st.lists(conditions, min_size=1, max_size=2).map(tuple)), max_size=2
).map(tuple)


@st.composite
def writes(draw: st.DrawFn) -> list[tuple[str, str, Any]]:
    """Operations as (kind, sort key, arguments): the partition is not known yet."""
    operations: list[tuple[str, str, Any]] = []
    for sk in draw(st.lists(sks, min_size=1, max_size=3, unique=True)):
        kind = draw(st.sampled_from(["put", "update", "check"]))
        arguments: dict[str, Any] = {"conditions": draw(some_conditions)}
        if kind == "put":
            arguments["item"] = draw(st.dictionaries(names, values, max_size=3))
        elif kind == "update":
            changes = draw(st.dictionaries(names, st.sampled_from(["set", "add", "remove"]), min_size=1))
            arguments["set"] = {name: draw(values) for name, how in changes.items() if how == "set"}
            arguments["add"] = {name: draw(st.integers(-3, 3)) for name, how in changes.items() if how == "add"}
            arguments["remove"] = tuple(name for name, how in changes.items() if how == "remove")
        operations.append((kind, sk, arguments))
    return operations


def answer(table: Table, pk: str, operations: list[tuple[str, str, Any]], alone: bool) -> Any:
    kinds: dict[str, Any] = {"put": Put, "update": Update, "check": Check}
    built: list[Operation] = [kinds[kind](key=Key(pk, sk), **arguments) for kind, sk, arguments in operations]
    try:
        if alone and isinstance(built[0], Update):
            return table.update(built[0])
        return table.write(built)
    except ConditionFailed as error:
        return error.failures
    except InvalidOperation:
        return InvalidOperation


@pytest.fixture(scope="module", params=[pytest.param("dynamodb", marks=pytest.mark.emulator), "sqlite", "postgresql"])
def real(request: pytest.FixtureRequest, new_database: Callable[[str], Database]) -> Table:
    if request.param == "dynamodb":
        table: Table = request.getfixturevalue("emulated_table")
        return table
    return SqlTable(new_database(request.param))


@pytest.mark.examples
@settings(max_examples=examples(70, all=200), suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(history=st.lists(st.tuples(writes(), st.booleans()), min_size=1, max_size=8))
def test_the_tables_agree(real: Table, history: list[tuple[Any, bool]]) -> None:
    memory = MemoryTable()
    pk = uuid.uuid4().hex
    for operations, alone in history:
        assert answer(memory, pk, operations, alone) == answer(real, pk, operations, alone)
        assert memory.query_all(pk) == real.query_all(pk)
