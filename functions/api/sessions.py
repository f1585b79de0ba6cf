"""Calls that look at sessions as they are, end them, or erase them."""

from __future__ import annotations

import typing
from collections.abc import Iterator, Sequence
from itertools import islice

from functions.api.documents.sessions import SessionList, SessionSummary
from functions.api.http import Request, Response
from functions.api.stages import tell
from functions.api.stages.read import number, view_of
from functions.api.stages.wait import until
from turnkeeper.core.errors import SessionEnded
from turnkeeper.core.inputs import invalid
from turnkeeper.core.session import Head, Status
from turnkeeper.wiring.front_door import FrontDoorKit

STATUSES: tuple[str, ...] = typing.get_args(Status)
MAX_SESSIONS = 100
_HEADS_AT_ONCE = 50

#: How long a cancel waits for the runner to stop.
_CANCEL_SECONDS = 10.0


def get(kit: FrontDoorKit, request: Request) -> Response:
    head = owned(kit, request)
    return tell.session(kit, request.who, head, view_of(kit, request, head))


def find(kit: FrontDoorKit, request: Request) -> Response:
    """One's own, or the whole tenant's for admins."""
    status = request.query.get("status")
    if status is not None and status not in STATUSES:
        raise invalid(f"status is one of {', '.join(STATUSES)}.", "query status", "not a status")
    limit = number(request, "limit", least=1, most=MAX_SESSIONS, default=20)
    who = request.who
    if "scored_below" in request.query:
        return _scored_below(kit, request, limit)
    user = None if kit.policy.role(who.role).admin else who.user_id
    heads, cursor = kit.sessions.lists.page(
        who.tenant_id, user, status=status, limit=limit, cursor=request.query.get("cursor")
    )
    return _listed(kit, request, heads, [tell.summary(head) for head in heads], cursor)


def _scored_below(kit: FrontDoorKit, request: Request, limit: int) -> Response:
    """Those with a turn that scored less, worst first: a list of its own, of which a page is all there is."""
    for other in ("status", "cursor"):
        if other in request.query:
            raise invalid(f"scored_below takes no {other}.", f"query {other}", "not with scored_below")
    try:
        below = float(request.query["scored_below"])
    except ValueError:
        below = -1.0
    if not 0 <= below <= 1:
        raise invalid("scored_below is a number from 0 to 1.", "query scored_below", "not a number from 0 to 1")
    who = request.who
    admin = kit.policy.role(who.role).admin
    theirs = (
        head
        for head in _worst_first(kit, who.tenant_id, below)
        if head.status != "erased" and (admin or head.user_id == who.user_id)
    )
    found = list(islice(theirs, limit))
    return _listed(kit, request, found, [tell.scored(kit, head) for head in found], None)


def _worst_first(kit: FrontDoorKit, tenant_id: str, below: float) -> Iterator[Head]:
    """Many at once: of a tenant's worst, few may be this caller's. Those that can be read."""
    places = kit.scores.worst_first(tenant_id, below=below)
    while some := list(islice(places, _HEADS_AT_ONCE)):
        yield from kit.sessions.heads(kit.table.batch_get(some))


def _listed(
    kit: FrontDoorKit, request: Request, heads: Sequence[Head], lines: Sequence[SessionSummary], cursor: str | None
) -> Response:
    views = [view_of(kit, request, head) for head in heads]
    document = SessionList(sessions=list(lines), next_cursor=cursor).dump()
    document["sessions"] = list(map(tell.seen, views, document["sessions"]))
    return Response.json(document)


def cancel(kit: FrontDoorKit, request: Request) -> Response:
    head = owned(kit, request)
    give_up_at = kit.clock.monotonic() + request.spare_seconds(_CANCEL_SECONDS)
    while head.status != "cancelled":
        try:
            head = kit.cancelling.cancel(head, actor=request.who.user_id)
        except SessionEnded:
            # It ended by itself meanwhile, or was cancelled before: asking twice is no mistake.
            head = kit.sessions.head(head.tenant_id, head.session_id)
            if head.status != "cancelled":
                raise
        # A runner that is asked and found dead meanwhile is not waited for: then the session can be ended here.
        head = until(
            kit, head, lambda now: now.resting or not kit.sessions.is_held(now), give_up_at - kit.clock.monotonic()
        )
        if not head.resting and kit.sessions.is_held(head):
            break
    return tell.session(kit, request.who, head, view_of(kit, request, head))


def erase(kit: FrontDoorKit, request: Request) -> Response:
    kit.erasure.erase(owned(kit, request), actor=request.who.user_id)
    return Response(204)


def owned(kit: FrontDoorKit, request: Request) -> Head:
    """The head of the session that the path names."""
    return kit.intake.owned(request.who, request.parameters["session_id"])
