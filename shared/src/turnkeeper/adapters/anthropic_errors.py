"""What a failure of the Messages API means: whether to try again, when, and what it may have cost."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from turnkeeper.core.errors import Certainty, ProviderError
from turnkeeper.core.retry_after import number_of, seconds_asked

_RETRYABLE = frozenset({408, 409, 424, 429})
#: A failure told inside a stream has no status of its own: its type says which it would have been.
_STATUS_OF_TYPE = {
    "invalid_request_error": 400,
    "authentication_error": 401,
    "billing_error": 402,
    "permission_error": 403,
    "not_found_error": 404,
    "request_too_large": 413,
    "rate_limit_error": 429,
    "api_error": 500,
    "timeout_error": 504,
    "overloaded_error": 529,
    # Bedrock's names.
    "validationException": 400,
    "throttlingException": 429,
    "internalServerException": 500,
    "modelStreamErrorException": 424,
    "serviceUnavailableException": 503,
    "modelTimeoutException": 408,
}
_TOO_LONG = re.compile(
    r"prompt is too long|input is too long|exceeds? (the )?(context|model'?s? maximum)|context (window|limit)", re.I
)
#: ``prompt is too long: 210000 tokens > 200000 maximum``
_WINDOW = re.compile(r"\d+ tokens > (\d{1,9})\b")
#: A wrong place in a request: ``messages.3.content.1.image...``, ``messages.3: ...``, ``#/messages/3/content/1``.
#: Amazon's own checks (``messages.3.member...``) count from 1 and are passed over.
_PLACE = re.compile(
    r"""(?:^|(?<=[\s"'`(/]))messages[./\[](?P<message>\d{1,9})\b\]?(?!\.member\b)"""
    r"""(?:[./]content[./\[](?P<block>\d{1,9})\b\]?)?"""
)
_CONTAINER = re.compile(r"\bcontainer\b", re.I)
_ADVICE = {
    401: "The model API refused the key: check that it is valid, and where it is read from.",
    402: "The model API refuses for billing: check the account's payment details.",
    403: "The model API does not permit this: check what the key or the role may use.",
    404: "The model API does not know the model, or this account has no access to it: check the model's name.",
}
_DETAIL_LENGTH = 500


def status_error(
    status_code: int,
    body: object,
    headers: Mapping[str, str],
    *,
    certainty: Certainty,
    usage: dict[str, Any] | None = None,
    now: datetime,
) -> ProviderError:
    """For an error answer (``unbilled``), or an ``error`` event inside a stream (with what the stream had shown).

    ``data`` holds ``error_type``; ``context_window`` = True where the conversation is too long for the model, with
    ``window``, the tokens that it may have, where the error says so; ``at`` = (message, block or None), counted from 0,
    where the request is refused for what stands in that place; and ``container`` = True where it is refused for its
    container.
    """
    error_type, message = _told(body)
    in_stream = 200 <= status_code < 300
    if in_stream:
        status_code = _STATUS_OF_TYPE.get(error_type or "", 500)
    retryable = status_code in _RETRYABLE or status_code >= 500
    # The provider may know better, for instance that a spend limit will not clear by itself.
    advised = headers.get("x-should-retry")
    if advised in ("true", "false"):
        retryable = advised == "true"
    named = f"{status_code} {error_type}" if error_type else str(status_code)
    detail = f"{_ADVICE[status_code]} ({named}: {message})" if status_code in _ADVICE else f"{named}: {message}"
    error = ProviderError(
        detail,
        retryable=retryable,
        certainty=certainty,
        status_code=status_code,
        retry_after_seconds=retry_after_seconds(headers, now),
        usage=usage,
        request_id=request_id(headers),
    )
    if error_type:
        error.data["error_type"] = error_type
    if status_code == 413 or (status_code == 400 and _TOO_LONG.search(message)):
        error.data["context_window"] = True
        if window := _WINDOW.search(message):
            error.data["window"] = int(window[1])
    if status_code == 400 and (place := _PLACE.search(message)):
        block = place["block"]
        error.data["at"] = (int(place["message"]), None if block is None else int(block))
    elif status_code in (400, 404) and _CONTAINER.search(message):
        error.data["container"] = True
    return error


def never_sent(error: BaseException | None) -> bool:
    """Whether a request certainly reached nobody, by what its transport says: then nothing is billed."""
    import httpx2

    ways = httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.PoolTimeout, httpx2.ProxyError
    return isinstance(error, ways) or is_no_address(error)


def is_no_address(error: BaseException | None) -> bool:
    """Whether a request cannot be made at all, as it is written."""
    import httpx2

    return isinstance(error, (httpx2.UnsupportedProtocol, httpx2.LocalProtocolError, httpx2.InvalidURL))


def cannot_sign(error: Exception) -> bool:
    """Whether the SDK could not sign a request to Bedrock, which comes before anything is sent: there are no
    credentials, or whoever has them cannot be asked just now."""
    from botocore.exceptions import BotoCoreError

    return isinstance(error, (RuntimeError, BotoCoreError))


def retry_after_seconds(headers: Mapping[str, str], now: datetime) -> float | None:
    """From ``retry-after-ms``, or ``retry-after`` in seconds or as an HTTP date; ``None`` where neither can be read."""
    milliseconds = number_of(headers.get("retry-after-ms"))
    return seconds_asked(headers.get("retry-after"), now) if milliseconds is None else milliseconds / 1000


def request_id(headers: Mapping[str, str]) -> str | None:
    """The provider's name for the request: Anthropic's header or Amazon's."""
    return headers.get("request-id") or headers.get("x-amzn-requestid")


def _told(body: object) -> tuple[str | None, str]:
    """Type and message of an error body: Anthropic's ``{"error": {...}}``, Amazon's ``{"message": ...}``, or text."""
    error_type: Any = None
    message: Any = ""
    if isinstance(body, Mapping):
        inner = body.get("error")
        if isinstance(inner, Mapping):
            error_type, message = inner.get("type"), inner.get("message")
        else:
            message = body.get("message") or body.get("Message") or ""
    elif isinstance(body, str):
        # Not of the API's making: a proxy's page. Its first words are enough to know it by.
        message = " ".join(body.split())[:120]
    message = str(message or "no message")[:_DETAIL_LENGTH]
    return (error_type if isinstance(error_type, str) else None), message
