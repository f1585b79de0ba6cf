"""Calls that begin a turn, or go on with one: a straight line of stages, read from top to bottom."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from functions.api.http import EVENT_STREAM, Request, Response
from functions.api.routing import Route
from functions.api.stages import tell
from functions.api.stages.begin import Begun
from functions.api.stages.once import key_of, once
from functions.api.stages.read import body_of, preferred_wait, view_of
from functions.api.stages.wait import look_until, worker_is_missing
from turnkeeper.core.inputs import B
from turnkeeper.runtime.news import Awaited
from turnkeeper.runtime.store.idempotency import IdempotencyKey
from turnkeeper.wiring.front_door import FrontDoorKit

#: Carries a body out, and writes down under the key that it did.
Begin = Callable[[FrontDoorKit, Request, B, IdempotencyKey | None], Begun]

#: When to come back while a worker begins.
_RETRY_SECONDS = "5"


def turn_route(path: str, name: str, summary: str, model: type[B], begin: Begin[B], problems: Sequence[int]) -> Route:
    """The route of a call that begins a turn in this way. Who is asking is known when it is called."""

    def call(kit: FrontDoorKit, request: Request) -> Response:
        body, sent = body_of(request, model)
        key = key_of(kit, request, sent)
        wished = preferred_wait(request)

        begun = once(kit, request.who, key, partial(begin, kit, request, body))
        seconds = kit.settings.default_wait_seconds if wished is None else wished
        in_vain = worker_is_missing(kit)
        awaited = Awaited(kit.table, kit.blobs, begun.head)
        head = look_until(
            kit.clock,
            begun.head,
            awaited.look,
            lambda now: begun.is_over(now) or in_vain(now),
            request.spare_seconds(seconds),
        )
        response = tell.turn(kit, head, begun.turn, view_of(kit, request, head), awaited.answer)
        if in_vain(head):
            response = response.with_headers({"retry-after": _RETRY_SECONDS})
        return response if wished is None else response.with_headers({"preference-applied": f"wait={wished}"})

    answers = {200: "sessions.TurnDocument", 202: "sessions.TurnDocument"}
    also = (EVENT_STREAM,)
    return Route("POST", path, call, name, summary, answers, body=model, problems=problems, turn=True, also=also)
