"""The second stage: what a caller sends, as models, numbers and seconds, and what it may see."""

from __future__ import annotations

import json
import re
from typing import Any

from functions.api.http import Request
from turnkeeper.core.canonical import without_surrogates
from turnkeeper.core.errors import Forbidden, InputTooLarge
from turnkeeper.core.inputs import B, invalid, parse_json, read
from turnkeeper.core.session import Head
from turnkeeper.core.views import VIEWS, View
from turnkeeper.wiring.front_door import FrontDoorKit

#: Lambda takes 6 MB for a whole event, in which a body may be base64.
MAX_BODY_BYTES = 4 * 1024 * 1024

MAX_WAIT_SECONDS = 25

_WAIT = re.compile(r'wait\s*=\s*(?:"([0-9]{1,9})"|([0-9]{1,9}))', re.IGNORECASE)


def body_of(request: Request, model: type[B]) -> tuple[B, Any]:
    """The body as its model, and as the JSON that it is, whatever its content type says. No body is one that says
    nothing.

    Raises:
        InputTooLarge: more than is taken.
        InvalidRequest: it does not fit, is no JSON, or holds half a surrogate pair, which no UTF-8 can hold.
    """
    sent = request.body
    if len(sent) > MAX_BODY_BYTES:
        raise InputTooLarge(f"The body is at most {MAX_BODY_BYTES} bytes.", limit_bytes=MAX_BODY_BYTES)
    try:
        value = parse_json(sent.decode()) if sent.strip() else {}
    except ValueError as error:
        raise invalid("The body is not JSON.", "body", f"not JSON: {error}") from error
    body = read(model, value)
    if b"\\ud" in sent.lower():
        text = json.dumps(value, ensure_ascii=False)
        if without_surrogates(text) != text:
            raise invalid("The body holds half a character.", "body", "a lone surrogate")
    return body, value


def preferred_wait(request: Request) -> int | None:
    """Seconds of ``Prefer: wait=N``, at most what is possible; ``None`` where it is not said. What makes no sense as a
    preference is ignored, as RFC 7240 wants it."""
    return preferred_wait_of(request.headers.get("prefer", ""))


def preferred_wait_of(header: str) -> int | None:
    for preference in header.split(","):
        if found := _WAIT.fullmatch(preference.split(";")[0].strip()):
            return min(int(found[1] or found[2]), MAX_WAIT_SECONDS)
    return None


def number(request: Request, name: str, *, least: int, most: int, default: int) -> int:
    """A whole number from the query.

    Raises:
        InvalidRequest: something else, or one outside the bounds.
    """
    text = request.query.get(name)
    if text is None:
        return default
    if not re.fullmatch(r"[0-9]{1,15}", text) or not least <= int(text) <= most:
        raise invalid(f"{name} is a whole number from {least} to {most}.", f"query {name}", "out of range")
    return int(text)


def view_of(kit: FrontDoorKit, request: Request, head: Head) -> View:
    """What a caller sees of a session's events.

    Raises:
        InvalidRequest: it asks for none that there is.
        Forbidden: for more than it may see.
    """
    wished = request.query.get("view")
    if wished is not None and wished not in VIEWS:
        raise invalid(f"view is one of {', '.join(VIEWS)}.", "query view", "not a view")
    agent = kit.catalog.find(head.agent)
    most = "full" if kit.policy.role(request.who.role).admin else agent.view if agent is not None else "user"
    if wished == "full" and most == "user":
        raise Forbidden(f"Agent {head.agent} shows this role the user view only.")
    return most if wished is None else VIEWS[wished]
