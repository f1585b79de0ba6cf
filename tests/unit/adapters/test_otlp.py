"""Traces over OTLP: what a receiver gets, what is asked again, and how AWS is told who sends."""

from __future__ import annotations

import json
import re
from dataclasses import replace

import pytest
import requests
from botocore.credentials import Credentials

from tests.support.otlp import Receiver, receiver
from turnkeeper.adapters import otlp
from turnkeeper.adapters.otlp import OtlpReceiver, Signed, cloudwatch_region, headers_of, traces_url
from turnkeeper.adapters.secrets import MissingKey
from turnkeeper.core.errors import Unavailable
from turnkeeper.core.spans import Span, SpanEvent, Trace

BEGIN = 1_800_000_000_123_000_000


def trace(spans: int = 1) -> Trace:
    root = Span(
        name="invoke_agent a",
        span_id="b" * 16,
        parent_id="c" * 16,
        start_ns=BEGIN,
        end_ns=BEGIN + 5,
        attributes={"text": "t", "number": 2**53, "share": 0.5, "yes": True, "list": ("x", "y")},
        events=(SpanEvent("gen_ai.evaluation.result", BEGIN + 5, {"gen_ai.evaluation.score.value": 1.0}),),
        error="cost_cap",
    )
    below = [
        Span(
            name="chat m",
            span_id=f"{n:016x}",
            parent_id=root.span_id,
            start_ns=BEGIN,
            end_ns=BEGIN + 1,
            links=((root.span_id, "follows"),),
            remote=True,
        )
        for n in range(1, spans)
    ]
    return Trace(trace_id="a" * 32, sampled=True, spans=(root, *below), from_outside=True)


def sent(to: Receiver, what: Trace, **options: object) -> int:
    return OtlpReceiver(f"{to.url}/", {"service.name": "turnkeeper"}, **options).send(what)  # type: ignore[arg-type]


def test_a_receiver_gets_every_span_as_it_is() -> None:
    with receiver() as to:
        sent(to, trace(2), headers=lambda: {"Authorization": "Basic x"})
    root, chat = to.spans
    assert (root.trace_id, root.span_id, root.parent_id) == ("a" * 32, "b" * 16, "c" * 16)
    assert (root.start_ns, root.end_ns, root.error, chat.error) == (BEGIN, BEGIN + 5, True, False)
    assert root.attributes == {"text": "t", "number": 2**53, "share": 0.5, "yes": True, "list": ["x", "y"]}
    assert root.events == (("gen_ai.evaluation.result", BEGIN + 5, {"gen_ai.evaluation.score.value": 1.0}),)
    assert (chat.parent_id, chat.links, chat.kind) == (root.span_id, ((root.trace_id, root.span_id),), 3)
    assert to.resources == [{"service.name": "turnkeeper"}]
    assert to.requests[0][0]["authorization"] == "Basic x"


def test_a_long_trace_is_sent_in_parts() -> None:
    with receiver() as to:
        sent(to, trace(250))
    assert (len(to.requests), len(to.spans)) == (3, 250)


def test_a_receiver_that_is_busy_is_asked_again() -> None:
    with receiver() as to:
        to.refusals.append(503)
        sent(to, trace())
    assert (len(to.requests), len(to.spans)) == (2, 1)


def test_spans_that_are_refused_in_part_are_counted() -> None:
    """An answer of 200 that says so: sent again, they would be refused again."""
    with receiver() as to:
        to.refuses = 7
        known = OtlpReceiver(to.url, {})
        assert known.send(trace(250)) == 3 * 7
        to.refuses = 0
        assert known.send(trace()) == 0
    assert len(to.requests) == 4


@pytest.mark.parametrize("answer", [b"", b"{}", b'{"partialSuccess": {}}', b"<html>", b"\xff" * 20])
def test_a_yes_in_other_words_is_one(answer: bytes) -> None:
    assert otlp._refused_in(answer) == 0


