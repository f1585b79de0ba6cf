"""Repetition and error streaks, as pure state."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from turnkeeper.core.breakers import WINDOW, Call, Repetition, call_hash, poll_hash, see_calls, see_outcomes
from turnkeeper.core.session import Breakers


def same(one: str, other: str, **options: Any) -> bool:
    """Whether two calls, as the model writes their arguments, count as one."""
    return call_hash("t", json.loads(one), **options) == call_hash("t", json.loads(other), **options)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ('{"a": 1, "b": 2}', '{"b": 2, "a": 1}'),
        ('{"a": 1}', '{"a": 1.0}'),
        ('{"a": 1}', '{"a": 1e0}'),
        ('{"a": 100}', '{"a": 1e2}'),
        ('{"a": 0}', '{"a": -0.0}'),
        ('{"a": 1e22}', '{"a": 10000000000000000000000}'),
        ('{"a": "x y"}', '{"a": "  x \\n\\t y "}'),
        ('{"a": "x y"}', '{"a": "x\\u00a0y"}'),
        ('{" a ": 1}', '{"a": 1}'),
        ('{"a": {"b": [1, {"c": 2.0, "d": 3}]}}', '{"a": {"b": [1.0, {"d": 3, "c": 2}]}}'),
        ('{"sql": "SELECT 1  FROM t"}', '{"sql": "SELECT 1\\nFROM t"}'),
        ("{}", "{ }"),
    ],
)
def test_the_same_call_in_other_clothes(one: str, other: str) -> None:
    assert same(one, other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ('{"a": 1}', '{"a": 2}'),
        ('{"a": 1}', '{"b": 1}'),
        ('{"a": 1}', '{"a": true}'),
        ('{"a": 0}', '{"a": false}'),
        ('{"a": null}', "{}"),
        ('{"a": 1.5}', '{"a": 1.25}'),
        ('{"a": [1, 2]}', '{"a": [2, 1]}'),
        ('{"a": "xy"}', '{"a": "x y"}'),
        ('{"a": "X"}', '{"a": "x"}'),
        ('{"a": []}', '{"a": {}}'),
        ('{"a": ""}', '{"a": null}'),
    ],
)
def test_another_call(one: str, other: str) -> None:
    assert not same(one, other)


def test_the_tool_is_part_of_it() -> None:
    assert call_hash("one", {}) != call_hash("two", {})


def test_volatile_arguments_are_left_out() -> None:
    assert same('{"a": 1, "request_id": "x"}', '{"request_id": "y", "a": 1}', volatile={"request_id"})
    assert not same('{"a": 1, "request_id": "x"}', '{"request_id": "y", "a": 2}', volatile={"request_id"})


@pytest.mark.parametrize("value", [float("inf"), float("nan"), "half \ud800 pair", "x" * 1_000_000, 10**400, b"raw"])
def test_odd_values_have_a_hash(value: Any) -> None:
    assert call_hash("t", {"a": value}) == call_hash("t", {"a": value})


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**6), 10**6) | st.floats(-1e6, 1e6) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=12,
)


@given(st.dictionaries(st.text(max_size=5), JSON, max_size=5), st.randoms())
def test_order_of_keys_and_forms_of_numbers_never_hide_a_call(arguments: dict[str, Any], random: Any) -> None:
    assert call_hash("t", _disguised(arguments, random)) == call_hash("t", arguments)


def _disguised(value: Any, random: Any) -> Any:
    match value:
        case bool() | None:
            return value
        case int():
            return float(value)
        case str():
            return f" {value}\n"
        case dict() if len({" ".join(key.split()) for key in value}) == len(value):
            items = list(value.items())
            random.shuffle(items)
            return {key: _disguised(item, random) for key, item in items}
        case list():
            return [_disguised(item, random) for item in value]
    return value


def strikes(sequence: str, limit: int = 3, *, step: int = 1) -> list[Repetition | None]:
    """What the breaker says to each answer, where each letter is a call and each answer makes ``step`` of them."""
    state = Breakers()
    said = []
    for start in range(0, len(sequence), step):
        calls = [Call(letter, {}, letter) for letter in sequence[start : start + step]]
        state, repetition = see_calls(state, calls, limit)
        said.append(repetition)
    return said


@pytest.mark.parametrize(
    ("sequence", "trips_at"), [("AAA", 3), ("ABABAB", 5), ("ABCABCABC", 7), ("AXAYA", 5), ("ABCDEFGHABCDEFGHA", 17)]
)
def test_loops_and_cycles_trip_at_the_third_strike(sequence: str, trips_at: int) -> None:
    said = strikes(sequence)
    final = [index + 1 for index, repetition in enumerate(said) if repetition is not None and repetition.final]
    assert final[0] == trips_at
    # The model was warned about this very call before.
    tripped = said[trips_at - 1]
    assert tripped is not None
    assert any(earlier and earlier.call == tripped.call and not earlier.final for earlier in said[: trips_at - 1])


def test_three_same_calls_in_one_answer_trip() -> None:
    [repetition] = strikes("AAA", step=3)
    assert repetition is not None
    assert repetition.final
    assert repetition.times == 3


def test_two_same_calls_in_one_answer_only_warn() -> None:
    [repetition] = strikes("AA", step=2)
    assert repetition is not None
    assert not repetition.final


def test_ordinary_work_never_trips() -> None:
    assert strikes("ABCDEFGHIJKLMNOPQRSTUVWXYZ" * 2, step=1).count(None) == 52
    assert strikes("ABCDEFGHIJKLMNOPQRSTUVWX" + "A", step=5)[0] is None


def test_what_is_long_past_is_forgotten() -> None:
    others = "".join(chr(0x100 + number) for number in range(WINDOW))
    assert [said for said in strikes(f"A{others}A{others}A") if said] == []


def test_the_limit_is_the_agents() -> None:
    assert [said.final for said in strikes("AAAAA", limit=5) if said] == [False, True]


def test_the_window_is_bounded_whatever_one_answer_asks() -> None:
    state, _ = see_calls(Breakers(), [Call("t", {}, str(number)) for number in range(1_000)], 3)
    assert len(state.window) == WINDOW


def test_the_worst_repetition_is_told() -> None:
    state = Breakers(window=("A", "A", "B"))
    _, repetition = see_calls(state, [Call("b", {}, "B"), Call("a", {}, "A")], 3)
    assert repetition is not None
    assert repetition.call.tool == "a"


def test_a_poll_is_its_call_with_what_it_saw() -> None:
    call = call_hash("poll", {"id": 1})
    assert poll_hash(call, "10%") != poll_hash(call, "20%")
    assert poll_hash(call, "10%") == poll_hash(call, "10%")


def test_error_streaks() -> None:
    state = Breakers()
    for failed, total, streak in [(1, 1, 1), (2, 2, 2), (0, 0, 2), (1, 2, 0), (3, 3, 1), (0, 1, 0)]:
        state = see_outcomes(state, failed=failed, total=total)
        assert state.error_streak == streak
