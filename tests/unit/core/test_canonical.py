"""JSON that is written in one way only."""

from __future__ import annotations

import json
import random
import re
from datetime import date
from decimal import Decimal
from enum import IntEnum, StrEnum
from typing import Any

import pytest
import rfc8785
from hypothesis import example, given, settings
from hypothesis import strategies as st

from turnkeeper.core.canonical import (
    canonical_json,
    json_text,
    plain_json,
    sorted_json,
    stored_json,
    without_surrogates,
)


class Word(StrEnum):
    ONE = "one"


class Number(IntEnum):
    ONE = 1


PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53) + 1, 2**53 - 1) | st.text(st.characters(codec="utf-8")),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(st.characters(codec="utf-8")), inner, max_size=4)
    ),
)


@settings(max_examples=300)
@given(PLAIN)
def test_canonical_json_is_rfc_8785(value: Any) -> None:
    assert canonical_json(value) == rfc8785.dumps(value)


def test_canonical_orders_by_utf16_and_refuses_what_it_cannot_write() -> None:
    keys = {"\U0001f600": 1, "\ufb33": 2, "a": 3}
    assert canonical_json(keys) == rfc8785.dumps(keys)
    with pytest.raises(TypeError):
        canonical_json({"x": 1.5})
    with pytest.raises(ValueError, match="integer"):
        canonical_json(2**53)


def test_half_a_character_has_no_canonical_form() -> None:
    for value in ("\ud800", {"\ud800": 1}, ["a", "\udfff"]):
        with pytest.raises(UnicodeEncodeError):
            canonical_json(value)


@settings(max_examples=300)
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    )
)
@example([float("inf"), float("-inf"), 1e-5, 1e16, -0.0, 2**70, "\x7f\u2028\x00"])
def test_what_is_stored_reads_back_as_what_is_written(value: Any) -> None:
    assert repr(json.loads(stored_json(value))) == repr(json.loads(json_text(value)))


@pytest.mark.parametrize("depth", [200, 300, 400, 600])
def test_what_is_nested_deep_is_written_as_well(depth: int) -> None:
    value: Any = []
    for _ in range(depth):
        value = [value]
    assert json.loads(stored_json(value)) == value
    assert sorted_json(value) == b"[" * depth + b"[]" + b"]" * depth


@settings(max_examples=200)
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.decimals(),
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    )
)
def test_plain_json_is_stable_and_can_be_hashed(value: Any) -> None:
    once = plain_json(value)
    assert plain_json(once) == once
    canonical_json(once)


@given(PLAIN, st.booleans(), st.booleans(), st.randoms(use_true_random=False))
def test_sorted_json_is_json_whatever_the_order_of_keys(
    value: Any, ascii: bool, spaced: bool, chance: random.Random
) -> None:
    written = sorted_json(value, ascii=ascii, spaced=spaced)
    assert json.loads(written) == value
    assert sorted_json(_shuffled(value, chance), ascii=ascii, spaced=spaced) == written


#: JSON of any kind, and what `json` takes for such.
ANY_JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(st.characters(exclude_categories=()))
    | st.sampled_from([Word.ONE, Number.ONE, 2**70, 1e-5, 1e-7, 1e16, -0.0, b"raw", Decimal("1.0"), date(2026, 1, 1)]),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.lists(inner, max_size=4).map(tuple)
        | st.dictionaries(st.text(st.characters(exclude_categories=())), inner, max_size=4)
        | st.dictionaries(st.integers() | st.booleans() | st.none() | st.sampled_from(Word), inner, max_size=2)
    ),
)


@settings(max_examples=500)
@given(ANY_JSON)
def test_sorted_json_has_the_bytes_of_json(value: Any) -> None:
    """Hashes of them are stored."""
    encoder = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False, default=str)
    try:
        written = encoder.encode(value).encode("utf-8", "surrogatepass")
    except TypeError as error:  # names of several kinds have no order
        with pytest.raises(TypeError, match=re.escape(str(error))):
            sorted_json(value)
    else:
        assert sorted_json(value) == written


def _shuffled(value: Any, chance: random.Random) -> Any:
    if isinstance(value, dict):
        names = chance.sample(list(value), len(value))
        return {name: _shuffled(value[name], chance) for name in names}
    return [_shuffled(item, chance) for item in value] if isinstance(value, list) else value


def test_sorted_json_takes_what_is_no_json() -> None:
    assert sorted_json({"b": "half \ud800", "a": b"raw"}) == b'{"a":"b\'raw\'","b":"half \xed\xa0\x80"}'
    assert sorted_json(["é"], ascii=True, spaced=True) == b'["\\u00e9"]'
    assert sorted_json({"a": [1, 2]}, spaced=True) == b'{"a": [1, 2]}'


#: All that a str can hold, lone surrogates included.
ANY_TEXT = st.text(st.characters(exclude_categories=()) | st.sampled_from("\ud800\udfff"))


@given(ANY_TEXT)
def test_a_text_without_surrogates_can_be_encoded(text: str) -> None:
    clean = without_surrogates(text)
    clean.encode()
    for new, old in zip(clean, text, strict=True):
        assert new == ("\ufffd" if "\ud800" <= old <= "\udfff" else old)
