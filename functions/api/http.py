"""Requests and responses as the front door sees them, whichever server they come through."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from dataclasses import field, replace
from typing import Any

from turnkeeper.core.canonical import json_text
from turnkeeper.core.errors import SessionNotFound
from turnkeeper.core.values import dataclass
from turnkeeper.runtime.intake import Identity

EVENT_STREAM = "text/event-stream"
#: Answers are their caller's own, and are what they say they are.
OWN_HEADERS = {"cache-control": "no-store", "x-content-type-options": "nosniff"}

_SESSION_ID = re.compile(r"ses_[0-9A-Za-z]{26}")

#: Of a request's time, for everything but waiting.
_MARGIN_SECONDS = 3.0


@dataclass(frozen=True)
class Request:
    method: str
    path: str
    #: By lower-case name.
    headers: Mapping[str, str]
    query: Mapping[str, str]
    body: bytes
    #: Of a JWT that the server in front has checked.
    claims: Mapping[str, Any]
    #: ARN of whoever signed the request, where the server in front has checked that.
    principal: str | None
    request_id: str
    #: When the server in front gives up, on this process's monotonic clock.
    ends_at: float
    #: From the path, by the route's names.
    parameters: Mapping[str, str] = field(default_factory=dict)
    #: The answer can be sent bit by bit, and the caller wants it so: it looks on from the moment that a turn begins.
    streams: bool = False
    #: Who is asking; ``None`` before that is found out, and on public routes.
    identity: Identity | None = None

    @property
    def who(self) -> Identity:
        assert self.identity is not None, "only routes that need an identity ask for it"
        return self.identity

    @property
    def wants_stream(self) -> bool:
        """Whether an answer is asked for as server-sent events: they are named as acceptable, and no less than JSON. A
        HEAD asks for no events."""
        if self.method == "HEAD":
            return False
        wanted = _qualities(self.headers.get("accept", ""))
        json_too = next((wanted[name] for name in _JSON if name in wanted), 0.0)
        return 0 < wanted.get(EVENT_STREAM, 0.0) >= json_too

    def spare_seconds(self, wanted: float) -> float:
        """Seconds that may be spent on waiting, from now: what was done so far has taken its part of the time."""
        return min(wanted, self.ends_at - time.monotonic() - _MARGIN_SECONDS)


#: What stands for an answer as JSON in an Accept header, the nearest first.
_JSON = ("application/json", "application/*", "*/*")
_QUALITY = re.compile(r"q=([01](?:\.[0-9]{0,3})?)")


def _qualities(accept: str) -> dict[str, float]:
    """How much each content type of an Accept header is wanted (RFC 9110, 12.5.1)."""
    found: dict[str, float] = {}
    for each in re.sub(r'"[^"]*"', "", accept).lower().split(","):
        name, *parameters = (part.strip() for part in each.split(";"))
        said = [quality for quality in map(_QUALITY.fullmatch, parameters) if quality is not None]
        found[name] = float(said[0][1]) if said else 1.0
    return found


def is_preflight(request: Request) -> bool:
    """Whether a browser asks if a page of another origin may make a call. Which origins may is for the server in front
    to add to the answer; without its headers there, the browser takes it for a no."""
    return request.method == "OPTIONS" and {"origin", "access-control-request-method"} <= request.headers.keys()


def check_session_id(text: str) -> str:
    """What names a session, in a path or a query. Raises SessionNotFound for what can name none."""
    if not _SESSION_ID.fullmatch(text):
        raise SessionNotFound("There is no such session.")
    return text


@dataclass(frozen=True)
class Response:
    status: int
    body: str = ""
    content_type: str = "application/json"
    #: By lower-case name, without the content type.
    headers: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def json(cls, value: Any, status: int = 200) -> Response:
        """A body of JSON. What UTF-8 cannot hold, such as half a character in an address, is replaced."""
        return cls(status, json_text(value))

    def with_headers(self, headers: Mapping[str, str]) -> Response:
        return replace(self, headers={**self.headers, **headers})
