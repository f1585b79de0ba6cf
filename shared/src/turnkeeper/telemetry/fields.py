"""What each line of a log says besides its message: of which session, turn and step it is, whatever thread writes it.

A scope is entered where somebody begins to work for a session; what is noted in it goes into every line that is written
there, and in the threads that are begun there with a copy of the context. What an outer scope says stays: the request
that somebody waits for keeps its own id.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Final

from turnkeeper.core.errors import PromptFailed, ProviderError, TurnkeeperError
from turnkeeper.core.session import Head
from turnkeeper.core.tracing import turn_context

#: Fields of a line of a turn. ``step``: model calls of the session that were answered by then.
OF_A_TURN: Final = ("tenant_id", "session_id", "turn", "step", "agent", "version", "trace_id", "request_id")


class _Scope:
    def __init__(self, outer: Mapping[str, Any], noted: Mapping[str, Any]) -> None:
        self.outer = outer
        self.noted = noted

    @property
    def fields(self) -> Mapping[str, Any]:
        return {**self.noted, **self.outer}


_SCOPE: ContextVar[_Scope] = ContextVar("turnkeeper_log_fields")


def bound() -> Mapping[str, Any]:
    """The fields that hold here."""
    scope = _SCOPE.get(None)
    return scope.fields if scope is not None else {}


@contextmanager
def scope(**fields: Any) -> Iterator[None]:
    """What is noted from here on ends with it."""
    token = _SCOPE.set(_Scope(bound(), _present(fields)))
    try:
        yield
    finally:
        _SCOPE.reset(token)


def note(**fields: Any) -> None:
    """Say so in every line of the scope from now on, also in threads that have begun already. Outside of one, it is
    nothing."""
    if (scope := _SCOPE.get(None)) is not None:
        scope.noted = {**scope.noted, **_present(fields)}


def hold_still() -> None:
    """In a thread whose work is a step's own: what is noted later is not about it."""
    _SCOPE.set(_Scope(bound(), {}))


def of_head(head: Head) -> dict[str, Any]:
    """What a session's head says of its turn; ``None`` where it says nothing."""
    return {
        "tenant_id": head.tenant_id,
        "session_id": head.session_id,
        "turn": head.turn.number,
        "step": head.steps,
        "agent": head.agent,
        "version": head.version,
        "trace_id": turn_context(head).trace_id,
        "request_id": head.turn.request_id,
    }


def words_of(error: BaseException) -> str:
    """What a log may quote of an error: the kit's own words, which quote nobody. Anybody else's may hold what a user, a
    tool or a model said; of those the type stands for them, and the lines of code that it came through."""
    own = isinstance(error, TurnkeeperError) and not isinstance(error, ProviderError | PromptFailed)
    of_aws = type(error).__module__.partition(".")[0] == "botocore"
    return str(error) if own or of_aws else ""


def _present(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value is not None}
