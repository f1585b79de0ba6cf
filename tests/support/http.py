"""Calls of the front door as API Gateway makes them, without HTTP; or of one that is a server.

caller = Caller(FrontDoor(kit), tenant="acme", user="ann", role="user")
turn = caller.post("/v1/sessions", {"agent": "plain", "input": "hello"}).json()
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from functions.api import gateway
from functions.api.app import FrontDoor
from tests.support.asgi import Served


@dataclass(frozen=True)
class Response:
    status: int
    headers: Mapping[str, str]
    body: str

    def json(self) -> Any:
        return json.loads(self.body)

    def problem(self, status: int, code: str) -> dict[str, Any]:
        """The problem document that this answer has to be."""
        assert self.status == status, f"{self.status}: {self.body}"
        assert self.headers["content-type"] == "application/problem+json"
        document: dict[str, Any] = self.json()
        assert document["code"] == code, document
        assert document["status"] == status
        assert {"type", "title", "detail"} <= document.keys()
        assert "Traceback" not in self.body
        return document

    def ok(self, *statuses: int) -> Any:
        """The document of an answer that has one of these statuses (200 where none is named)."""
        assert self.status in (statuses or (200,)), f"{self.status}: {self.body}"
        return self.json()


def event(
    method: str,
    target: str,
    *,
    headers: Mapping[str, str] | None = None,
    body: str | None = None,
    authorizer: Mapping[str, Any] | None = None,
    is_base64: bool = False,
) -> dict[str, Any]:
    """An event of API Gateway's payload format 2.0."""
    parts = urlsplit(target)
    query = dict(parse_qsl(parts.query, keep_blank_values=True))
    made: dict[str, Any] = {
        "version": "2.0",
        "routeKey": "$default",
        "rawPath": parts.path,
        "rawQueryString": parts.query,
        "headers": dict(headers or {}),
        "requestContext": {
            "http": {"method": method, "path": parts.path, "protocol": "HTTP/1.1", "sourceIp": "127.0.0.1"},
            "requestId": "a-request",
            "stage": "$default",
        },
        "isBase64Encoded": is_base64,
    }
    if query:
        made["queryStringParameters"] = query
    if body is not None:
        made["body"] = body
    if authorizer is not None:
        made["requestContext"]["authorizer"] = dict(authorizer)
    return made


@dataclass(frozen=True)
class Caller:
    """One user of one tenant. Every call may say otherwise."""

    door: FrontDoor | Served
    tenant: str | None = "acme"
    user: str | None = "ann"
    role: str | None = "user"
    wait: int | None = None
    left_seconds: float = 29.0
    headers: Mapping[str, str] = field(default_factory=dict)

    def but(self, **changes: Any) -> Caller:
        return replace(self, **changes)

    def get(self, target: str, **headers: str) -> Response:
        return self.call("GET", target, headers=headers)

    def delete(self, target: str) -> Response:
        return self.call("DELETE", target)

    def post(
        self, target: str, body: Any = None, *, wait: int | None = None, key: str | None = None, **headers: str
    ) -> Response:
        more = dict(headers)
        if (seconds := self.wait if wait is None else wait) is not None:
            more["prefer"] = f"wait={seconds}"
        if key is not None:
            more["idempotency-key"] = key
        return self.call("POST", target, headers=more, text=None if body is None else json.dumps(body))

    def call(
        self,
        method: str,
        target: str,
        *,
        headers: Mapping[str, str] | None = None,
        text: str | None = None,
        binary: bytes | None = None,
    ) -> Response:
        who = {"x-tenant-id": self.tenant, "x-user-id": self.user, "x-user-role": self.role}
        said = {name: value for name, value in who.items() if value is not None}
        sent = {name.replace("_", "-"): value for name, value in {**said, **self.headers, **(headers or {})}.items()}
        if isinstance(self.door, Served):
            raw = binary if binary is not None else (text or "").encode("utf-8", "surrogatepass")
            return Response(*self.door.call(method, target, sent, raw))
        body = base64.b64encode(binary).decode() if binary is not None else text
        made = event(method, target, headers=sent, body=body, is_base64=binary is not None)
        return answered(self.door, made, self.left_seconds)


def answered(door: FrontDoor, made: Mapping[str, Any], left_seconds: float = 29.0) -> Response:
    answer = gateway.event_of(door.answer(gateway.request_of(made, left_seconds)))
    assert answer["isBase64Encoded"] is False
    return Response(answer["statusCode"], answer["headers"], answer["body"])
