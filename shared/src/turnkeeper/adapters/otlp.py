"""Traces over OTLP: protobuf over HTTP, to any receiver that speaks it, CloudWatch's included.

https://opentelemetry.io/docs/specs/otlp/#otlphttp
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import requests
from opentelemetry.exporter.otlp.proto.http import Compression
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.sdk.trace.export import SpanExportResult
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import Link, SpanContext, SpanKind, Status, StatusCode, TraceFlags

from turnkeeper.adapters.secrets import MissingKey, secret_text
from turnkeeper.core.errors import Unavailable
from turnkeeper.core.spans import Attribute, Span, Trace

if TYPE_CHECKING:
    from botocore.credentials import Credentials

    from turnkeeper.adapters.aws import Aws

#: What the receiver has for one request, its own retries of it included.
TIMEOUT_SECONDS = 10.0
#: Spans in one request: with contents, as many as CloudWatch takes at once.
SPANS_A_REQUEST = 100
_PATH = "/v1/traces"
_CLOUDWATCH = re.compile(r"xray\.([a-z0-9-]+)\.amazonaws\.com(\.cn)?")
_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_HEADER_VALUE = re.compile(r"(?!\s)[\t\x20-\x7e\xa0-\xff]*(?<!\s)")
_SCOPE = InstrumentationScope("turnkeeper")
#: OTLP has whole numbers of 64 bits. A cap may be larger, and is as good as none then.
_LARGEST = 2**63 - 1


class OtlpReceiver:
    """A :class:`turnkeeper.runtime.tracing.TraceReceiver`.

    Args:
        endpoint: where it is; a path that does not end in ``/v1/traces`` is what that stands below.
        headers: what it wants to be told with each request, asked for once; raises MissingKey.
        resource: who says all this.
        session: of whoever signs its requests.
    """

    def __init__(
        self,
        endpoint: str,
        resource: Mapping[str, str],
        *,
        headers: Callable[[], Mapping[str, str]] = dict,
        session: requests.Session | None = None,
        timeout_seconds: float = TIMEOUT_SECONDS,
    ) -> None:
        self._endpoint = traces_url(endpoint)
        self._resource = Resource(dict(resource))
        self._headers = headers
        self._session = session or _session(self._endpoint)
        self._session.hooks["response"].append(self._hear)
        self._refused = 0
        self._timeout_seconds = timeout_seconds
        self._exporter: OTLPSpanExporter | None = None

    def send(self, trace: Trace) -> int:
        """See the port. Unavailable where it was not taken, for whatever reason: an operator mends a receiver that
        refuses, and the trace is to be sent then."""
        self._refused = 0
        exporter = self._exporter or self._connected()
        self._exporter = exporter
        spans = spans_of(trace, self._resource)
        for first in range(0, len(spans), SPANS_A_REQUEST):
            if exporter.export(spans[first : first + SPANS_A_REQUEST]) is not SpanExportResult.SUCCESS:
                self._exporter = None  # Its headers may have changed by then.
                # The address may hold a password.
                raise Unavailable(f"{urlsplit(self._endpoint).hostname} did not take a trace", retry_after_seconds=30)
        return self._refused

    def _hear(self, response: requests.Response, *_: object, **__: object) -> None:
        """The exporter takes an answer that leads elsewhere for a yes, and nothing is sent there; and it passes over
        what a yes says of spans that are refused for good."""
        if 300 <= response.status_code < 400:
            why = f"answered {response.status_code}: traces go to the address that takes them"
            raise requests.TooManyRedirects(why)
        if response.ok:
            self._refused += _refused_in(response.content or b"")

    def _connected(self) -> OTLPSpanExporter:
        try:
            headers = dict(self._headers())
        except MissingKey as error:
            raise Unavailable(f"the headers of traces: {error}", retry_after_seconds=30) from error
        return OTLPSpanExporter(
            endpoint=self._endpoint,
            headers=headers,
            timeout=self._timeout_seconds,
            compression=Compression.Gzip,
            session=self._session,
        )


def receiver_of(aws: Aws, endpoint: str, secret_id: str | None, deployment: str) -> OtlpReceiver:
    """The receiver of a deployment. CloudWatch's own is told by its address, and asked with the process's credentials.

    Args:
        secret_id: of a secret that holds the headers that it wants.
    """
    resource = {"service.name": "turnkeeper", "deployment.environment.name": deployment}
    if aws.own_region is not None:
        resource |= {"cloud.provider": "aws", "cloud.region": aws.own_region}
    region = cloudwatch_region(endpoint)
    return OtlpReceiver(
        endpoint,
        resource,
        headers=lambda: headers_of(secret_text(aws.secretsmanager, secret_id)) if secret_id else {},
        session=signing_session(aws.credentials, region) if region is not None else None,
    )


def traces_url(endpoint: str) -> str:
    """Where traces go, of an address of a receiver."""
    address = endpoint.rstrip("/")
    return address if urlsplit(address).path.endswith(_PATH) else f"{address}{_PATH}"


def headers_of(secret: str) -> dict[str, str]:
    """Of a secret: a JSON object of headers. Raises MissingKey, without what the secret says, which whoever sends it
    would quote where it is none."""
    try:
        held = json.loads(secret)
    except ValueError:
        held = None
    if not isinstance(held, dict) or not all(isinstance(value, str) for value in held.values()):
        raise MissingKey('a secret of headers is a JSON object of texts, such as {"authorization": "Basic ..."}')
    if not all(_HEADER_NAME.fullmatch(name) and _HEADER_VALUE.fullmatch(value) for name, value in held.items()):
        raise MissingKey("a secret of headers holds one that no request can have: a line break, perhaps")
    return held


def cloudwatch_region(endpoint: str) -> str | None:
    """The region of CloudWatch's own receiver; ``None`` for any other."""
    match = _CLOUDWATCH.fullmatch(urlsplit(endpoint).hostname or "")
    return match[1] if match else None


