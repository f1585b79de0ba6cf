"""A receiver of traces on this machine: takes OTLP over HTTP as any other does, and keeps what it was sent."""

from __future__ import annotations

import contextlib
import gzip
import threading
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceivedSpan:
    trace_id: str
    span_id: str
    parent_id: str | None
    name: str
    kind: int
    start_ns: int
    end_ns: int
    attributes: Mapping[str, Any]
    events: tuple[tuple[str, int, Mapping[str, Any]], ...]
    links: tuple[tuple[str, str], ...]
    error: bool


@dataclass
class Receiver:
    port: int = 0
    #: Statuses that it answers the next requests with, before it takes any.
    refusals: list[int] = field(default_factory=list)
    #: Of each request that it takes, the spans that it says it refuses.
    refuses: int = 0
    #: Seconds between two bytes of its answers.
    dribbles: float = 0.0
    requests: list[tuple[Mapping[str, str], bytes]] = field(default_factory=list)
    spans: list[ReceivedSpan] = field(default_factory=list)
    resources: list[Mapping[str, Any]] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def traces(self) -> dict[str, list[ReceivedSpan]]:
        """What came, by trace, in its order."""
        found: dict[str, list[ReceivedSpan]] = defaultdict(list)
        with self.lock:
            for span in self.spans:
                found[span.trace_id].append(span)
        return dict(found)

    def take(self, path: str, headers: Mapping[str, str], body: bytes) -> int:
        with self.lock:
            self.requests.append((headers, body))
            if self.refusals:
                return self.refusals.pop(0)
            if path != "/v1/traces" or headers.get("content-type") != "application/x-protobuf":
                return 400
            raw = gzip.decompress(body) if headers.get("content-encoding") == "gzip" else body
            request = ExportTraceServiceRequest.FromString(raw)
            for of in request.resource_spans:
                self.resources.append(_attributes(of.resource.attributes))
                self.spans += [_span(span) for scope in of.scope_spans for span in scope.spans]
            return 200


@contextlib.contextmanager
def receiver() -> Iterator[Receiver]:
    """One on a free port."""
    kept = Receiver()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            status = kept.take(self.path, {name.lower(): value for name, value in self.headers.items()}, body)
            told = ExportTraceServiceResponse()
            if kept.refuses:
                told.partial_success.rejected_spans = kept.refuses
                told.partial_success.error_message = "too old"
            answer = told.SerializeToString()
            self.send_response(status)
            self.send_header("content-type", "application/x-protobuf")
            self.send_header("content-length", str(len(answer)))
            self.end_headers()
            for at in range(len(answer)):
                time.sleep(kept.dribbles)
                self.wfile.write(answer[at : at + 1])

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    kept.port = server.server_port
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield kept
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _span(span: Any) -> ReceivedSpan:
    return ReceivedSpan(
        trace_id=span.trace_id.hex(),
        span_id=span.span_id.hex(),
        parent_id=span.parent_span_id.hex() or None,
        name=span.name,
        kind=span.kind,
        start_ns=span.start_time_unix_nano,
        end_ns=span.end_time_unix_nano,
        attributes=_attributes(span.attributes),
        events=tuple((event.name, event.time_unix_nano, _attributes(event.attributes)) for event in span.events),
        links=tuple((link.trace_id.hex(), link.span_id.hex()) for link in span.links),
        error=span.status.code == 2,
    )


def _attributes(pairs: Any) -> dict[str, Any]:
    return {pair.key: _value(pair.value) for pair in pairs}


def _value(value: Any) -> Any:
    kind = value.WhichOneof("value")
    found = getattr(value, kind) if kind else None
    return [_value(one) for one in value.array_value.values] if kind == "array_value" else found