@pytest.mark.parametrize("status", [301, 302, 307, 308, 400, 401, 503])
def test_what_was_not_taken_is_for_later(status: int) -> None:
    with receiver() as to:
        to.refusals += [status] * 9
        with pytest.raises(Unavailable) as raised:
            sent(to, trace(), timeout_seconds=0.5)
    assert raised.value.retryable


def test_what_is_told_of_a_receiver_that_refuses_is_not_how_it_knows_us() -> None:
    with receiver() as to:
        to.refusals += [403] * 9
        address = to.url.replace("127.0.0.1", "kit:hunter2@127.0.0.1")
        with pytest.raises(Unavailable) as raised:
            OtlpReceiver(address, {}, timeout_seconds=0.5).send(trace())
    assert "hunter2" not in str(raised.value)


def test_a_number_that_otlp_cannot_hold_is_the_largest_that_it_can(caplog: pytest.LogCaptureFixture) -> None:
    capped = trace()
    root = replace(capped.root, attributes={"limit": 10**21, "owed": -(10**21), "yes": True})
    with receiver() as to:
        sent(to, replace(capped, spans=(root,)))
    assert (to.spans[0].attributes, caplog.records) == ({"limit": 2**63 - 1, "owed": 1 - 2**63, "yes": True}, [])


def test_headers_that_cannot_be_had_are_for_later() -> None:
    with receiver() as to, pytest.raises(Unavailable):
        sent(to, trace(), headers=lambda: headers_of("no JSON"))
    assert to.requests == []


@pytest.mark.parametrize("secret", ["", "hunter2", "[7]", '{"hunter2": 1}'])
def test_a_secret_of_headers_is_an_object_of_texts(secret: str) -> None:
    with pytest.raises(MissingKey) as raised:
        headers_of(secret)
    assert secret not in str(raised.value) or not secret


@pytest.mark.parametrize("header", [{"x-key": "hunter2\n"}, {"x-key": " hunter2"}, {"hunter2\n": "x"}, {"": "hunter2"}])
def test_a_header_that_no_request_can_have_is_not_quoted(header: dict[str, str]) -> None:
    """Who sends it would log it."""
    with pytest.raises(MissingKey) as raised:
        headers_of(json.dumps(header))
    assert "hunter2" not in str(raised.value)
    assert headers_of('{"authorization": "Basic x=", "X-Key": ""}') == {"authorization": "Basic x=", "X-Key": ""}


@pytest.mark.parametrize(
    ("address", "url"),
    [
        ("http://localhost:4318", "http://localhost:4318/v1/traces"),
        ("http://localhost:4318/", "http://localhost:4318/v1/traces"),
        ("https://x.example/otlp/", "https://x.example/otlp/v1/traces"),
        ("https://x.example/otlp/v1/traces", "https://x.example/otlp/v1/traces"),
    ],
)
def test_an_address_is_that_of_traces_or_what_they_stand_below(address: str, url: str) -> None:
    assert traces_url(address) == url


def test_requests_to_cloudwatch_are_signed() -> None:
    address = "https://xray.eu-central-1.amazonaws.com/v1/traces"
    assert cloudwatch_region(address) == "eu-central-1"
    assert cloudwatch_region("https://xray.cn-north-1.amazonaws.com.cn/v1/traces") == "cn-north-1"
    assert cloudwatch_region("https://xray.eu-central-1.amazonaws.com.evil.example/v1/traces") is None
    signed = Signed(Credentials("AKID", "secret", "token"), "eu-central-1")
    request = requests.Request("POST", address, data=b"spans", auth=signed, headers={"content-type": "x"}).prepare()
    said = str(request.headers["Authorization"])
    assert re.match(r"AWS4-HMAC-SHA256 Credential=AKID/\d{8}/eu-central-1/xray/aws4_request, SignedHeaders=", said)
    assert request.headers["X-Amz-Security-Token"] == "token"
    assert otlp.signing_session(Credentials("AKID", "secret"), "eu-central-1").auth is not None