class Signed(requests.auth.AuthBase):
    """Signs requests as AWS wants them, with the credentials of the moment."""

    def __init__(self, credentials: Credentials, region: str, service: str = "xray") -> None:
        self._of = (credentials, region, service)

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        from botocore.auth import SigV4Auth
        from botocore.awsrequest import AWSRequest

        credentials, region, service = self._of
        # Nothing on the way changes these.
        named = {name: value for name, value in request.headers.items() if name.lower() in ("content-type", "host")}
        asked: Any = AWSRequest(method=request.method, url=request.url, data=request.body, headers=named)
        SigV4Auth(credentials.get_frozen_credentials(), service, region).add_auth(asked)
        request.headers.update(dict(asked.headers))
        return request


def _refused_in(answer: bytes) -> int:
    """Spans that an answer says are refused for good. Many receivers answer with something else, and took all."""
    try:
        told = ExportTraceServiceResponse.FromString(answer)
    except Exception:  # noqa: BLE001 - whatever it is that is no such message
        return 0
    return max(0, int(told.partial_success.rejected_spans))


def _session(endpoint: str) -> requests.Session:
    session = requests.Session()
    # No proxy leads to this machine.
    session.trust_env = urlsplit(endpoint).hostname not in ("127.0.0.1", "localhost", "::1")
    return session


def signing_session(credentials: Credentials, region: str) -> requests.Session:
    session = requests.Session()
    session.auth = Signed(credentials, region)
    return session


# ---- spans of OpenTelemetry's own kind ----


def _sendable(value: Attribute) -> Attribute:
    return max(-_LARGEST, min(value, _LARGEST)) if isinstance(value, int) else value


def spans_of(trace: Trace, resource: Resource) -> list[ReadableSpan]:
    """With the ids that they have here, which no tracer would give them."""
    flags = TraceFlags(TraceFlags.SAMPLED if trace.sampled else TraceFlags.DEFAULT)

    def context(span_id: str, *, is_remote: bool = False) -> SpanContext:
        return SpanContext(int(trace.trace_id, 16), int(span_id, 16), is_remote=is_remote, trace_flags=flags)

    def made(span: Span) -> ReadableSpan:
        from_outside = trace.from_outside and span is trace.root
        return ReadableSpan(
            name=span.name,
            context=context(span.span_id),
            parent=context(span.parent_id, is_remote=from_outside) if span.parent_id is not None else None,
            resource=resource,
            attributes={name: _sendable(value) for name, value in span.attributes.items()},
            events=[Event(event.name, dict(event.attributes), event.at_ns) for event in span.events],
            links=[Link(context(id), {"turnkeeper.link": why}) for id, why in span.links],
            kind=SpanKind.CLIENT if span.remote else SpanKind.INTERNAL,
            status=Status(StatusCode.ERROR, span.error) if span.error is not None else Status(StatusCode.UNSET),
            start_time=span.start_ns,
            end_time=span.end_ns,
            instrumentation_scope=_SCOPE,
        )

    return [made(span) for span in trace.spans]
