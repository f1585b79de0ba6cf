"""What an answer says of its tokens is believed where it can be true, and never less than nothing."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.checks import check_ledger
from tests.support.scripted import begin, reply, say, scripted_kit, states
from turnkeeper.adapters.anthropic_stream import PartialMessage, counted
from turnkeeper.adapters.prices import BundledPrices
from turnkeeper.core.errors import UnpricedModel
from turnkeeper.core.usage import Usage
from turnkeeper.gateway.reading import Meter

NAMES = ["input_tokens", "output_tokens", "cache_read_input_tokens", "cache_creation_input_tokens"]
COUNTS = st.one_of(
    st.integers(0, 10**6),
    st.sampled_from([-1, -(10**9), 10**30, 1.5, float("inf"), float("nan"), True, "many", "5", [1], {"x": -1}, None]),
)
USAGES = st.dictionaries(
    st.sampled_from([*NAMES, "service_tier", "speed", "inference_geo", "iterations", "new"]), COUNTS, max_size=5
)


@settings(max_examples=500, deadline=None)
@given(USAGES, st.dictionaries(st.sampled_from(["web_search_requests", "new_requests"]), COUNTS, max_size=2))
def test_a_usage_can_be_counted_priced_and_stored_or_is_none(usage: dict[str, Any], served: dict[str, Any]) -> None:
    known = counted({**usage, "server_tool_use": served})
    json.dumps(known, allow_nan=False)
    assert all(getattr(Usage.of(known), name) >= 0 for name in NAMES)
    try:
        cost = BundledPrices().cost_nanousd("claude-sonnet-5-5", known, {})
    except UnpricedModel:
        return  # Which is booked at all that was reserved.
    assert cost >= 0


def test_true_counts_are_told_as_they_came() -> None:
    usage = {"input_tokens": 3, "output_tokens": 0, "cache_creation": {"ephemeral_5m_input_tokens": 2}, "new": None}
    assert counted(usage) == usage


def deep(levels: int) -> dict[str, Any]:
    return {"deeper": deep(levels - 1)} if levels else {}


#: What an answer says of its tokens where it begins and where it ends, and nobody can say what it costs.
UNCOUNTED = [
    ({"input_tokens": -7, "output_tokens": 1}, {"output_tokens": 1}),
    # What was written by then is next to nothing.
    ({"input_tokens": 7, "output_tokens": 1}, None),
    ({"input_tokens": 7, "output_tokens": 1}, {}),
    ({"input_tokens": 7, "output_tokens": 1}, {"output_tokens": None}),
    ({"input_tokens": 7, "output_tokens": 1}, {"input_tokens": 7}),
    # What was read is missing.
    (None, {"output_tokens": 5}),
    ({"output_tokens": 1}, {"output_tokens": 5}),
    ({"input_tokens": 7, "output_tokens": 1, "new": deep(900)}, {"output_tokens": 5}),
]


def stream_of(begins: dict[str, Any] | None, ends: dict[str, Any] | None) -> list[dict[str, Any]]:
    return [
        {"type": "message_start", "message": {"id": "m", "model": "claude-sonnet-5-5", "usage": begins}},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": "hello"}},
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": ends},
        {"type": "message_stop"},
    ]


@pytest.mark.parametrize(("begins", "ends"), UNCOUNTED)
def test_what_passes_the_gateway_without_counts_has_no_price(begins: Any, ends: Any) -> None:
    meter = Meter()
    for event in stream_of(begins, ends):
        meter.feed(f"data: {json.dumps(event)}\n\n".encode())
    assert meter.stopped and meter.billed == {}


@pytest.mark.parametrize(("begins", "ends"), UNCOUNTED)
def test_an_answer_without_counts_costs_what_was_reserved_for_it(begins: Any, ends: Any) -> None:
    answer = PartialMessage()
    for event in stream_of(begins, ends):
        answer.feed(event)
    uncounted = answer.reply(None)
    kit = scripted_kit(uncounted, reply(say("ok")), tools=[])
    head = kit.run(begin(kit))
    assert head.status == "idle"
    assert states(kit, head) == {"in_doubt": 1}
    calls = kit.sessions.calls(head.tenant_id, head.session_id)
    check_ledger(head, calls)
    assert head.account.cost_nanousd == calls[0]["amount_nanousd"] > 0
