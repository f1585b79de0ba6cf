"""Where a turn stands in traces: ids that follow from the session, so that whoever tells of a part of it, at whatever
time, names the same trace and the same spans. After W3C Trace Context, https://www.w3.org/TR/trace-context/.
"""

from __future__ import annotations

import hashlib
import re
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from turnkeeper.core.session import Head

_TRACEPARENT = re.compile(r"(?!ff)[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")
_SAMPLED = 1


class Origin(NamedTuple):
    """The request that asked for a turn."""

    #: As W3C Trace Context has it; ``None`` where the request said none that can be read.
    traceparent: str | None = None
    #: As whoever took the request in calls it in its logs.
    request_id: str | None = None


NOWHERE = Origin()


class SpanContext(NamedTuple):
    """A place in a trace: lower-case hex of 16 and of 8 bytes."""

    trace_id: str
    span_id: str
    sampled: bool = True

    @property
    def traceparent(self) -> str:
        return f"00-{self.trace_id}-{self.span_id}-{_SAMPLED if self.sampled else 0:02d}"


def parse(traceparent: str | None) -> SpanContext | None:
    """What a ``traceparent`` header says; ``None`` where it says nothing: then a trace begins anew, as the standard
    has it."""
    match = _TRACEPARENT.fullmatch((traceparent or "").strip())
    if match is None:
        return None
    trace_id, span_id, flags = match.group(1, 2, 3)
    return SpanContext(trace_id, span_id, bool(int(flags, 16) & _SAMPLED))


def origin_of(traceparent: str | None, request_id: str | None) -> Origin:
    """The origin that a request tells of, with what can be read of it."""
    context = parse(traceparent)
    return Origin(context.traceparent if context else None, (request_id or "")[:128] or None)


def caller_of(head: Head) -> SpanContext | None:
    """The span of the request that asked for the turn, where it was part of a trace."""
    return parse(head.turn.traceparent)


def turn_context(head: Head) -> SpanContext:
    """The trace of a session's turn and the span that holds all of it: in the trace of whoever asked for it, where
    there is one, else in one of its own."""
    return _turn_context(head.tenant_id, head.session_id, head.turn.number, head.turn.traceparent)


@lru_cache(maxsize=256)
def _turn_context(tenant_id: str, session_id: str, turn: int, traceparent: str | None) -> SpanContext:
    """Every line of a log asks for it."""
    caller = parse(traceparent)
    trace_id = caller.trace_id if caller else _digest(tenant_id, session_id, turn, "trace")[:32]
    span = _digest(tenant_id, session_id, turn, "turn")[:16]
    return SpanContext(trace_id, span, caller.sampled if caller else True)


def tool_context(head: Head, tool_use_id: str) -> SpanContext:
    """The span of one tool call of a session's turn."""
    context = turn_context(head)
    return SpanContext(context.trace_id, span_id(head, "tool", tool_use_id), context.sampled)


def span_id(head: Head, *parts: object) -> str:
    """The id of a span within a session's turn; the parts tell it from the others."""
    return _digest(head.tenant_id, head.session_id, head.turn.number, *parts)[:16]


def _digest(*parts: object) -> str:
    named = "\0".join(map(str, parts))
    return hashlib.sha256(named.encode("utf-8", "surrogatepass")).hexdigest()
