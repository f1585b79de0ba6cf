"""The fourth stage: a turn is begun, or goes on, and its runner is asked for. A function for each body."""

from __future__ import annotations

import logging
from contextlib import suppress
from functools import partial
from typing import NamedTuple

from functions.api.bodies import ContinueSession, CreateSession, Fork, PostTurn
from functions.api.http import Request
from turnkeeper.core.continuation import may_go_on
from turnkeeper.core.errors import SessionBusy, SessionEnded, TurnkeeperError
from turnkeeper.core.session import Head
from turnkeeper.runtime.intake import NewSession
from turnkeeper.runtime.store.deliveries import DeliverTo
from turnkeeper.runtime.store.idempotency import IdempotencyKey
from turnkeeper.wiring.front_door import FrontDoorKit

logger = logging.getLogger(__name__)


class Begun(NamedTuple):
    """A turn of a session, and the session as it was then."""

    head: Head
    turn: int
    #: False where none could be asked for: then waiting is in vain.
    has_runner: bool = True
    #: The last entry that was there once it was done, where an idempotency key says so.
    seq: int | None = None

    def is_over(self, now: Head) -> bool:
        """Whether there is nothing more to wait for."""
        return now.resting or now.turn.number != self.turn or not self.has_runner


def create(kit: FrontDoorKit, request: Request, body: CreateSession, key: IdempotencyKey | None) -> Begun:
    new = NewSession(body.agent, body.input, body.metadata, body.placement, DeliverTo(webhook=body.webhook))
    return _sent(kit, request, kit.intake.create(request.who, new, key=key))


def post(kit: FrontDoorKit, request: Request, body: PostTurn, key: IdempotencyKey | None) -> Begun:
    head = kit.intake.owned(request.who, request.parameters["session_id"])
    return _sent(kit, request, kit.intake.post(head, body.input, who=request.who, key=key))


def go_on(kit: FrontDoorKit, request: Request, body: ContinueSession, key: IdempotencyKey | None) -> Begun:
    """A stopped turn goes on, where the token is for that; else the session is waited for as it is."""
    token = kit.tokens.verify(body.continuation_token)
    head = kit.intake.continued(request.who, token)
    limit = body.limits.max_iterations if body.limits else None
    read = partial(kit.sessions.load, head.tenant_id, head.session_id)
    if not may_go_on(head, token.turn, token.seq, max_iterations=limit, read=read):
        return _begun(head, kit.takes_up(head))
    try:
        return _sent(kit, request, kit.intake.resume(head, max_iterations=limit, who=request.who, key=key))
    except (SessionBusy, SessionEnded):  # Somebody else did it first: then that is what is waited for.
        head = kit.sessions.head(head.tenant_id, head.session_id)
        return Begun(head, head.turn.number)


def fork(kit: FrontDoorKit, request: Request, body: Fork, key: IdempotencyKey | None) -> Begun:
    """A copy of a session; it has a runner only where it has an input of its own."""
    source = kit.intake.owned(request.who, request.parameters["session_id"])
    head = kit.branching.fork(request.who, source, at_seq=body.at_seq, value=body.input, agent=body.agent, key=key)
    return Begun(head, head.turn.number) if body.input is None else _sent(kit, request, head)


def _sent(kit: FrontDoorKit, request: Request, head: Head) -> Begun:
    """It is written down that a runner is needed: where nobody takes the request now, the sweep asks again. None is for
    what a pause has stopped at once."""
    if head.resting:
        return Begun(head, head.turn.number)
    try:
        if request.streams:  # Before there is a runner: so it knows from its first word on that somebody looks.
            with suppress(TurnkeeperError):
                kit.streams.look(head.tenant_id, head.session_id, anew=True)
        left = kit.placing.send(head)
    except Exception:
        logger.exception("no runner could be asked for", extra={"session_id": head.session_id})
        return Begun(head, head.turn.number, has_runner=False)
    return _begun(head, left)


def _begun(head: Head, left: Head | None) -> Begun:
    """``left``: the head as a runner left it that ran within this request; nothing more is waited for then."""
    return Begun(left or head, head.turn.number, has_runner=left is None)
