"""Calls that look at sessions, end them, or erase them."""

from __future__ import annotations

import typing
from collections.abc import Sequence
from datetime import timedelta

from functions.api.bodies import Rewind
from functions.api.documents import SessionList, SessionSummary, StreamTokenDocument
from functions.api.events import view_of
from functions.api.http import Request, Response
from functions.api.stages import tell
from functions.api.stages.begin import Begun
from functions.api.stages.once import key_of, once
from functions.api.stages.read import body_of, number
from functions.api.stages.wait import until
from turnkeeper.core.errors import Forbidden, SessionEnded
from turnkeeper.core.inputs import invalid
from turnkeeper.core.ledger import iso
from turnkeeper.core.reading import Reading
from turnkeeper.core.session import Head, Status
from turnkeeper.runtime.store import keys
from turnkeeper.runtime.store.idempotency import IdempotencyKey
from turnkeeper.wiring.front_door import FrontDoorKit

STATUSES: tuple[str, ...] = typing.get_args(Status)
MAX_SESSIONS = 100

#: How long a cancel waits for the runner to stop.
_CANCEL_SECONDS = 10.0


def get(kit: FrontDoorKit, request: Request) -> Response:
    head = owned(kit, request)
    return tell.session(kit, request.who, head, view_of(kit, request, head))


def explain(kit: FrontDoorKit, request: Request) -> Response:
    """Its story in plain sentences, for whoever sees all of it. What the tenant has spent as a whole is for admins."""
    head = owned(kit, request)
    if view_of(kit, request, head) == "user":
        raise Forbidden(f"Agent {head.agent} shows this role the user view only, which has no explanation.")
    turn = number(request, "turn", least=1, most=head.turn.number, default=0) or None
    story = kit.explaining.explain(head, turn, admin=kit.policy.role(request.who.role).admin)
    return tell.story(head, turn, story)


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
    found: list[Head] = []
    for key in kit.scores.worst_first(who.tenant_id, below=below):
        if (owner := keys.session_of_pk(key.pk)) is None:
            continue
        head = kit.sessions.head(*owner)
        if head.status != "erased" and (admin or head.user_id == who.user_id):
            found.append(head)
        if len(found) == limit:
            break
    return _listed(kit, request, found, [tell.scored(kit, head) for head in found], None)


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


def stream_token(kit: FrontDoorKit, request: Request) -> Response:
    """For a browser's EventSource, which can send no header: it reads this session as its asker would, for a while."""
    who, head = request.who, owned(kit, request)
    reading = Reading(tenant_id=who.tenant_id, user_id=who.user_id, role=who.role, session_id=head.session_id)
    token = kit.stream_tokens.sign(reading)
    ends = kit.clock.now() + timedelta(seconds=kit.stream_tokens.valid_seconds)
    return Response.json(StreamTokenDocument(token=token, expires_at=iso(ends)).dump())


def rewind(kit: FrontDoorKit, request: Request) -> Response:
    body, sent = body_of(request, Rewind)

    def begin(key: IdempotencyKey | None) -> Begun:
        head = owned(kit, request)
        after = kit.branching.rewind(request.who, head, turns=body.turns, to_seq=body.to_seq, key=key)
        return Begun(after, after.turn.number)

    begun = once(kit, request.who, key_of(request, sent), begin)
    return tell.rewound(kit, request.who, begun.head, view_of(kit, request, begun.head))


def owned(kit: FrontDoorKit, request: Request) -> Head:
    """The head of the session that the path names."""
    return kit.intake.owned(request.who, request.parameters["session_id"])
