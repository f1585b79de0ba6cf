from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from turnkeeper.adapters.table_values import from_wire, item_size, item_to_wire, to_wire

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
names = texts.filter(bool)
values = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**38) + 1, 10**38 - 1) | texts | st.binary(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(names, inner, max_size=4),
    max_leaves=20,
)


@given(values)
def test_values_come_back_with_their_types(value: Any) -> None:
    back = from_wire(to_wire(value))
    assert back == value
    assert to_wire(back) == to_wire(value)


@pytest.mark.parametrize(("text", "number"), [("5", 5), ("-0", 0), ("1E+3", 1000), ("12.00", 12)])
def test_whole_numbers_of_another_hand_are_read(text: str, number: int) -> None:
    assert from_wire({"N": text}) == number


@pytest.mark.parametrize("wire", [{"N": "0.5"}, {"SS": ["a"]}, {"NS": ["1"]}])
def test_what_is_never_written_is_not_read(wire: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"."):
        from_wire(wire)


@given(st.binary(max_size=20))
def test_bytes_count_as_bytes(value: bytes) -> None:
    assert item_size(item_to_wire({"b": value, "l": [value]})) == 1 + len(value) + 1 + 3 + 1 + len(value)


def test_sizes_count_names_and_values() -> None:
    assert item_size(item_to_wire({"ab": "ü", "c": None, "d": b"123"})) == 2 + 2 + 1 + 1 + 1 + 3
    assert item_size(item_to_wire({"l": ["x"]})) == 1 + 3 + 1 + 1
