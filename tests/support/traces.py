"""What must hold of every trace, whoever made it and however it came here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, TypeVar

from turnkeeper.core import span_names as names
from turnkeeper.core.session import Entry, Head
from turnkeeper.core.turn_trace import Rested, trace_of
from turnkeeper.core.usage import Usage


class SpanLike(Protocol):
    @property
    def name(self) -> str: ...
    @property
    def span_id(self) -> str: ...
    @property
    def parent_id(self) -> str | None: ...
    @property
    def start_ns(self) -> int: ...
    @property
    def end_ns(self) -> int: ...
    @property
    def attributes(self) -> Mapping[str, Any]: ...


S = TypeVar("S", bound=SpanLike)


def named(spans: Sequence[S], name: str) -> list[S]:
    """Those of a kind: `chat` for all of `chat MODEL`."""
    return [span for span in spans if span.name.split(" ")[0] == name]


def check_shape(spans: Sequence[S], outside: str | None = None) -> S:
    """One root, ids of their own, parents that exist and hold their children's times; the root.

    Args:
        outside: the span that the root may be below.
    """
    by_id = {span.span_id: span for span in spans}
    assert len(by_id) == len(spans), "a span's id stands twice"
    roots = [span for span in spans if span.parent_id in (None, outside)]
    assert len(roots) == 1, [span.name for span in roots]
    for span in spans:
        assert 0 < span.start_ns <= span.end_ns, span.name
        if span is not roots[0]:
            parent = by_id[span.parent_id or ""]
            assert parent.start_ns <= span.start_ns <= span.end_ns <= parent.end_ns, (span.name, parent.name)
    return roots[0]


def check_no_contents(spans: Sequence[SpanLike], *said: str) -> None:
    for span in spans:
        assert not names.CONTENTS & span.attributes.keys(), span.name
        for text in said:
            assert text not in repr(span), f"{span.name} tells what was said"


def sums(spans: Sequence[SpanLike]) -> dict[str, int]:
    """What the model calls of a trace add up to."""
    keys = (names.INPUT_TOKENS, names.OUTPUT_TOKENS, names.CACHE_READ, names.CACHE_CREATION, names.COST)
    return {key: sum(span.attributes.get(key, 0) for span in named(spans, names.CHAT)) for key in keys}


def check_latest(head: Head, entries: Sequence[Entry], calls: Sequence[Mapping[str, Any]]) -> None:
    """The trace of how a session at rest came there last."""
    if head.status == "erased" or not entries or entries[-1].type != "status" or head.turn.seq > head.last_seq:
        return
    trace = trace_of(Rested(head=head, entries=entries, calls=calls))
    root = check_shape(trace.spans, outside=trace.root.parent_id)
    check_no_contents(trace.spans)
    found = sums(trace.spans)
    assert {key: root.attributes[key] for key in found} == found


def check_stretches(ends: Sequence[Head], entries: Sequence[Entry], calls: Sequence[Mapping[str, Any]]) -> None:
    """Every time that a session came to rest, by what is stored of it in the end: whole, right, and all of it together.

    Args:
        ends: the heads that it rested with.
    """
    total, usage, tools = 0, Usage(), []
    seen: set[str] = set()
    for end in ends:
        trace = trace_of(Rested(head=end, entries=entries, calls=calls))
        resumed = trace.root.attributes[names.RESUMED]
        root = check_shape(trace.spans, outside=trace.root.parent_id)
        assert (root.parent_id in seen) == resumed, "a turn that goes on does so below its first root"
        check_no_contents(trace.spans)
        found = sums(trace.spans)
        assert {key: root.attributes[key] for key in found} == found
        total += found[names.COST]
        spent = [call for call in calls if end.turn.first_call <= call["call"] <= end.account.calls]
        assert found[names.COST] == sum(call["spent_nanousd"] for call in spent)
        tools += [span.attributes[names.TOOL_CALL] for span in named(trace.spans, names.EXECUTE_TOOL)]
        links = [id for span in trace.spans for id, _ in span.links]
        assert set(links) <= {span.span_id for span in trace.spans}
        mine = {span.span_id for span in trace.spans}
        assert not mine & seen, "spans of two stretches have one id"
        seen |= mine
    assert tools == [outcome.tool_use_id for entry in entries for outcome in entry.outcomes]
    assert total == sum(call["spent_nanousd"] for call in calls)
    for entry in entries:
        usage += Usage.of(entry.usage)
    if ends:
        assert ends[-1].account.usage == usage
