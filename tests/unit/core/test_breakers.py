"""Repetition and error streaks, as pure state."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from turnkeeper.core.breakers import (
    WINDOW,
    Call,
    Repetition,
    call_hash,
    poll_hash,
    see_calls,
    see_outcomes,
    see_results,
)
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


@dataclass(frozen=True)
class Step:
    """One call of one answer: which, what it sees, and whether it changes something."""

    name: str
    result: str
    changes: bool


def trips_at(steps: list[Step], limit: int) -> tuple[int, str] | None:
    """At which step the breaker trips, and whether before or after the call ran."""
    state = Breakers()
    for number, step in enumerate(steps):
        call = Call(step.name, {}, call_hash(step.name, {}))
        state, repetition = see_calls(state, [call], limit)
        if repetition and repetition.final:
            return number, "before"
        changed = {call.hash} if step.changes else set()
        state, repetition = see_results(state, [call], [step.result], limit, changed=changed)
        if repetition and repetition.final:
            return number, "after"
    return None


def should_trip_at(steps: list[Step], limit: int) -> tuple[int, str] | None:
    """The same, from the words of the rule."""
    for number, step in enumerate(steps):
        same = [earlier for earlier in range(number + 1) if steps[earlier].name == step.name]
        by_others = [at for at in range(number) if steps[at].changes and steps[at].name != step.name]
        unchanged = [at for at in same if at > max(by_others, default=-1)]
        if len(unchanged) >= limit or len(same) >= 2 * limit:
            return number, "before"
        if sum(steps[at].result == step.result for at in same) >= limit:
            return number, "after"
    return None


STEPS = st.lists(st.builds(Step, st.sampled_from("AB"), st.sampled_from("123456789"), st.booleans()), max_size=WINDOW)


@settings(max_examples=500)
@given(STEPS, st.integers(2, 4))
def test_a_call_is_repeated_where_nothing_changed_or_it_saw_the_same(steps: list[Step], limit: int) -> None:
    assert trips_at(steps, limit) == should_trip_at(steps, limit)


@pytest.mark.parametrize("limit", [2, 3, 5])
def test_reading_again_after_each_change_is_no_repetition_until_twice_the_strikes(limit: int) -> None:
    steps = [
        step
        for number in range(20)
        for step in (Step("balance", str(number), changes=False), Step(f"transfer {number}", "done", changes=True))
    ]
    assert trips_at(steps, limit) == (4 * limit - 2, "before")


@pytest.mark.parametrize("limit", [2, 3, 5])
def test_reading_the_same_again_after_each_change_is_one(limit: int) -> None:
    steps = [step for _ in range(20) for step in (Step("look", "x", changes=False), Step("act", "y", changes=True))]
    assert trips_at(steps, limit) == (2 * limit - 2, "after")


@given(st.integers(2, 5), st.lists(st.text(max_size=2), min_size=8, max_size=8))
def test_what_changes_itself_only_is_repeated_like_any_other(limit: int, results: list[str]) -> None:
    assert trips_at([Step("send", result, changes=True) for result in results], limit) == (limit - 1, "before")


def test_error_streaks() -> None:
    state = Breakers()
    for failed, total, streak in [(1, 1, 1), (2, 2, 2), (0, 0, 2), (1, 2, 0), (3, 3, 1), (0, 1, 0)]:
        state = see_outcomes(state, failed=failed, total=total)
        assert state.error_streak == streak
