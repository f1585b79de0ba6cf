"""What a call is: how it is routed, what is asked of a caller, and what the OpenAPI document says of it."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from pydantic import BaseModel

from functions.api.bodies import Body
from functions.api.http import Answer, Request


@dataclass(frozen=True)
class Query:
    name: str
    schema: Mapping[str, Any]
    about: str


@dataclass(frozen=True)
class Route:
    method: str
    path: str
    call: Callable[[Request], Answer]
    name: str
    summary: str
    #: Answers by status: a model, or ``None`` for no body.
    answers: Mapping[int, type[BaseModel] | None]
    body: type[Body] | None = None
    query: Sequence[Query] = ()
    #: Statuses of the problems that are its own; those that every call may have come on top.
    problems: Sequence[int] = ()
    #: Answered without an identity.
    public: bool = False
    #: Takes Prefer and Idempotency-Key.
    turn: bool = False
    #: Other content types of a 200 answer, on request.
    also: Sequence[str] = ()

    @cached_property
    def pattern(self) -> re.Pattern[str]:
        return re.compile(re.sub(r"\{(\w+)\}", r"(?P<\1>[^/]+)", self.path))

    def match(self, path: str) -> Mapping[str, str] | None:
        """The parameters in the path, where it is this route's."""
        found = self.pattern.fullmatch(path)
        return found.groupdict() if found else None
