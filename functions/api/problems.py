"""Errors as problem documents (RFC 9457). What is not meant for callers does not get into one."""

from __future__ import annotations

import math
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from functions.api.http import Answer
from turnkeeper.core.errors import TurnkeeperError

CONTENT_TYPE = "application/problem+json"

_TITLES = {
    "invalid_request": "Invalid request",
    "unauthenticated": "Not authenticated",
    "forbidden": "Forbidden",
    "cost_cap_exceeded": "Cost cap exceeded",
    "session_not_found": "Session not found",
    "agent_not_found": "Agent not found",
    "not_found": "Not found",
    "method_not_allowed": "Method not allowed",
    "session_busy": "A turn is running",
    "session_ended": "The session has ended",
    "continuation_expired": "Continuation token expired",
    "input_too_large": "Input too large",
    "idempotency_mismatch": "Idempotency key used for another request",
    "unpriced_model": "Model without a price",
    "tenant_paused": "Tenant paused",
    "unavailable": "Temporarily unavailable",
    "internal_error": "Internal error",
}
#: Where nothing better is known.
_RETRY_AFTER_SECONDS = 1


def problem(
    status: int, code: str, detail: str, data: Mapping[str, Any] | None = None, headers: Mapping[str, str] | None = None
) -> Answer:
    document: dict[str, Any] = {
        "type": f"urn:turnkeeper:problem:{code}",
        "title": _TITLES.get(code) or HTTPStatus(status).phrase,
        "status": status,
        "detail": detail,
        "code": code,
    }
    document |= {name: value for name, value in (data or {}).items() if name not in document}
    answer = Answer.json(document, status, headers)
    return Answer(status, answer.body, CONTENT_TYPE, answer.headers)


def problem_of(error: TurnkeeperError) -> Answer:
    """The problem document of an error of the kit. What is not the caller's business becomes an internal error."""
    if error.status >= 500 and error.code != "unavailable":
        return internal_error()
    headers: dict[str, str] = {}
    data = dict(error.data)
    wait = data.pop("retry_after_seconds", None)
    if error.status == 503 or data.get("contended"):
        headers["retry-after"] = str(math.ceil(wait or _RETRY_AFTER_SECONDS))
    if "status" in data:
        # In a problem document ``status`` is the HTTP status, a number.
        data["session_status"] = data.pop("status")
    return problem(error.status, error.code, error.detail, data, headers)


def internal_error() -> Answer:
    return problem(500, "internal_error", "It has been logged; the same request may work later.")
