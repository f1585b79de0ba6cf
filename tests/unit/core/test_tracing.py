"""Places in traces follow from the session, and from the request that asked for its turn."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.heads import head
from turnkeeper.core import tracing
from turnkeeper.core.tracing import NOWHERE, SpanContext, origin_of, parse

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


@pytest.mark.parametrize(
    ("text", "sampled"),
    [
        (f"00-{TRACE}-{SPAN}-01", True),
        (f"00-{TRACE}-{SPAN}-00", False),
        (f" 00-{TRACE}-{SPAN}-03 ", True),
        (f"cc-{TRACE}-{SPAN}-01-what-comes-later", True),
    ],
)
def test_what_the_standard_allows_is_read(text: str, sampled: bool) -> None:
    assert parse(text) == SpanContext(TRACE, SPAN, sampled)


@pytest.mark.parametrize(
    "text",
    [
        *(None, "", "00", f"ff-{TRACE}-{SPAN}-01", f"00-{'0' * 32}-{SPAN}-01", f"00-{TRACE}-{'0' * 16}-01"),
        *(f"00-{TRACE.upper()}-{SPAN}-01", f"00-{TRACE}-{SPAN}-1", f"00-{TRACE[:-1]}-{SPAN}-01"),
        f"00-{TRACE}-{SPAN}-01, 00-{TRACE}-{SPAN}-01",
    ],
)
def test_what_says_nothing_begins_a_trace_anew(text: str | None) -> None:
    assert parse(text) is None
    assert origin_of(text, "") == NOWHERE


@given(st.text(max_size=80))
def test_nothing_that_comes_from_outside_is_kept_but_a_place_in_a_trace(text: str) -> None:
    kept = origin_of(text, text).traceparent
    assert kept is None or parse(kept) == parse(text)


def test_a_turn_is_in_its_callers_trace_or_in_one_of_its_own() -> None:
    alone = head()
    own = tracing.turn_context(alone)
    assert parse(own.traceparent) == own
    assert own == tracing.turn_context(replace(alone, status="idle", last_seq=9)), "whoever tells of it, and when"
    asked = replace(alone, turn=replace(alone.turn, traceparent=f"00-{TRACE}-{SPAN}-00"))
    theirs = tracing.turn_context(asked)
    assert (theirs.trace_id, theirs.sampled, theirs.span_id) == (TRACE, False, own.span_id)
    assert tracing.caller_of(asked) == SpanContext(TRACE, SPAN, False)


def test_no_two_turns_and_no_two_calls_have_a_place_in_common() -> None:
    heads = [head(session_id=session, number=turn) for session in ("ses_a", "ses_b") for turn in (1, 2)]
    heads.append(head(tenant_id="other", session_id="ses_a"))
    places = [tracing.turn_context(one) for one in heads]
    places += [tracing.tool_context(one, call) for one in heads for call in ("toolu_1", "toolu_2")]
    assert len({place.span_id for place in places}) == len(places)
    assert len({place.trace_id for place in places}) == len(heads)
