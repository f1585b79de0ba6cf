"""Turns within the request that asks for them: for a platform that runs nothing behind an answer, such as Vercel.

A turn runs in the request that began it, until it rests, the caller's ``Prefer: wait`` is over, or the platform's time
limit is near. What is not done then is handed back at a safe point, and goes on in the next ``/v1/continue``
(docs/decisions/0134).
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Mapping
from contextvars import ContextVar, copy_context
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import anyio.to_thread
from starlette.types import ASGIApp, Receive, Scope, Send

from functions.api.stages.read import preferred_wait_of
from functions.turn.handler import NOTHING_TO_DO, TurnRunner
from turnkeeper.bootstrap import Kit
from turnkeeper.core.decide import step_estimate_seconds
from turnkeeper.core.session import Head
from turnkeeper.runtime.dispatch import Dispatch
from turnkeeper.runtime.turn import RESERVE_SECONDS
from turnkeeper.runtime.world import Allowance

logger = logging.getLogger(__name__)

#: Of the platform's limit, for everything but the turn: reading the request, and telling what became of it.
MARGIN_SECONDS = 3.0
#: What a step needs at least.
_LEAST_SECONDS = 1.0
_OIDC_HEADER = b"x-vercel-oidc-token"
_OIDC_FILE = "AWS_WEB_IDENTITY_TOKEN_FILE"


@dataclass
class _Call:
    """A request, and the turns that run in it."""

    #: When nothing may run any more, and when a turn is to hand itself back, by the monotonic clock.
    ends_at: float
    turn_ends_at: float
    #: Whether its answer is a stream, which is sent while the turn runs.
    streams: bool
    ran: set[str] = field(default_factory=set)
    threads: list[threading.Thread] = field(default_factory=list)

    def has_time(self) -> bool:
        """For a step, and for writing down what came of it."""
        now = time.monotonic()
        return now < self.turn_ends_at and now + RESERVE_SECONDS + _LEAST_SECONDS < self.ends_at


_call: ContextVar[_Call | None] = ContextVar("call", default=None)


class RequestTurns:
    """A :class:`turnkeeper.ports.Turns`. Outside of a request, and for a session that has had its run in this one, it
    starts nothing: whoever holds the session's token goes on with it, or the sweep does."""

    def __init__(self, kit: Kit) -> None:
        self._kit = kit
        self._runner = TurnRunner(kit)

    def start(self, tenant_id: str, session_id: str) -> Head | None:
        call = _call.get()
        if call is None or session_id in call.ran or not call.has_time():
            return self._kit.sessions.head(tenant_id, session_id)
        call.ran.add(session_id)
        run = partial(self._run, tenant_id, session_id, call)
        if not call.streams:
            return run()
        thread = threading.Thread(target=copy_context().run, args=(run,), name=f"turn {session_id}", daemon=True)
        call.threads.append(thread)
        thread.start()
        return None

    def take_up(self, head: Head) -> Head | None:
        """Go on with a session that is on its way, or whose runner is gone."""
        if head.resting or self._kit.sessions.is_held(head):
            return None
        return self.start(head.tenant_id, head.session_id)

    def _run(self, tenant_id: str, session_id: str, call: _Call) -> Head:
        try:
            head = self._kit.sessions.head(tenant_id, session_id)
            return self._runner.run_session(tenant_id, session_id, _allowance(head, call))
        except NOTHING_TO_DO:
            pass
        except Exception:
            logger.exception("session %s could not be run", session_id)
        return self._kit.sessions.head(tenant_id, session_id)


def _allowance(head: Head, call: _Call) -> Allowance:
    """The next run has no more time than this one: what is not begun for fear of its length never is. So one step is
    always begun, even if it may be cut off."""
    now = time.monotonic()
    turn_seconds = call.turn_ends_at - now
    least = step_estimate_seconds(head.step_millis, turn_seconds) * 1.05
    left = call.ends_at - now
    return Allowance(
        runner="lambda",
        name="request",
        turn_seconds=max(turn_seconds, least),
        hard_seconds=left,
        next_hard_seconds=left,
    )


@dataclass(eq=False, repr=False)
class RequestDispatch(Dispatch):
    """``workers``: whether there are any, on the same database: then what belongs in the background goes to them."""

    workers: bool = False

    def send(self, head: Head) -> Head | None:
        if head.handoff is None or self.turns is None or (self.workers and head.handoff.to == "queue"):
            return super().send(head)
        return self.turns.start(head.tenant_id, head.session_id)


def run_in_requests(kit: Kit, *, workers: bool) -> None:
    """Have the turns of a kit run within requests; before anything of it is used."""
    turns = RequestTurns(kit)
    kit.turns = turns
    kit.takes_up = turns.take_up
    kit.dispatch = RequestDispatch(kit.queue, turns, kit.tokens, workers=workers)


class WithinRequests:
    """An ASGI application whose requests end before the platform ends them."""

    def __init__(self, application: ASGIApp, *, max_seconds: float, default_wait_seconds: float) -> None:
        """``max_seconds``: the platform's limit for one request. ``default_wait_seconds``: how long a turn may run in a
        request that does not say how long its caller waits."""
        self._application = application
        self._max_seconds = max_seconds
        self._default_wait_seconds = default_wait_seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._application(scope, receive, send)
            return
        headers: Mapping[bytes, bytes] = dict(scope["headers"])
        _keep_oidc_token(headers)
        call = _call_of(headers, self._max_seconds, self._default_wait_seconds)
        _call.set(call)
        try:
            await self._application(scope, receive, send)
        finally:
            # Nothing runs once this has returned, so that the turn comes to its safe point here, whoever still reads.
            for thread in call.threads:
                await anyio.to_thread.run_sync(thread.join, max(0.0, call.ends_at - time.monotonic()))


def _call_of(headers: Mapping[bytes, bytes], max_seconds: float, default_wait_seconds: float) -> _Call:
    now = time.monotonic()
    ends_at = now + max_seconds - MARGIN_SECONDS
    streams = b"text/event-stream" in headers.get(b"accept", b"")
    turn_ends_at = ends_at - RESERVE_SECONDS
    if not streams:
        wished = preferred_wait_of(headers.get(b"prefer", b"").decode("latin-1"))
        turn_ends_at = min(turn_ends_at, now + (default_wait_seconds if wished is None else wished))
    return _Call(ends_at, turn_ends_at, streams)


def _keep_oidc_token(headers: Mapping[bytes, bytes]) -> None:
    """Vercel hands the function's own identity in with each request; AWS's clients read it from a file."""
    token, path = headers.get(_OIDC_HEADER), os.environ.get(_OIDC_FILE)
    if token is None or path is None:
        return
    file = Path(path)
    if file.exists() and file.read_bytes() == token:
        return
    draft = file.with_name(f"{file.name}.{threading.get_ident()}")
    draft.touch(mode=0o600)
    draft.write_bytes(token)
    draft.replace(file)
