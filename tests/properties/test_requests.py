"""Whatever an author and a transcript bring along, a request is one that the API takes."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.properties.test_projection import transcripts
from tests.support.examples import examples
from tests.support.heads import head
from turnkeeper.core.cache_markers import options_problem
from turnkeeper.core.session import Account, Entry, Spec, ToolDefinition
from turnkeeper.runtime import requests
from turnkeeper_local.standin.validate import validate_message

pytestmark = pytest.mark.examples

MARKERS = st.sampled_from(
    [None, {"type": "ephemeral"}, {"type": "ephemeral", "ttl": "5m"}, {"type": "ephemeral", "ttl": "1h"}]
)
SCHEMA = {"type": "object", "properties": {"a": {"type": "string"}}}


@st.composite
def options(draw: st.DrawFn) -> dict[str, Any]:
    """An author's, with as many markers as may be."""
    found: dict[str, Any] = {}
    if draw(st.booleans()):
        found["cache_control"] = draw(MARKERS)
    tools = draw(st.lists(MARKERS, max_size=5))
    if tools or draw(st.booleans()):
        found["tools"] = [
            {"type": "web_search_20250305", "name": f"search_{n}", "max_uses": 1, "cache_control": marker}
            for n, marker in enumerate(tools)
        ]
    return found


def markers(value: Any) -> int:
    if isinstance(value, dict):
        return bool(value.get("cache_control")) + sum(map(markers, value.values()))
    return sum(map(markers, value)) if isinstance(value, list) else 0


@settings(max_examples=examples(150, all=400), deadline=None)
@given(transcripts(), options().filter(lambda made: options_problem(made) is None), st.integers(0, 2))
def test_a_request_has_no_more_markers_than_the_api_takes(
    entries: list[Entry], chosen: dict[str, Any], tools: int
) -> None:
    definitions = tuple(
        ToolDefinition(name=f"t{n}", description="d", input_schema=SCHEMA, effect="read") for n in range(tools)
    )
    spec = Spec(model="m", system="s", tools=definitions, model_options=chosen)
    session = head(granted_tools=tuple(each.name for each in definitions))
    request = requests.build(session, spec, entries, {}, 100)
    if not request.messages:
        return  # Everything was left out: there is nothing to ask.
    body = {**request.options, "model": "m", "max_tokens": 100, "messages": request.messages}
    body |= {"system": request.system, "tools": [*request.tools, *request.options.get("tools", ())]}
    validate_message(json.loads(json.dumps(body)), beta=False)
    assert markers(chosen) <= markers(body) <= 4


@settings(max_examples=examples(150, all=400), deadline=None)
@given(transcripts(), st.integers(0, 100))
def test_what_a_request_may_read_is_known_whatever_it_holds(entries: list[Entry], read: int) -> None:
    """What only looks like an address or a file, as in the arguments of a call, needs nobody to count it."""
    spec = Spec(model="m", system="s", tools=(), model_options={})
    session = head(account=Account(context_tokens=read))
    request = requests.build(session, spec, entries, {}, 100)
    bound = requests.input_bound(session, request, entries)
    assert bound is not None and bound > 0
    about = requests.estimate(session, entries, "m")
    assert about is None or about >= read
