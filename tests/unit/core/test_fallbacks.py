"""Which model answers, and what it is sent of what others said."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.heads import head
from turnkeeper.core.agent import Agent, Limits
from turnkeeper.core.errors import ProviderError
from turnkeeper.core.fallbacks import answered_by, may_think, model_of, next_model
from turnkeeper.core.lifecycle.running import fall_back
from turnkeeper.core.projection import project
from turnkeeper.core.session import Entry, Spec

SPEC = Spec(model="a", system="s", tools=(), fallback_models=("b", "c"))
BLOCKS = [
    {"type": "thinking", "thinking": "hm", "signature": "x"},
    {"type": "redacted_thinking", "data": "x"},
    {"type": "text", "text": "words"},
    {"type": "tool_use", "id": "toolu_1", "name": "look", "input": {}},
]


def failed(status: int | None, **more: Any) -> ProviderError:
    return ProviderError("no", retryable=status != 404, certainty="unbilled", status_code=status, **more)


def entries() -> st.SearchStrategy[list[Entry]]:
    answers = st.builds(
        Entry,
        type=st.just("assistant"),
        at=st.just("now"),
        content=st.lists(st.sampled_from(BLOCKS)).map(tuple),
        model=st.sampled_from("abc"),
        requested_model=st.none() | st.sampled_from("abc"),
    )
    others = st.builds(Entry, type=st.sampled_from(["user", "tool_results", "status"]), at=st.just("now"))
    return st.lists(answers | others)


@given(before=entries(), model=st.sampled_from("abc"))
def test_a_model_is_sent_its_own_thoughts_only(before: list[Entry], model: str) -> None:
    numbered = [replace(entry, seq=seq) for seq, entry in enumerate(before, start=1)]
    sent = [block for message in project(numbered, model=model).messages for block in message["content"]]
    own = [block for entry in numbered if answered_by(entry, model) for block in entry.content]
    thoughts = {each: sum(block["type"] == each for block in own) for each in ("thinking", "redacted_thinking")}
    for each, most in thoughts.items():
        assert sum(block["type"] == each for block in sent) <= most


@given(before=entries(), model=st.sampled_from("abc"))
def test_thinking_is_off_only_behind_calls_whose_thoughts_are_left_out(before: list[Entry], model: str) -> None:
    answers = [entry for entry in before if entry.type == "assistant"]
    foreign = bool(answers) and not answered_by(answers[-1], model) and BLOCKS[3] in answers[-1].content
    assert may_think(before, model) == (not foreign)


@given(
    most=st.integers(1, 20),
    statuses=st.lists(st.sampled_from([404, 429, 500, 503, 529, None]), min_size=40, max_size=40),
)
def test_models_follow_in_their_order_and_attempts_end(most: int, statuses: list[int | None]) -> None:
    """However it fails, a call makes no more attempts than its limit and one for each model that follows."""
    state, attempts, models = head(limits=Limits(max_attempts=most)), 0, ["a"]
    for status in statuses:
        attempts += 1
        state = head(limits=state.limits, attempts=attempts, model=state.turn.model)
        error = failed(status)
        following = next_model(state, SPEC, error)
        if following is not None:
            state = fall_back(state, following)
            models.append(following)
        elif not error.retryable or attempts >= most:
            break
    assert models == ["a", "b", "c"][: len(models)]
    assert attempts <= most + 2


@pytest.mark.parametrize(
    ("status", "attempts", "following"),
    [(404, 1, "b"), (529, 1, None), (529, 2, None), (529, 3, "b"), (503, 3, "b"), (429, 5, None), (500, 5, None)],
)
def test_what_is_gone_is_given_up_at_once_and_what_is_overloaded_after_half(
    status: int, attempts: int, following: str | None
) -> None:
    state = head(limits=Limits(max_attempts=5), attempts=attempts)
    assert next_model(state, SPEC, failed(status)) == following
    last = fall_back(state, "c")
    assert (model_of(last, SPEC), next_model(last, SPEC, failed(status))) == ("c", None)


def test_what_is_not_asked_any_more_is_given_up() -> None:
    assert next_model(head(), SPEC, failed(None, asked=False)) == "b"


@pytest.mark.parametrize("models", ["b", ["a"], ["b", "b"]])
def test_fallbacks_are_other_models(models: Any) -> None:
    with pytest.raises(ValueError, match="fallback_models"):
        Agent(name="one", model="a", system="s", fallback_models=models)
