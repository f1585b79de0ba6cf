"""What is reserved is never less than what is billed."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.support.heads import head
from tests.support.kit import MODEL, POLICY, MemoryKit
from tests.support.scripted import ScriptedModel, play
from tests.unit.core.test_canonical import ANY_JSON
from turnkeeper import Agent
from turnkeeper.core.errors import Uncountable
from turnkeeper.core.ledger import affordable_tokens, bound_nanousd
from turnkeeper.core.sent import json_bytes
from turnkeeper.core.session import Entry, Spec, ToolDefinition
from turnkeeper.ports import ModelRequest
from turnkeeper.runtime import requests
from turnkeeper.runtime.model_step import MAX_INPUT_TOKENS
from turnkeeper.testing.clock import ManualClock
from turnkeeper_local.standin import tokens as standin

HEAD = head(granted_tools=("find",))

texts = st.text(max_size=200)
json_values = st.recursive(st.none() | st.booleans() | st.integers() | texts, lambda inner: st.lists(inner, max_size=3))
inputs = st.dictionaries(texts, json_values, max_size=3)


def text(value: str) -> dict[str, Any]:
    return {"type": "text", "text": value}


def image(data: bytes) -> dict[str, Any]:
    source = {"type": "base64", "media_type": "image/png", "data": base64.b64encode(data).decode()}
    return {"type": "image", "source": source}


answers = st.lists(
    st.one_of(
        st.builds(text, texts),
        st.builds(lambda value: {"type": "tool_use", "id": "toolu_1", "name": "find", "input": value}, inputs),
        st.builds(lambda value: {"type": "thinking", "thinking": value, "signature": "s"}, texts),
    ),
    min_size=1,
    max_size=4,
)
results = st.lists(
    st.one_of(
        st.builds(lambda value: {"type": "tool_result", "tool_use_id": "toolu_1", "content": value}, texts),
        st.builds(
            lambda value, data: {
                "type": "tool_result",
                "tool_use_id": "toolu_1",
                "content": [text(value), image(data)],
            },
            texts,
            st.binary(max_size=40),
        ),
        st.builds(text, texts),
    ),
    min_size=1,
    max_size=4,
)


def entry(seq: int, kind: Any, content: list[dict[str, Any]]) -> Entry:
    return Entry(seq=seq, type=kind, at="", content=tuple(content))


def spec(system: str, description: str) -> Spec:
    schema = {"type": "object", "properties": {"q": {"type": "string", "description": description}}}
    tool = ToolDefinition(name="find", description=description, input_schema=schema, effect="read")
    return Spec(model="m", system=system, tools=(tool,))


def counted(request: ModelRequest) -> int:
    """What the stand-in model would bill as input."""
    asked = {"system": request.system, "tools": request.tools, "messages": request.messages}
    return standin.count(standin.segments(asked))


@settings(max_examples=150)
@given(texts, texts, st.lists(st.builds(text, texts), min_size=1, max_size=3), answers, results)
def test_the_cheap_bound_is_an_upper_bound(system: str, description: str, first: Any, answer: Any, result: Any) -> None:
    frozen = spec(system, description)
    entries = [entry(1, "user", first)]
    request = requests.build(HEAD, frozen, entries, {}, 100)
    bound = requests.input_bound(HEAD, request, entries)
    assert bound is not None and bound >= counted(request)

    # The next call knows exactly what this one had read.
    later = head(granted_tools=("find",), context_tokens=counted(request))
    entries += [entry(2, "assistant", answer), entry(3, "tool_results", result)]
    after = requests.build(later, frozen, entries, {}, 100)
    bound = requests.input_bound(later, after, entries)
    assert bound is not None and bound >= counted(after)


@settings(max_examples=300)
@example([1e-07, -2.5e-06])
@given(ANY_JSON)
def test_no_fewer_bytes_are_counted_than_are_sent(value: Any) -> None:
    try:
        sent = json_bytes(value)
    except (TypeError, ValueError):  # and such a request never is
        return
    assert requests.bytes_of(value) >= len(sent)


def test_a_tool_that_was_left_out_of_the_last_call_is_in_the_bound() -> None:
    frozen = Spec(
        model="m",
        system="Be.",
        tools=(ToolDefinition(name="find", description="Find.", input_schema=None, effect="read"),),
    )
    entries = [entry(1, "user", [text("hi")])]
    before = requests.build(HEAD, frozen, entries, {}, 100)
    later = head(granted_tools=("find",), context_tokens=counted(before))
    schemas = {"find": {"type": "object", "properties": {f"field_{n}": {"type": "string"} for n in range(200)}}}
    entries += [entry(2, "assistant", [text("yes")]), entry(3, "user", [text("on")])]
    after = requests.build(later, frozen, entries, schemas, 100)
    bound = requests.input_bound(later, after, entries, schemas)
    assert bound is not None and bound >= counted(after)


def test_a_small_file_may_be_a_large_image() -> None:
    """By the API's own rule of thumb an image counts by its pixels, whatever its bytes."""
    entries = [entry(1, "user", [image(b"x" * 60)])]
    request = requests.build(HEAD, spec("Be.", "Find."), entries, {}, 100)
    bound = requests.input_bound(HEAD, request, entries)
    assert bound is not None and bound > 4_800


def seen(block: dict[str, Any]) -> dict[str, Any]:
    return {"type": "document", "source": {"type": "content", "content": [block]}}


