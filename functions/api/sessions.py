"""Calls that look at sessions, end them, or erase them."""

from __future__ import annotations

import typing

from functions.api.documents import SessionList, can_go_on, session_of, summary_of
from functions.api.http import Answer, Request, invalid
from functions.api.preferences import number
from functions.api.waiting import until
from turnkeeper.bootstrap import Kit
from turnkeeper.core.continuation import continuation_of
from turnkeeper.core.errors import SessionEnded
from turnkeeper.core.session import Head, Status

STATUSES: tuple[str, ...] = typing.get_args(Status)
MOST_SESSIONS = 100

#: How long a cancel waits for the runner to stop.
_CANCEL_SECONDS = 10.0


class SessionCalls:
    def __init__(self, kit: Kit) -> None:
        self._kit = kit

    def get(self, request: Request) -> Answer:
        return self._answer(request, self._owned(request))

    def list(self, request: Request) -> Answer:
        status = request.query.get("status")
        if status is not None and status not in STATUSES:
            raise invalid(f"status is one of {', '.join(STATUSES)}.", "query status", "not a status")
        limit = number(request.query, "limit", least=1, most=MOST_SESSIONS, default=20)
        who = request.who
        user = None if self._kit.policy.role(who.role).admin else who.user_id
        heads, cursor = self._kit.sessions.list(
            who.tenant_id, user, status=status, limit=limit, cursor=request.query.get("cursor")
        )
        return Answer.json(SessionList(sessions=list(map(summary_of, heads)), next_cursor=cursor).dump())

    def cancel(self, request: Request) -> Answer:
        head = self._owned(request)
        give_up_at = self._kit.clock.monotonic() + min(_CANCEL_SECONDS, request.left_seconds - 3)
        while head.status != "cancelled":
            try:
                head = self._kit.intake.cancel(head, actor=request.who.user_id)
            except SessionEnded:
                # It ended by itself meanwhile, or was cancelled before: asking twice is no mistake.
                if self._again(head).status != "cancelled":
                    raise
                head = self._again(head)
            head = until(self._kit, head, lambda now: now.resting, give_up_at - self._kit.clock.monotonic())
            if not head.resting:
                break
        return self._answer(request, head)

    def erase(self, request: Request) -> Answer:
        self._kit.erasure.erase(self._owned(request), actor=request.who.user_id)
        return Answer(204)

    def _owned(self, request: Request) -> Head:
        return self._kit.intake.owned(request.who, request.parameters["session_id"])

    def _again(self, head: Head) -> Head:
        return self._kit.sessions.head(head.tenant_id, head.session_id)

    def _answer(self, request: Request, head: Head) -> Answer:
        sessions = self._kit.sessions
        answer = sessions.latest_answer(head.tenant_id, head.session_id, since=head.turn.seq)
        # A token is of use to the session's own user only.
        mine = head.user_id == request.who.user_id
        token = self._kit.tokens.sign(continuation_of(head)) if mine and can_go_on(head) else None
        plan = sessions.plan(head.tenant_id, head.session_id)
        return Answer.json(session_of(head, answer, token, plan, ()).dump())
