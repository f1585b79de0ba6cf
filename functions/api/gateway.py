"""API Gateway's events (payload format 2.0), to requests and from responses. Nothing else knows of them."""

from __future__ import annotations

import base64
import time
from collections.abc import Mapping
from typing import Any

from functions.api.http import Request, Response

#: API Gateway gives up after 30 s, whatever the Lambda's own timeout is.
MAX_SECONDS = 29.0


def request_of(event: Mapping[str, Any], left_seconds: float = MAX_SECONDS) -> Request:
    """The request of an event, however little of one it holds. ``left_seconds`` is what the Lambda has left."""
    context = event.get("requestContext") or {}
    http = context.get("http") or {}
    authorizer = context.get("authorizer") or {}
    return Request(
        method=str(http.get("method", "")).upper(),
        path=_path(event, str(context.get("stage", "$default"))),
        headers=_headers(event.get("headers") or {}),
        query={str(name): str(value) for name, value in (event.get("queryStringParameters") or {}).items()},
        body=_body(event),
        claims=(authorizer.get("jwt") or {}).get("claims") or {},
        principal=(authorizer.get("iam") or {}).get("userArn"),
        request_id=str(context.get("requestId", "")),
        ends_at=time.monotonic() + min(left_seconds, MAX_SECONDS),
    )


def event_of(response: Response) -> dict[str, Any]:
    """A response as API Gateway takes it."""
    headers = dict(response.headers)
    if response.body:
        headers["content-type"] = response.content_type
    return {"statusCode": response.status, "headers": headers, "body": response.body, "isBase64Encoded": False}


def _path(event: Mapping[str, Any], stage: str) -> str:
    path = str(event.get("rawPath") or "/")
    prefix = f"/{stage}/"
    return path[len(prefix) - 1 :] if stage != "$default" and path.startswith(prefix) else path


def _headers(sent: Mapping[str, Any]) -> dict[str, str]:
    """By lower-case name. One that came twice, in whatever spelling, is joined as HTTP has it: none of the two is taken
    for the other."""
    headers: dict[str, str] = {}
    for name, value in sent.items():
        low = str(name).lower()
        headers[low] = f"{headers[low]}, {value}" if low in headers else str(value)
    return headers


def _body(event: Mapping[str, Any]) -> bytes:
    body = str(event.get("body") or "")
    if not event.get("isBase64Encoded"):
        return body.encode("utf-8", "surrogatepass")
    try:
        return base64.b64decode(body, validate=True)
    except ValueError:
        # No body: a call that needs one says what is wrong.
        return b""
