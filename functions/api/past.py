"""Calls that look back at what a session did: to tell it, or to take some of it back."""

from __future__ import annotations

from typing import TYPE_CHECKING

from functions.api.bodies import Rewind
from functions.api.documents.past import Explanation, RewoundDocument, StoryLine
from functions.api.http import Request, Response
from functions.api.sessions import owned
from functions.api.stages import tell
from functions.api.stages.begin import Begun
from functions.api.stages.once import key_of, once
from functions.api.stages.read import body_of, number, view_of
from turnkeeper.core.errors import Forbidden
from turnkeeper.core.money import format_usd
from turnkeeper.core.session import Head
from turnkeeper.core.views import View
from turnkeeper.runtime.intake import Identity
from turnkeeper.runtime.store.idempotency import IdempotencyKey
from turnkeeper.wiring.front_door import FrontDoorKit

if TYPE_CHECKING:
    from turnkeeper.core.story.facts import Story


def explain(kit: FrontDoorKit, request: Request) -> Response:
    """Its story in plain sentences, for whoever sees all of it. What the tenant has spent as a whole is for admins."""
    head = owned(kit, request)
    if view_of(kit, request, head) == "user":
        raise Forbidden(f"Agent {head.agent} shows this role the user view only, which has no explanation.")
    turn = number(request, "turn", least=1, most=head.turn.number, default=0) or None
    story = kit.explaining.explain(head, turn, admin=kit.policy.role(request.who.role).admin)
    return _told(head, turn, story)


def _told(head: Head, number: int | None, told: Story) -> Response:
    lines = [
        StoryLine(
            at=line.at,
            text=line.text,
            refs=dict(line.refs),
            cost_usd=None if line.cost_nanousd is None else format_usd(line.cost_nanousd),
        )
        for line in told.lines
    ]
    document = Explanation(
        session_id=head.session_id, turn=number, story=lines, why_ended=told.why_ended, what_now=told.what_now
    )
    return Response.json(document.dump())


def rewind(kit: FrontDoorKit, request: Request) -> Response:
    body, sent = body_of(request, Rewind)

    def begin(key: IdempotencyKey | None) -> Begun:
        head = owned(kit, request)
        after = kit.branching.rewind(request.who, head, turns=body.turns, to_seq=body.to_seq, key=key)
        return Begun(after, after.turn.number)

    begun = once(kit, request.who, key_of(kit, request, sent), begin)
    return _rewound(kit, request.who, begun, view_of(kit, request, begun.head))


def _rewound(kit: FrontDoorKit, who: Identity, begun: Begun, view: View) -> Response:
    """A session behind a rewind, with what the rewind took back, also where there was another one since."""
    rewind = kit.branching.rewound(begun.head, begun.seq)
    document = RewoundDocument(
        **tell.members(kit, who, begun.head), left_out=list(rewind.left_out), once_calls=list(rewind.once_calls)
    )
    return Response.json(tell.seen(view, document.dump()))
