"""Spans as plain values: what is sent to whoever keeps traces, before any library has seen it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

Attribute = str | int | float | bool | tuple[str, ...]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class SpanEvent:
    name: str
    at_ns: int
    attributes: Mapping[str, Attribute]


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """One span of a trace. Times are nanoseconds since the epoch."""

    name: str
    #: Lower-case hex of 8 bytes.
    span_id: str
    #: ``None`` for the one that a trace begins with.
    parent_id: str | None
    start_ns: int
    end_ns: int
    attributes: Mapping[str, Attribute] = field(default_factory=dict)
    events: tuple[SpanEvent, ...] = ()
    #: Spans of the same trace, each with what it has to do with this one.
    links: tuple[tuple[str, str], ...] = ()
    #: What failed, where something did.
    error: str | None = None
    #: A call of another service, and not work of the kit's own.
    remote: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Trace:
    """A turn from its beginning to its rest, or from where it went on to its next rest. The span that holds all of it
    is the first."""

    #: Lower-case hex of 16 bytes.
    trace_id: str
    sampled: bool
    spans: tuple[Span, ...]
    #: The parent of the first span is in another process: of whoever asked for the turn.
    from_outside: bool = False

    @property
    def root(self) -> Span:
        return self.spans[0]


def nanoseconds(at: str) -> int:
    """Of a time as entries have it, exactly: no float holds so many."""
    since = datetime.fromisoformat(at) - _EPOCH
    return ((since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds) * 1_000


def within(start_ns: int, end_ns: int, outer: tuple[int, int]) -> tuple[int, int]:
    """As much of a time as lies in another one: the clocks of several machines wrote these."""
    first, last = outer
    start = min(max(start_ns, first), last)
    return start, min(max(end_ns, start), last)
