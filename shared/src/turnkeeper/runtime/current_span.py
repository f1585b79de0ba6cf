"""The span of a tool call as OpenTelemetry's current one, so that spans which the tool begins are below it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from turnkeeper.core.tracing import SpanContext


@contextmanager
def current_span(here: SpanContext) -> Iterator[None]:
    """Attach it while the body runs, on this thread. The span itself is sent once its turn rests, by somebody else:
    this one only says where it is. Without OpenTelemetry nothing happens."""
    try:
        # Only runners come here, and the model's SDK has imported it by then.
        from opentelemetry import context, trace
    except ImportError:
        yield
        return
    flags = trace.TraceFlags(trace.TraceFlags.SAMPLED if here.sampled else trace.TraceFlags.DEFAULT)
    place = trace.SpanContext(int(here.trace_id, 16), int(here.span_id, 16), is_remote=True, trace_flags=flags)
    token = context.attach(trace.set_span_in_context(trace.NonRecordingSpan(place)))
    try:
        yield
    finally:
        context.detach(token)
