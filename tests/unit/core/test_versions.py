"""Versions: their names, and what they hold."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from turnkeeper import Agent, tool
from turnkeeper.core.session import Spec
from turnkeeper.core.versions import spec_of, version_of


@tool(scopes={"a:read"})
def ask(question: str) -> str:
    """Ask."""
    return question


AGENT = Agent(name="one", model="m", system="s", tools=[ask])
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(options=st.dictionaries(st.text(), JSON, max_size=4), data=st.data())
def test_the_order_of_keys_makes_no_other_version(options: dict[str, Any], data: st.DataObject) -> None:
    other = dict(data.draw(st.permutations(list(options.items()))))
    versions = {version_of(spec_of(replace(AGENT, model_options=each))) for each in (options, other)}
    assert len(versions) == 1


@given(options=st.dictionaries(st.text(), JSON, max_size=4))
def test_a_version_that_was_stored_has_the_same_name(options: dict[str, Any]) -> None:
    spec = spec_of(replace(AGENT, model_options=options))
    assert version_of(Spec.model_validate_json(spec.model_dump_json())) == version_of(spec)


@pytest.mark.parametrize(
    "other",
    [
        replace(AGENT, model="n"),
        replace(AGENT, system="t"),
        replace(AGENT, tools=[]),
        replace(AGENT, tools=[replace(ask, description="Ask nicely.")]),
        replace(AGENT, tools=[replace(ask, effect="once")]),
        replace(AGENT, model_options={"temperature": 0.5}),
        replace(AGENT, done="end_task"),
    ],
)
def test_whatever_the_model_is_sent_makes_another_version(other: Agent) -> None:
    assert version_of(spec_of(other)) != version_of(spec_of(AGENT))


@pytest.mark.parametrize("more", [{"formerly": "old"}, {"formerly": ["Old"]}, {"pin": "turn"}])
def test_what_an_agent_may_not_say_of_its_past(more: Any) -> None:
    with pytest.raises(ValueError, match=r"formerly|agent name|pin"):
        replace(AGENT, **more)


def test_what_the_model_is_not_sent_makes_none() -> None:
    other = replace(AGENT, name="two", formerly=("one",), placement="background", pin="session")
    assert version_of(spec_of(other)) == version_of(spec_of(AGENT))
