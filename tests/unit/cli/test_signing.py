"""Requests to a deployed API are signed as AWS wants it: checked against the rules, written out anew here."""

from __future__ import annotations

import hashlib
import hmac
import re
from urllib.parse import parse_qsl, quote

import httpx2
import pytest
from botocore.credentials import Credentials

from turnkeeper_local.cli.api import Api, SigV4

SECRET = "a secret key"


@pytest.fixture
def sent_requests(monkeypatch: pytest.MonkeyPatch) -> list[httpx2.Request]:
    requests: list[httpx2.Request] = []

    def handle(request: httpx2.Request) -> httpx2.Response:
        requests.append(request)
        return httpx2.Response(200, json={"sessions": [], "next_cursor": None})

    make = httpx2.Client

    def client(**options: object) -> httpx2.Client:
        return make(**{**options, "transport": httpx2.MockTransport(handle)})  # type: ignore[arg-type]

    monkeypatch.setattr(httpx2, "Client", client)
    return requests


def api(token: str | None = None) -> Api:
    headers = {"x-tenant-id": "acme", "x-user-id": "u1"}
    return Api(
        "https://abc.execute-api.eu-west-1.amazonaws.com",
        headers,
        SigV4(Credentials("AKID", SECRET, token), "eu-west-1"),
    )


def test_what_says_who_is_meant_and_the_body_are_signed(sent_requests: list[httpx2.Request]) -> None:
    api().start("support", "größer", wait=20)
    (request,) = sent_requests
    assert signature_of(request) == expected_signature(request)
    assert signed_headers(request) == ["host", "x-amz-date", "x-tenant-id", "x-user-id"]


def test_odd_parameters_are_signed_as_aws_reads_them(sent_requests: list[httpx2.Request]) -> None:
    api().sessions(status=None, limit=5, cursor="a/b+c=d &é~")
    (request,) = sent_requests
    assert signature_of(request) == expected_signature(request)


def test_a_session_token_is_sent_and_signed(sent_requests: list[httpx2.Request]) -> None:
    api("token").health()
    (request,) = sent_requests
    assert request.headers["x-amz-security-token"] == "token"
    assert "x-amz-security-token" in signed_headers(request)
    assert signature_of(request) == expected_signature(request)


def signature_of(request: httpx2.Request) -> str:
    found = re.search("Signature=([0-9a-f]{64})", request.headers["authorization"])
    assert found
    return found[1]


def signed_headers(request: httpx2.Request) -> list[str]:
    found = re.search("SignedHeaders=([^,]+),", request.headers["authorization"])
    assert found
    return found[1].split(";")


def expected_signature(request: httpx2.Request) -> str:
    """Signature Version 4, as AWS's documentation tells it."""
    names = signed_headers(request)
    pairs = parse_qsl(request.url.query.decode(), keep_blank_values=True)
    query = "&".join(sorted(f"{quote(name, safe='-_.~')}={quote(value, safe='-_.~')}" for name, value in pairs))
    canonical = "\n".join(
        [
            request.method,
            request.url.path,
            query,
            *(f"{name}:{request.headers[name].strip()}" for name in names),
            "",
            ";".join(names),
            hashlib.sha256(request.content).hexdigest(),
        ]
    )
    moment = request.headers["x-amz-date"]
    scope = f"{moment[:8]}/eu-west-1/execute-api/aws4_request"
    assert f"Credential=AKID/{scope}" in request.headers["authorization"]
    text = "\n".join(["AWS4-HMAC-SHA256", moment, scope, hashlib.sha256(canonical.encode()).hexdigest()])
    key = f"AWS4{SECRET}".encode()
    for part in scope.split("/"):
        key = hmac.new(key, part.encode(), hashlib.sha256).digest()
    return hmac.new(key, text.encode(), hashlib.sha256).hexdigest()
