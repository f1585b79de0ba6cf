"""The errors of the kit, in one tree. Each carries data and says whether a retry of the same thing can help.

::

    TurnkeeperError
    ├── InvalidRequest            400  invalid_request
    ├── Unauthenticated           401  unauthenticated
    ├── Forbidden                 403  forbidden
    ├── CostCapExceeded           402  cost_cap_exceeded      (retryable where contended)
    ├── SessionNotFound           404  session_not_found
    ├── AgentNotFound             404  agent_not_found
    ├── SessionBusy               409  session_busy           (retryable)
    ├── SessionEnded              409  session_ended
    ├── ContinuationExpired       410  continuation_expired
    ├── InputTooLarge             413  input_too_large
    ├── IdempotencyMismatch       422  idempotency_mismatch
    ├── UnpricedModel             422  unpriced_model
    ├── ContentUnusable           422  content_unusable
    ├── TenantPaused              423  tenant_paused
    ├── Unavailable               503  unavailable            (retryable)
    ├── WrittenByNewer            503  unavailable            a newer release can read it, this one cannot
    ├── LeaseLost                      the runner may write nothing any more
    ├── PromptFailed                   an agent's system prompt cannot be made
    ├── ToolValueError                 a tool is not given a secret or a setting
    │   ├── UndeclaredValue            its agent does not declare it
    │   ├── MissingValue               the deployment has none of this name that can be used
    │   └── ValueOutOfReach            where it is kept cannot be asked just now  (retryable)
    ├── NotFetched                     nothing came from an address; says whether it may later
    ├── NotPosted                      word of a turn was not taken by whom it was for
    └── ProviderError                  the model API failed; see ``certainty``
        └── Uncountable                it counts no tokens before a call, and never will
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from turnkeeper.core.money import format_usd


class TurnkeeperError(Exception):
    """Base of all errors of the kit. ``data`` is safe to show to the caller."""

    code: ClassVar[str] = "internal_error"
    status: ClassVar[int] = 500
    retryable: bool = False

    def __init__(self, detail: str, **data: Any) -> None:
        super().__init__(detail)
        self.detail = detail
        self.data = data


class InvalidRequest(TurnkeeperError):
    """``data["errors"]``: where and why."""

    code = "invalid_request"
    status = 400


class Unauthenticated(TurnkeeperError):
    code = "unauthenticated"
    status = 401


class Forbidden(TurnkeeperError):
    code = "forbidden"
    status = 403


class CostCapExceeded(TurnkeeperError):
    """A cap does not admit the call. ``data`` holds the fields of the 402 answer."""

    code = "cost_cap_exceeded"
    status = 402

    def __init__(
        self,
        *,
        scope: str,
        limit_nanousd: int,
        spent_nanousd: int,
        reserved_nanousd: int,
        needed_nanousd: int,
        contended: bool,
        resets_at: str | None,
        waited_seconds: float = 0.0,
    ) -> None:
        super().__init__(
            cap_text(scope, format_usd(limit_nanousd), format_usd(needed_nanousd)),
            scope=scope,
            limit_usd=format_usd(limit_nanousd),
            spent_usd=format_usd(spent_nanousd),
            reserved_usd=format_usd(reserved_nanousd),
            needed_usd=format_usd(needed_nanousd),
            contended=contended,
            resets_at=resets_at,
        )
        if waited_seconds:  # for money of other calls in flight, in vain
            self.data["waited_seconds"] = round(waited_seconds, 1)
        self.scope = scope
        self.contended = contended
        self.retryable = contended


def cap_text(scope: str, limit_usd: str, needed_usd: str) -> str:
    return f"The {scope} cap of {limit_usd} USD does not admit a call that may cost {needed_usd} USD."


class SessionNotFound(TurnkeeperError):
    code = "session_not_found"
    status = 404


class AgentNotFound(TurnkeeperError):
    code = "agent_not_found"
    status = 404


class SessionBusy(TurnkeeperError):
    code = "session_busy"
    status = 409
    retryable = True


class SessionEnded(TurnkeeperError):
    code = "session_ended"
    status = 409


class ContinuationExpired(TurnkeeperError):
    code = "continuation_expired"
    status = 410


class InputTooLarge(TurnkeeperError):
    code = "input_too_large"
    status = 413


class IdempotencyMismatch(TurnkeeperError):
    code = "idempotency_mismatch"
    status = 422


class UnpricedModel(TurnkeeperError):
    """No price, no call."""

    code = "unpriced_model"
    status = 422


class ContentUnusable(TurnkeeperError):
    """An input names a content by an address that gives none that can be used. ``data["errors"]``: where and why."""

    code = "content_unusable"
    status = 422


class NotFetched(TurnkeeperError):
    """Nothing came from an address. ``retryable`` where nobody there answers now, which says nothing about later or
    about what others reach; else that is what the address gives."""

    code = "not_fetched"

    def __init__(self, detail: str, *, retryable: bool) -> None:
        super().__init__(detail)
        self.retryable = retryable


class NotPosted(TurnkeeperError):
    """Word of a turn was not taken by whom it was for. Whether it was heard all the same, nobody knows."""

    code = "not_posted"


class TenantPaused(TurnkeeperError):
    code = "tenant_paused"
    status = 423


class Unavailable(TurnkeeperError):
    """The store or a service behind it is busy or out of reach; ``data["retry_after_seconds"]`` where known."""

    code = "unavailable"
    status = 503
    retryable = True


class WrittenByNewer(TurnkeeperError, ValueError):
    """What is stored has values that this release does not know: a newer one has written it, as during a deployment, or
    somebody by hand. Whoever asked for it may ask again in a moment, and may find the newer one there; to this process
    it is as any that cannot be read, so that what reads many passes over it."""

    code = "unavailable"
    status = 503


class LeaseLost(TurnkeeperError):
    """Another runner holds the session now. Stop at once; nothing that is in memory counts."""

    code = "lease_lost"


class PromptFailed(TurnkeeperError):
    """The system prompt of a turn cannot be made, or may not be sent. The text says why and never quotes it."""

    code = "prompt_failed"


class ToolValueError(TurnkeeperError):
    """A tool asked for a secret or a setting and is not given it. For the agent's author and its operator: the model
    is only told whether it may help to try again. Never quotes a value."""

    code = "tool_value"


class UndeclaredValue(ToolValueError):
    """The agent does not declare it."""


class MissingValue(ToolValueError):
    """The deployment has none of this name that can be used."""


class ValueOutOfReach(ToolValueError):
    """Where it is kept cannot be asked just now."""

    retryable = True


#: What is known about the money of a failed call: nothing was billed, the usage at hand is what is billed, or
#: nobody knows.
Certainty = Literal["unbilled", "known", "unknown"]


class ProviderError(TurnkeeperError):
    """One attempt at a model call failed.

    ``certainty`` says what may be booked; ``usage`` is what the stream had shown (raw, may be ``None``). ``asked`` is
    false where the provider was not even asked, to leave it in peace: that uses up no attempt.
    """

    code = "provider_error"

    def __init__(
        self,
        detail: str,
        *,
        retryable: bool,
        certainty: Certainty,
        status_code: int | None = None,
        retry_after_seconds: float | None = None,
        usage: dict[str, Any] | None = None,
        request_id: str | None = None,
        asked: bool = True,
    ) -> None:
        super().__init__(detail, status_code=status_code, request_id=request_id)
        self.retryable = retryable
        self.certainty: Certainty = certainty
        self.status_code = status_code
        self.retry_after_seconds = retry_after_seconds
        self.usage = usage
        self.request_id = request_id
        self.asked = asked


class Uncountable(ProviderError):
    """This provider counts no tokens before a call, and never will."""

    def __init__(self, detail: str) -> None:
        super().__init__(detail, retryable=False, certainty="unbilled")
