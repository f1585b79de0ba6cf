"""Calls that take work in, and wait for what comes of it."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from functions.api.bodies import ContinueSession, CreateSession, PostTurn, content, read
from functions.api.documents import Turn, can_go_on, earlier_turn, turn_of
from functions.api.http import Answer, Request
from functions.api.preferences import DEFAULT_WAIT_SECONDS, idempotency_key, preferred_wait
from functions.api.problems import problem
from functions.api.waiting import until
from turnkeeper.bootstrap import Kit
from turnkeeper.core.canonical import sorted_json
from turnkeeper.core.continuation import Continuation, continuation_of
from turnkeeper.core.errors import SessionBusy, SessionEnded, TenantPaused, UnpricedModel
from turnkeeper.core.session import Head
from turnkeeper.core.stops import refusal_of, resumable, stops_again
from turnkeeper.runtime.intake import Identity, NewSession
from turnkeeper.runtime.store.idempotency import AlreadyDone, Earlier, IdempotencyKey

logger = logging.getLogger(__name__)

#: Of the Lambda's time, for everything but waiting.
_MARGIN_SECONDS = 3.0


@dataclass(frozen=True, slots=True)
class Begun:
    """A turn to wait for. Who began it has to ask for its runner."""

    head: Head
    by_us: bool = True


class TurnCalls:
    def __init__(self, kit: Kit) -> None:
        self._kit = kit

    # ---- the calls ----

    def create(self, request: Request) -> Answer:
        raw = request.json()
        body = read(CreateSession, raw)
        new = NewSession(body.agent, content(body.input), body.metadata, body.placement)
        return self._once(request, raw, lambda key: Begun(self._kit.intake.create(request.who, new, key=key)))

    def post(self, request: Request) -> Answer:
        raw = request.json()
        body = read(PostTurn, raw)
        session_id = request.parameters["session_id"]

        def post(key: IdempotencyKey | None) -> Begun:
            head = self._kit.intake.owned(request.who, session_id)
            return Begun(self._kit.intake.post(head, content(body.input), who=request.who, key=key))

        return self._once(request, raw, post)

    def go_on(self, request: Request) -> Answer:
        raw = request.json()
        body = read(ContinueSession, raw)
        token = self._kit.tokens.verify(body.continuation_token)
        most = body.limits.max_iterations if body.limits else None

        def resume(key: IdempotencyKey | None) -> Begun:
            head = self._kit.intake.continued(request.who, token)
            if not self._may_resume(head, token, most):
                return Begun(head, by_us=False)
            try:
                return Begun(self._kit.intake.resume(head, max_iterations=most, who=request.who, key=key))
            except (SessionBusy, SessionEnded):  # Somebody else did it first: then that is what is waited for.
                return Begun(self._kit.sessions.head(head.tenant_id, head.session_id), by_us=False)

        return self._once(request, raw, resume)

    def _may_resume(self, head: Head, token: Continuation, most: int | None) -> bool:
        """A token ends one stop, the next behind its position: once the model has said more since, it is used up."""
        if not resumable(head) or stops_again(head, most) or head.turn.number != token.turn:
            return False
        if token.seq >= head.last_seq:
            return True
        entries = self._kit.sessions.load(head.tenant_id, head.session_id).entries
        stops = [entry.seq for entry in entries if entry.status == "stopped" and entry.seq >= token.seq]
        return not any(entry.type == "assistant" and entry.seq > stops[0] for entry in entries) if stops else True

    # ---- once, and the wait ----

    def _once(self, request: Request, raw: Any, act: Callable[[IdempotencyKey | None], Begun]) -> Answer:
        """Do it, or find what was done under the same key; then wait for the turn."""
        text = idempotency_key(request.headers)
        key = None if text is None else IdempotencyKey(text, _fingerprint(request, raw), request.who.user_id)
        if key is not None and (earlier := self._earlier(request.who, key)):
            return self._turn_of(request, earlier)
        try:
            begun = act(key)
        except AlreadyDone as done:
            return self._turn_of(request, done.earlier)
        except (SessionBusy, SessionEnded):
            # Perhaps by the same request, a moment ago.
            if key is not None and (earlier := self._earlier(request.who, key)):
                return self._turn_of(request, earlier)
            raise
        return self._waited(request, begun.head, sent=self._send(begun.head) if begun.by_us else True)

    def _earlier(self, who: Identity, key: IdempotencyKey) -> Earlier | None:
        return self._kit.sessions.earlier(who.tenant_id, who.user_id, key)

    def _send(self, head: Head) -> bool:
        """Ask for a runner. It is written down that one is needed: where nobody takes the request now, the sweep asks
        again."""
        try:
            self._kit.dispatch.send(head)
        except Exception:
            logger.exception("no runner could be asked for", extra={"session_id": head.session_id})
            return False
        return True

    def _turn_of(self, request: Request, earlier: Earlier) -> Answer:
        """The answer of a request that was made before: of that very turn."""
        # Once more: who asks may have been an admin then, and be none now.
        head = self._kit.intake.owned(request.who, earlier.session_id)
        if head.turn.number == earlier.turn:
            return self._waited(request, head)
        entries = self._kit.sessions.load(head.tenant_id, head.session_id).entries
        return Answer.json(earlier_turn(head, entries, earlier.turn).dump())

    def _waited(self, request: Request, head: Head, *, sent: bool = True) -> Answer:
        asked = preferred_wait(request.headers)
        wait = min(DEFAULT_WAIT_SECONDS if asked is None else asked, request.left_seconds - _MARGIN_SECONDS)
        turn = head.turn.number
        if sent:
            head = until(self._kit, head, lambda now: now.resting or now.turn.number != turn, wait)
        headers = {} if asked is None else {"preference-applied": f"wait={asked}"}
        return self._answer(head, headers)

    def _answer(self, head: Head, headers: dict[str, str]) -> Answer:
        token = self._kit.tokens.sign(continuation_of(head)) if can_go_on(head) else None
        if refused := refusal(head, token):
            return Answer(refused.status, refused.body, refused.content_type, {**refused.headers, **headers})
        document = self._document(head, token)
        return Answer.json(document.dump(), 200 if head.resting else 202, headers)

    def _document(self, head: Head, token: str | None) -> Turn:
        answer = self._kit.sessions.latest_answer(head.tenant_id, head.session_id, since=head.turn.seq)
        return turn_of(head, answer, token)


def refusal(head: Head, token: str | None) -> Answer | None:
    """A turn that was stopped before its first model call was refused, as a problem says."""
    error = refusal_of(head)
    if error is None or head.stop is None:
        return None
    data = {"session_id": head.session_id, "continuation_token": token}
    if error is TenantPaused:
        return problem(error.status, error.code, f"Tenant {head.tenant_id} is paused by its operator.", data)
    if error is UnpricedModel:
        return problem(error.status, error.code, "Nobody can price the agent's model.", data)
    detail = dict(head.stop.detail)
    detail.pop("before_first_call", None)
    wait = detail.pop("retry_after_seconds", None)
    headers = {"retry-after": str(wait or 1)} if detail.get("contended") else {}
    text = (
        f"The {detail['scope']} cap of {detail['limit_usd']} USD does not admit a call that may cost "
        f"{detail['needed_usd']} USD."
    )
    return problem(error.status, error.code, text, {**detail, **data}, headers)


def _fingerprint(request: Request, raw: Any) -> str:
    """What an idempotency key protects: this call with this body, however it is written down."""
    return hashlib.sha256(sorted_json([request.method, request.path, raw], ascii=True)).hexdigest()
