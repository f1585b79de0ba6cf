"""Values, conditions and writes of a table."""

from __future__ import annotations

from typing import Any

from turnkeeper.adapters.table_values import InvalidOperation
from turnkeeper.table import (
    ABSENT,
    EXISTS,
    AnyOf,
    Check,
    Cond,
    Condition,
    ConditionFailed,
    Key,
    Operation,
    Put,
    Table,
    Update,
)
from turnkeeper.testing.conformance._help import fails, unique


class TableWriteConformance:
    table: Table

    def key(self, sk: str = "ITEM") -> Key:
        return Key(unique("writes"), sk)

    def put(self, item: dict[str, Any]) -> Key:
        key = self.key()
        self.table.write([Put(key, item)])
        return key

    def holds(self, key: Key, *conditions: Condition) -> bool:
        try:
            self.table.write([Check(key, conditions)])
        except ConditionFailed:
            return False
        return True

    # ---- values ----

    def test_an_item_comes_back_as_it_was_put(self) -> None:
        item = {
            "text": "Grüße 🙂 \u0000",
            "empty": "",
            "number": -(10**37),
            "zero": 0,
            "true": True,
            "false": False,
            "none": None,
            "bytes": b"\x00\xff",
            "list": [1, "1", None, True, [], {}],
            "map": {"a.b": {"c": [{"d": 1}]}, "S": "x", "é": {}},
        }
        key = self.put(item)
        read = self.table.get(key)
        assert read == {**item, "pk": key.pk, "sk": key.sk}
        assert read["true"] is True
        assert type(read["zero"]) is int

    def test_a_tuple_comes_back_as_a_list(self) -> None:
        key = self.put({"members": (1, (2,))})
        read = self.table.get(key)
        assert read is not None
        assert read["members"] == [1, [2]]

    def test_an_item_that_is_not_there_is_none(self) -> None:
        assert self.table.get(self.key()) is None

    def test_nobody_shares_state_with_the_table(self) -> None:
        item: dict[str, Any] = {"list": [1]}
        key = self.put(item)
        item["list"].append(2)
        read = self.table.get(key)
        assert read is not None
        read["list"].append(3)
        again = self.table.get(key)
        assert again is not None
        assert again["list"] == [1]

    def test_floats_and_other_things_are_refused(self) -> None:
        for value in (1.0, {"deep": [0.5]}, {1, 2}, object()):
            fails(TypeError, lambda value=value: self.put({"x": value}))  # type: ignore[misc]
            fails(TypeError, lambda value=value: self.table.update(Update(self.key(), set={"x": value})))  # type: ignore[misc]
        fails(TypeError, lambda: self.table.update(Update(self.key(), add={"x": 0.5})))  # type: ignore[dict-item]
        key = self.put({"x": 1})
        fails(TypeError, lambda: self.table.write([Check(key, (Cond("x", "<", 1.5),))]))

    def test_what_no_table_holds_is_refused(self) -> None:
        nested: list[Any] = []
        for _ in range(40):
            nested = [nested]
        for value in (10**38, nested, "x" * 410_000, {"": "no name"}, "\ud800"):
            fails(InvalidOperation, lambda value=value: self.put({"x": value}))  # type: ignore[misc]

    def test_attributes_may_have_any_name(self) -> None:
        names = ["status", "size", "a.b", "a[0]", "#0", ":0", "with space", "ü", "SET"]
        key = self.key()
        self.table.write([Put(key, dict.fromkeys(names, 1), tuple(Cond(name, "absent") for name in names))])
        after = self.table.update(
            Update(key, add=dict.fromkeys(names, 1), conditions=tuple(Cond(name, "=", 1) for name in names))
        )
        assert {name: after[name] for name in names} == dict.fromkeys(names, 2)

    def test_keys_are_strings_that_are_not_empty(self) -> None:
        for key in (Key("", "a"), Key("a", ""), Key("a", "x" * 1025), Key("x" * 2049, "a")):
            fails(InvalidOperation, lambda key=key: self.table.get(key))  # type: ignore[misc]
            fails(InvalidOperation, lambda key=key: self.table.write([Put(key, {})]))  # type: ignore[misc]
        fails(InvalidOperation, lambda: self.table.write([Put(self.key(), {"pk": "another"})]))

    # ---- puts, updates and checks ----

    def test_a_put_replaces_the_whole_item(self) -> None:
        key = self.put({"a": 1})
        self.table.write([Put(key, {"b": 2})])
        assert self.table.get(key) == {"pk": key.pk, "sk": key.sk, "b": 2}

    def test_a_put_where_there_must_be_nothing(self) -> None:
        key = self.key()
        self.table.write([Put(key, {"n": 1}, (ABSENT,))])
        failed = fails(ConditionFailed, lambda: self.table.write([Put(key, {"n": 2}, (ABSENT,))]))
        stands = {"pk": key.pk, "sk": key.sk, "n": 1}
        assert failed.failures == {0: stands}
        assert self.table.get(key) == stands

    def test_an_update_sets_adds_and_removes(self) -> None:
        key = self.put({"n": 5, "old": 1, "kept": 1})
        change = Update(key, set={"new": [None], "kept": 2}, add={"n": -7, "m": 3}, remove=("old", "never there"))
        after = self.table.update(change)
        assert after == {"pk": key.pk, "sk": key.sk, "n": -2, "m": 3, "new": [None], "kept": 2}
        assert self.table.get(key) == after

    def test_an_update_makes_the_item(self) -> None:
        key, other = self.key(), self.key()
        assert self.table.update(Update(key, add={"n": 1})) == {"pk": key.pk, "sk": key.sk, "n": 1}
        self.table.write([Update(other, set={"n": 1})])
        assert self.table.get(other) == {"pk": other.pk, "sk": other.sk, "n": 1}

    def test_an_update_of_nothing_makes_nothing_where_a_condition_forbids_it(self) -> None:
        key = self.key()
        change = Update(key, add={"n": 1}, conditions=(EXISTS,))
        assert fails(ConditionFailed, lambda: self.table.update(change)).failures == {0: None}
        assert fails(ConditionFailed, lambda: self.table.write([change])).failures == {0: None}
        assert self.table.get(key) is None

    def test_a_failed_update_tells_the_item_as_it_stood(self) -> None:
        key = self.put({"n": 1})
        change = Update(key, add={"n": 1}, conditions=(Cond("n", ">", 1),))
        stands = {"pk": key.pk, "sk": key.sk, "n": 1}
        assert fails(ConditionFailed, lambda: self.table.update(change)).failures == {0: stands}
        assert self.table.get(key) == stands

    def test_a_write_is_all_or_nothing_and_tells_every_failure(self) -> None:
        first, second, third, fourth = self.put({"n": 1}), self.key(), self.put({"n": 3}), self.key()
        operations: list[Operation] = [
            Update(first, add={"n": 1}),
            Put(second, {"n": 2}, (EXISTS,)),
            Check(third, (Cond("n", "=", 3), Cond("n", "<", 3))),
            Put(fourth, {"n": 4}, (ABSENT,)),
        ]
        failed = fails(ConditionFailed, lambda: self.table.write(operations))
        assert failed.failures == {1: None, 2: {"pk": third.pk, "sk": third.sk, "n": 3}}
        assert self.table.get(first) == {"pk": first.pk, "sk": first.sk, "n": 1}
        assert self.table.batch_get([second, fourth]) == []

    def test_a_write_of_many_operations(self) -> None:
        pk = unique("writes")
        self.table.write([])
        self.table.write([Put(Key(pk, f"{n:03}"), {"n": n}) for n in range(100)])
        assert [item["n"] for item in self.table.query_all(pk)] == list(range(100))

    def test_a_write_of_something_and_a_check_of_nothing(self) -> None:
        key, absent = self.key(), self.key()
        self.table.write([Put(key, {}), Check(absent, (ABSENT,))])
        assert self.table.get(key) == {"pk": key.pk, "sk": key.sk}
        assert self.table.get(absent) is None

    def test_defects_are_refused(self) -> None:
        key, other = self.put({"text": "a", "n": 1}), self.key()
        for operations in (
            [Put(other, {}), Update(other, add={"n": 1})],
            [Put(Key(other.pk, str(n)), {}) for n in range(101)],
            [Update(other)],
            [Update(other, set={"n": 1}, add={"n": 1})],
            [Update(other, set={"sk": "x"})],
            [Check(other, ())],
            [Check(other, (AnyOf(()),))],
            [Check(key, (Cond("n", "<", None),))],
            [Check(key, (Cond("n", "<", [1]),))],
            [Put(other, {}), Update(key, add={"text": 1})],
            [Put(other, {"user_key": 1, "created_key": "x"})],
            [Put(other, {"due_shard": ""})],
            [Update(other, set={"due_at": None})],
        ):
            fails(InvalidOperation, lambda operations=operations: self.table.write(operations))  # type: ignore[misc]
        assert self.table.query_all(other.pk) == []
        fails(InvalidOperation, lambda: self.table.update(Update(key, add={"text": 1})))
        assert self.table.get(key) == {"pk": key.pk, "sk": key.sk, "text": "a", "n": 1}

    def test_an_item_does_not_grow_over_the_limit(self) -> None:
        key = self.put({"a": "x" * 300_000})
        fails(InvalidOperation, lambda: self.table.update(Update(key, set={"b": "x" * 120_000})))
        fails(InvalidOperation, lambda: self.table.write([Update(key, set={"b": "x" * 120_000})]))
        read = self.table.get(key)
        assert read is not None
        assert "b" not in read

    # ---- conditions ----

    def test_comparisons(self) -> None:
        key = self.put({"n": 5, "s": "b", "b": b"b", "t": True, "z": None, "l": [1, {"a": 2}], "m": {"a": [1]}})
        for attribute, less, same, more in (("n", -40, 5, 40), ("s", "a", "b", "ba"), ("b", b"a", b"b", b"\xfb")):
            for op, truths in (
                ("<", (False, False, True)),
                ("<=", (False, True, True)),
                (">", (True, False, False)),
                (">=", (True, True, False)),
                ("=", (False, True, False)),
                ("<>", (True, False, True)),
            ):
                for value, truth in zip((less, same, more), truths, strict=True):
                    condition = Cond(attribute, op, value)  # type: ignore[arg-type]
                    assert self.holds(key, condition) is truth, condition
        others: dict[str, Any] = {"t": True, "z": None, "l": [1, {"a": 2}], "m": {"a": [1]}}
        for attribute, value in others.items():
            assert self.holds(key, Cond(attribute, "=", value))
            assert not self.holds(key, Cond(attribute, "<>", value))

    def test_types_are_told_apart(self) -> None:
        key = self.put({"n": 1, "t": True, "s": "1", "z": None, "f": False})
        for attribute, value in (("n", True), ("t", 1), ("s", 1), ("n", "1"), ("z", False), ("f", 0), ("n", None)):
            assert not self.holds(key, Cond(attribute, "=", value))
            assert self.holds(key, Cond(attribute, "<>", value))
        for op in ("<", "<=", ">", ">="):
            assert not self.holds(key, Cond("s", op, 1))
            assert not self.holds(key, Cond("n", op, "1"))

    def test_a_comparison_with_a_missing_attribute_is_false(self) -> None:
        for key in (self.put({"there": 1}), self.key()):
            for op in ("=", "<>", "<", "<=", ">", ">="):
                assert not self.holds(key, Cond("missing", op, 1)), op
            assert self.holds(key, Cond("missing", "absent"))
            assert not self.holds(key, Cond("missing", "exists"))

    def test_an_attribute_that_is_none_is_there(self) -> None:
        key = self.put({"z": None})
        assert self.holds(key, Cond("z", "exists"))
        assert not self.holds(key, Cond("z", "absent"))

    def test_all_conditions_must_hold_and_one_of_any(self) -> None:
        key = self.put({"n": 1, "m": 2})
        yes, no = Cond("n", "=", 1), Cond("m", "=", 1)
        assert not self.holds(key, yes, no)
        assert self.holds(key, AnyOf((no, yes)))
        assert self.holds(key, AnyOf((Cond("missing", "absent"), no)), yes)
        assert not self.holds(key, AnyOf((no, Cond("missing", "<", 1))))
        assert not self.holds(key, AnyOf((yes, no)), no)
        assert self.holds(key, AnyOf((Cond("m", "<>", 1),)), AnyOf((no, Cond("n", "<>", 2))))

    def test_one_attribute_in_change_and_conditions(self) -> None:
        key = self.put({"n": 1})
        change = Update(key, add={"n": 1}, conditions=(Cond("n", ">=", 1), Cond("n", "<", 3), Cond("n", "<>", 2)))
        assert self.table.update(change)["n"] == 2
        fails(ConditionFailed, lambda: self.table.update(change))
