"""Errors as problem documents (RFC 9457). What is not meant for callers does not get into one."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from functions.api.http import Response
from turnkeeper.core.errors import TurnkeeperError

CONTENT_TYPE = "application/problem+json"

#: Where the code says it less well.
_TITLES = {
    "unauthenticated": "Not authenticated",
    "session_busy": "A turn is running",
    "session_ended": "The session has ended",
    "continuation_expired": "Continuation token expired",
    "idempotency_mismatch": "Idempotency key used for another request",
    "unpriced_model": "Model without a price",
    "content_unusable": "A content that cannot be used",
    "unavailable": "Temporarily unavailable",
}


def problem(status: int, code: str, detail: str, data: Mapping[str, Any] | None = None) -> Response:
    """A problem document with members of its own. Those of ``data`` that are for HTTP become headers."""
    members = dict(data or {})
    headers: dict[str, str] = {}
    wait = members.pop("retry_after_seconds", None)
    if status == 503 or members.get("contended"):
        headers["retry-after"] = str(math.ceil(wait or 1))
    if "allow" in members:
        headers["allow"] = members.pop("allow")
    if "status" in members:
        # In a problem document ``status`` is the HTTP status, a number.
        members["session_status"] = members.pop("status")
    document = {
        "type": f"urn:turnkeeper:problem:{code}",
        "title": _TITLES.get(code) or code.replace("_", " ").capitalize(),
        "status": status,
        "detail": detail,
        "code": code,
    }
    document |= {name: value for name, value in members.items() if name not in document}
    return Response(status, Response.json(document).body, CONTENT_TYPE, headers)


def problem_of(error: TurnkeeperError) -> Response:
    """The problem document of an error of the kit. What is not the caller's business becomes an internal error."""
    if error.status >= 500 and error.code != "unavailable":
        return internal_error()
    return problem(error.status, error.code, error.detail, error.data)


def internal_error() -> Response:
    return problem(500, "internal_error", "It has been logged; the same request may work later.")
