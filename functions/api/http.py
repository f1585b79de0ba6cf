"""Requests and answers as the front door sees them, to and from API Gateway's payload format 2.0."""

from __future__ import annotations

import base64
import binascii
import json
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from turnkeeper.core.errors import InputTooLarge, InvalidRequest
from turnkeeper.core.inputs import is_deeper
from turnkeeper.runtime.intake import Identity

#: Lambda takes 6 MB for a whole event, in which a body may be base64.
MOST_BODY_BYTES = 4 * 1024 * 1024

#: What names a session, in a path or a query.
SESSION_ID = re.compile(r"ses_[0-9A-Za-z]{26}")

_MOST_DEPTH = 64
_SURROGATE = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True)
class Request:
    method: str
    path: str
    #: By lower-case name.
    headers: Mapping[str, str]
    query: Mapping[str, str]
    body: bytes
    #: ``requestContext.authorizer``: what the authorizer found out.
    authorizer: Mapping[str, Any]
    request_id: str
    #: When the Lambda is ended, on this process's monotonic clock.
    ends_at: float
    #: From the path, by the route's names.
    parameters: Mapping[str, str] = field(default_factory=dict)
    #: Who is asking; ``None`` before that is found out, and on public routes.
    identity: Identity | None = None

    @classmethod
    def of(cls, event: Mapping[str, Any], left_seconds: float) -> Request:
        """Raises InvalidRequest for a body that is not the base64 it says it is."""
        context = event.get("requestContext") or {}
        http = context.get("http") or {}
        return cls(
            method=str(http.get("method", "")).upper(),
            path=_path(event, str(context.get("stage", "$default"))),
            headers=_headers(event.get("headers") or {}),
            query={str(name): str(value) for name, value in (event.get("queryStringParameters") or {}).items()},
            body=_body(event),
            authorizer=context.get("authorizer") or {},
            request_id=str(context.get("requestId", "")),
            ends_at=time.monotonic() + left_seconds,
        )

    @property
    def left_seconds(self) -> float:
        """Seconds until the Lambda is ended, from now: what was done so far has taken its part."""
        return self.ends_at - time.monotonic()

    @property
    def who(self) -> Identity:
        assert self.identity is not None, "only routes that need an identity ask for it"
        return self.identity

    def routed(self, parameters: Mapping[str, str], identity: Identity | None) -> Request:
        return replace(self, parameters=parameters, identity=identity)

    def json(self) -> Any:
        """The body as JSON, whatever its content type says.

        Raises:
            InputTooLarge: more than is taken.
            InvalidRequest: no JSON, or JSON that could not be stored: lone surrogates, NaN.
        """
        if len(self.body) > MOST_BODY_BYTES:
            raise InputTooLarge(f"The body is at most {MOST_BODY_BYTES} bytes.", limit_bytes=MOST_BODY_BYTES)
        try:
            value = json.loads(self.body.decode(), parse_constant=_no_constant)
        except (ValueError, RecursionError) as error:
            raise invalid("The body is not JSON.", "body", "not JSON") from error
        if is_deeper(value, _MOST_DEPTH):
            raise invalid(f"The body is nested more than {_MOST_DEPTH} deep.", "body", "nested too deep")
        if b"\\ud" in self.body.lower() and _SURROGATE.search(json.dumps(value, ensure_ascii=False)):
            raise invalid("The body holds half a character.", "body", "a lone surrogate")
        return value


def invalid(detail: str, where: str, why: str) -> InvalidRequest:
    return InvalidRequest(detail, errors=[{"where": where, "why": why}])


def _headers(given: Mapping[str, Any]) -> dict[str, str]:
    """By lower-case name. One that came twice, in whatever spelling, is joined as HTTP has it: none of the two is taken
    for the other."""
    headers: dict[str, str] = {}
    for name, value in given.items():
        low = str(name).lower()
        headers[low] = f"{headers[low]}, {value}" if low in headers else str(value)
    return headers


def _path(event: Mapping[str, Any], stage: str) -> str:
    path = str(event.get("rawPath") or "/")
    prefix = f"/{stage}/"
    return path[len(prefix) - 1 :] if stage != "$default" and path.startswith(prefix) else path


def _body(event: Mapping[str, Any]) -> bytes:
    body = event.get("body") or ""
    if not event.get("isBase64Encoded"):
        return str(body).encode("utf-8", "surrogatepass")
    try:
        return base64.b64decode(str(body), validate=True)
    except binascii.Error as error:
        raise invalid("The body is not base64.", "body", "not base64") from error


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


@dataclass(frozen=True)
class Answer:
    status: int
    body: str = ""
    content_type: str = "application/json"
    headers: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def json(cls, value: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Answer:
        return cls(status, json.dumps(value, ensure_ascii=False, separators=(",", ":")), headers=headers or {})

    def event(self) -> dict[str, Any]:
        """As API Gateway takes it."""
        headers = {"cache-control": "no-store", "x-content-type-options": "nosniff", **self.headers}
        if self.body:
            headers["content-type"] = self.content_type
        return {"statusCode": self.status, "headers": headers, "body": self.body, "isBase64Encoded": False}
