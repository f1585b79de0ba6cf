"""What a call is: how it is found, what is asked of a caller, and what the OpenAPI document says of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from functions.api.http import Request, Response
from turnkeeper.core.errors import TurnkeeperError
from turnkeeper.core.inputs import Body
from turnkeeper.wiring.front_door import FrontDoorKit

#: Carries a call out, and raises an error of the kit where it cannot.
Handler = Callable[[FrontDoorKit, Request], Response]


class NotFound(TurnkeeperError):
    code = "not_found"
    status = 404


class MethodNotAllowed(TurnkeeperError):
    """``data["allow"]``: the methods that are."""

    code = "method_not_allowed"
    status = 405


class Query(NamedTuple):
    name: str
    schema: Mapping[str, Any]
    about: str


class Route(NamedTuple):
    method: str
    path: str
    call: Handler
    name: str
    summary: str
    #: Answers by status: a model, by its place in :mod:`functions.api.documents`, or ``None`` for no body.
    answers: Mapping[int, str | None]
    #: With one, the call takes an Idempotency-Key.
    body: type[Body] | None = None
    query: Sequence[Query] = ()
    #: Statuses of the problems that are its own; those that every call, or every body, may have come on top.
    problems: Sequence[int] = ()
    #: Answered without an identity.
    public: bool = False
    #: Begins a turn, or goes on with one: takes Prefer.
    turn: bool = False
    #: Reads one session, so that a stream token of it, in the query, stands for an identity.
    by_token: bool = False
    #: Is a stream, whatever content type is asked for.
    streams: bool = False
    #: Other content types of a 200 answer, on request.
    also: Sequence[str] = ()

    @property
    def methods(self) -> tuple[str, ...]:
        """Those that it takes. HEAD is a GET whose body the server in front leaves out: of a stream it would be all."""
        return (self.method, "HEAD") if self.method == "GET" and not self.streams else (self.method,)

    def parameters(self, path: str) -> dict[str, str] | None:
        """Those of an address of this route; ``None`` where it is none."""
        said, given = self.path.split("/"), path.split("/")
        if len(said) != len(given):
            return None
        found: dict[str, str] = {}
        for part, value in zip(said, given, strict=True):
            if part.startswith("{") and value:
                found[part[1:-1]] = value
            elif part != value:
                return None
        return found


def find(routes: Sequence[Route], request: Request) -> tuple[Route, Request]:
    """The route of a request, and the request with the parameters of its path.

    Raises:
        NotFound: no route has the path.
        MethodNotAllowed: none that has the path takes the method.
    """
    allowed: list[str] = []
    for route in routes:
        if (found := route.parameters(request.path)) is None:
            continue
        if request.method in route.methods:
            return route, replace(request, parameters=found)
        allowed.extend(route.methods)
    if allowed:
        raise MethodNotAllowed(f"{request.path} takes {', '.join(allowed)}.", allow=", ".join(allowed))
    raise NotFound("There is nothing at this address.")
