"""What the gateway answers itself, in the form of the API's errors, so that every client takes it as it should.

A client that is told 402, 403 or 400 stops at once; ``x-should-retry: false`` says so to those that would try again.
Only what may soon be otherwise has a ``retry-after``.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from turnkeeper.core.errors import (
    CostCapExceeded,
    Forbidden,
    InputTooLarge,
    InvalidRequest,
    LeaseLost,
    ProviderError,
    TenantPaused,
    TurnkeeperError,
    Unauthenticated,
    Uncountable,
    UnpricedModel,
)
from turnkeeper.core.scopes import SCOPES

#: What to wait where only money in flight was in the way: longer than most calls take.
CONTENDED_SECONDS = 10
#: Of what is told; it may quote the client.
_MAX_MESSAGE = 2_000


@dataclass(frozen=True, slots=True)
class Refusal:
    """One answer of the gateway's own."""

    status: int
    type: str
    message: str
    #: Seconds after which it may be tried again; ``None``: not at all.
    retry_after: int | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    #: What programs read, as the API has it.
    details: Mapping[str, str] | None = None

    def answer(self, request_id: str) -> tuple[int, dict[str, str], bytes]:
        """Status, headers and body."""
        retry = {"x-should-retry": "false"} if self.retry_after is None else {"retry-after": str(self.retry_after)}
        error: dict[str, Any] = {"type": self.type, "message": f"turnkeeper: {self.message[:_MAX_MESSAGE]}"}
        error |= {"details": self.details} if self.details else {}
        body = {"type": "error", "error": error, "request_id": request_id}
        return (
            self.status,
            {"content-type": "application/json", "request-id": request_id, **retry, **self.headers},
            json.dumps(body).encode(),
        )


NOT_FOUND = Refusal(404, "not_found_error", "only POST /v1/messages and POST /v1/messages/count_tokens are here")


def refusal_of(error: TurnkeeperError) -> Refusal:
    """What a client is told."""
    match error:
        case CostCapExceeded():
            return _cap(error)
        case Unauthenticated():
            return Refusal(401, "authentication_error", f"{error.detail}; make one with `turnkeeper gateway token`")
        case TenantPaused():
            return Refusal(403, "permission_error", f"{error.detail}; `turnkeeper tenant unpause` lets it go on")
        case Forbidden() | LeaseLost():
            return Refusal(403, "permission_error", error.detail)
        case UnpricedModel(data={"option": _}) | UnpricedModel(data={"tool": _}):
            return Refusal(400, "invalid_request_error", error.detail)
        case UnpricedModel():
            return Refusal(404, "not_found_error", error.detail)
        case InvalidRequest():
            return Refusal(400, "invalid_request_error", error.detail, details=error.data.get("details"))
        case InputTooLarge():
            return Refusal(413, "request_too_large", error.detail)
        case Uncountable():
            return Refusal(404, "not_found_error", error.detail)
        case ProviderError():
            return Refusal(502, "api_error", error.detail, retry_after=_after(error.retry_after_seconds))
    if error.retryable:
        after = _after(error.data.get("retry_after_seconds"))
        return Refusal(503, "api_error", f"{error.detail}; nothing was sent to the model", retry_after=after)
    return Refusal(500, "api_error", "something went wrong; nothing was sent to the model")


def _cap(error: CostCapExceeded) -> Refusal:
    told = error.data
    stands = (
        f"scope {error.scope}, limit {told['limit_usd']}, spent {told['spent_usd']}, set aside {told['reserved_usd']}"
    )
    if error.contended:
        return Refusal(
            429,
            "rate_limit_error",
            f"other calls in flight hold the money that this one may cost ({stands}); try again when they are done",
            retry_after=CONTENDED_SECONDS,
        )
    what = _what_to_do(error.scope, told)
    return Refusal(402, "billing_error", f"cost_cap: {error.detail} ({stands}). {what}")


def _what_to_do(scope: str, told: Mapping[str, Any]) -> str:
    resets = f"It starts anew at {told['resets_at']}; before that, an" if told.get("resets_at") else "An"
    own = (
        " or makes a token with more"
        if any(row.holder == "task" for row in SCOPES.values() if row.name == scope)
        else ""
    )
    return f"{resets} operator raises it with `turnkeeper tenant set TENANT --cap {scope}=USD`{own}."


def _after(seconds: float | None) -> int:
    return max(1, math.ceil(seconds or 1))
