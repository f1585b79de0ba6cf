"""Errors as the API words them, and ids as it shapes them."""

from __future__ import annotations

import secrets
from typing import Any

_ALPHABET = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"

ERROR_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    409: "conflict_error",
    413: "request_too_large",
    429: "rate_limit_error",
    500: "api_error",
    504: "timeout_error",
    529: "overloaded_error",
}

_SCRIPTED_MESSAGES = {
    429: "This request would exceed the rate limit. (asked for by a [[fail]] directive)",
    529: "Overloaded (asked for by a [[fail]] directive)",
}


class ApiError(Exception):
    """An HTTP error answer; ``status`` decides the error type unless one is given."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message

    @property
    def error_type(self) -> str:
        fallback = "api_error" if self.status >= 500 else "invalid_request_error"
        return ERROR_TYPES.get(self.status, fallback)

    def body(self, request_id: str) -> dict[str, Any]:
        error = {"type": self.error_type, "message": self.message}
        return {"type": "error", "error": error, "request_id": request_id}

    def headers(self, request_id: str) -> dict[str, str]:
        retry = self.status in (408, 409, 429) or self.status >= 500
        headers = {"request-id": request_id, "x-should-retry": "true" if retry else "false"}
        if self.status == 429:
            headers["retry-after"] = "1"
        return headers


def invalid(message: str) -> ApiError:
    return ApiError(400, message)


def scripted_failure(status: int) -> ApiError:
    """The error that ``[[fail STATUS]]`` asks for."""
    message = _SCRIPTED_MESSAGES.get(status, f"HTTP {status} asked for by a [[fail]] directive")
    return ApiError(status, message)


def _token(length: int) -> str:
    return "".join(secrets.choice(_ALPHABET) for _ in range(length))


def new_message_id() -> str:
    return "msg_01" + _token(22)


def new_tool_use_id() -> str:
    return "toolu_01" + _token(22)


def new_request_id() -> str:
    return "req_011C" + _token(20)