def returned(block: dict[str, Any]) -> dict[str, Any]:
    return {"type": "tool_result", "tool_use_id": "toolu_1", "content": [block]}


CALL = {"type": "tool_use", "id": "toolu_1", "name": "find", "input": {}}


@pytest.mark.parametrize("shaped", [lambda block: block, seen, returned], ids=["alone", "in a document", "in a result"])
@pytest.mark.parametrize("later", [False, True], ids=["first", "since the last answer"])
def test_a_large_file_is_an_image_too_and_no_text(shaped: Callable[[Any], Any], later: bool) -> None:
    """Megabytes of it, as they are kept of an address, reserve what an image may count and not a token a byte."""
    large = {**image(b"x" * 3_000_000), "fetched": {"from": "https://example.com/a", "sha256": "0", "bytes": 3_000_000}}
    entries = [entry(1, "user", [text("look")]), entry(2, "assistant", [CALL]), entry(3, "user", [shaped(large)])]
    request = requests.build(HEAD, spec("Be.", "Find."), entries, {}, 100)
    state = head(granted_tools=("find",), context_tokens=500) if later else HEAD
    bound = requests.input_bound(state, request, entries)
    assert bound is not None and 4_800 < bound < 10_000


@given(st.integers(0, 5_000))
def test_what_only_looks_like_an_image_is_text(size: int) -> None:
    call = {**CALL, "input": image(b"x" * size)}
    entries = [entry(1, "user", [text("look")]), entry(2, "assistant", [call])]
    request = requests.build(HEAD, spec("Be.", "Find."), entries, {}, 100)
    bound = requests.input_bound(HEAD, request, entries)
    assert bound is not None and bound >= max(counted(request), len(call["input"]["source"]["data"]))


@pytest.mark.parametrize(
    "source",
    [
        {"type": "url", "url": "https://example.com/a.pdf"},
        {"type": "file", "file_id": "file_1"},
        {"type": "base64", "media_type": "application/pdf", "data": "JVBERi0="},
    ],
)
@pytest.mark.parametrize("nested", [False, True])
def test_what_bytes_do_not_tell_has_to_be_counted(source: dict[str, Any], nested: bool) -> None:
    block: dict[str, Any] = {"type": "document", "source": source}
    entries = [entry(1, "user", [block])]
    if nested:
        call = {"type": "tool_use", "id": "toolu_1", "name": "find", "input": {}}
        result = {"type": "tool_result", "tool_use_id": "toolu_1", "content": [block]}
        entries = [entry(1, "user", [text("a")]), entry(2, "assistant", [call]), entry(3, "tool_results", [result])]
    request = requests.build(HEAD, spec("Be.", "Find."), entries, {}, 100)
    assert requests.input_bound(HEAD, request, entries) is None
    later = head(granted_tools=("find",), context_tokens=500)
    assert requests.input_bound(later, request, [entry(0, "assistant", [text("a")]), *entries]) is None


class Countless(ScriptedModel):
    """A provider that counts nothing, as Bedrock."""

    def count_tokens(self, request: ModelRequest) -> int:
        raise Uncountable("no")


@pytest.mark.parametrize(("task_usd", "end"), [("50.00", "end_turn"), ("1.00", "cost_cap")])
def test_where_nobody_counts_a_document_is_reserved_for_in_full_or_refused_with_the_reason(
    task_usd: str, end: str
) -> None:
    """The context window is the most that a call can read; a cap with less room than that refuses as it always does."""
    source = {"type": "base64", "media_type": "application/pdf", "data": "JVBERi0="}
    plans = {"standard": {**POLICY["plans"]["standard"], "task_usd": task_usd, "user_daily_usd": "unlimited"}}
    agent = Agent(name="reader", model=MODEL, system="You read.")
    kit = MemoryKit([agent], model=Countless(), runner="none", clock=ManualClock(), policy={**POLICY, "plans": plans})
    head = play(kit, "reader", [{"type": "document", "source": source}])
    assert head.stop is not None
    assert head.stop.reason == end
    reserved = [call["amount_nanousd"] for call in kit.sessions.calls("acme", head.session_id)]
    most = kit.prices.rates(MODEL, {}).input_nanousd * MAX_INPUT_TOKENS // 1_000_000
    assert reserved == [] if end == "cost_cap" else min(reserved) > most


def test_a_document_of_text_is_what_its_bytes_say() -> None:
    block = {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "a" * 4_000}}
    entries = [entry(1, "user", [block])]
    request = requests.build(HEAD, spec("Be.", "Find."), entries, {}, 100)
    bound = requests.input_bound(HEAD, request, entries)
    assert bound is not None and bound >= counted(request)
    assert len(json.dumps(block)) < bound


rates = st.integers(0, 10**11)


@given(st.integers(0, 10**12), st.integers(0, 10**6), rates, rates, st.integers(0, 10**9))
def test_what_is_affordable_fits_and_one_more_would_not(
    budget: int, input_tokens: int, input_rate: int, output_rate: int, fixed: int
) -> None:
    tokens = affordable_tokens(budget, input_tokens, input_rate, output_rate, fixed)
    if tokens < 0:
        assert bound_nanousd(input_tokens, 0, input_rate, output_rate, fixed) > budget
        return
    assert bound_nanousd(input_tokens, tokens, input_rate, output_rate, fixed) <= budget
    if output_rate:
        assert bound_nanousd(input_tokens, tokens + 1, input_rate, output_rate, fixed) > budget
