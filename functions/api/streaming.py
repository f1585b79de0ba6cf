"""Server-sent events of one reader, as they happen. For servers that can send an answer bit by bit; behind one that
cannot, :mod:`functions.api.events` answers with what there is."""

from __future__ import annotations

import logging
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass

from functions.api import events
from functions.api.http import Request
from functions.api.stages.read import MAX_WAIT_SECONDS, number, view_of
from turnkeeper.core.deltas import Delta
from turnkeeper.core.errors import TurnkeeperError
from turnkeeper.core.session import Head
from turnkeeper.core.views import View, delta_seen
from turnkeeper.runtime.following import Hub, Landed
from turnkeeper.wiring.front_door import FrontDoorKit

logger = logging.getLogger(__name__)

#: Of silence, before a comment tells proxies and clients that the stream lives.
KEEP_ALIVE_SECONDS = 15.0


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a reader begins, and what it may see."""

    head: Head
    after: int
    view: View
    #: How long it stays with a session at rest.
    wait_seconds: float = 0.0


async def stream(kit: FrontDoorKit, hub: Hub, request: Request) -> AsyncIterator[str]:
    """The frames of ``GET .../stream``: the session's events behind ``after`` (or ``Last-Event-ID``), deltas between
    them, comments where nothing happens, and ``end`` where the session rests, the request's time is up or the process
    stops. The request is one whose identity and path parameters are known (``Request.identity``, ``.parameters``).

    Awaiting it does what may be refused, and gives the frames.

    Raises:
        TurnkeeperError: as any call of the front door; nothing was sent then.
    """

    def place() -> _Place:
        after = events.after_of(request)
        wait = number(request, "wait", least=0, most=MAX_WAIT_SECONDS, default=0)
        head = kit.intake.owned(request.who, request.parameters["session_id"])
        return _Place(head, after, view_of(kit, request, head), wait)

    return _frames(hub, request, await hub.read(place))


async def stream_turn(
    kit: FrontDoorKit, hub: Hub, request: Request, session_id: str, *, after: int
) -> AsyncIterator[str]:
    """The same for a call that began a turn (a POST with ``Accept: text/event-stream``), from its first entry on.

    Args:
        session_id, after: of the turn that was begun: its session, and the seq before its input.

    Raises:
        TurnkeeperError: as :func:`stream`.
    """

    def place() -> _Place:
        head = kit.intake.owned(request.who, session_id)
        return _Place(head, after, view_of(kit, request, head))

    return _frames(hub, request, await hub.read(place))


async def _frames(hub: Hub, request: Request, place: _Place) -> AsyncIterator[str]:
    head = place.head
    yield events.begin_frame(head)
    told_at = time.monotonic()
    stay_until = told_at + place.wait_seconds
    # Behind the end there is nothing: whoever asks for that is told what comes next.
    async with hub.reader(head.tenant_id, head.session_id, after=min(place.after, head.last_seq)) as reader:
        while (left := request.spare_seconds(KEEP_ALIVE_SECONDS)) > 0 and not hub.stopping:
            if reader.is_done and (left := min(left, stay_until - time.monotonic())) <= 0:
                break
            silent = time.monotonic() - told_at
            try:
                news = await reader.take(min(left, KEEP_ALIVE_SECONDS - silent), stay=reader.is_done)
            except TurnkeeperError as error:  # Where it cannot be read now, its client goes on later.
                logger.warning("a stream of session %s is cut short: %s", head.session_id, error)
                break
            for frame in filter(None, (_frame(place.view, each) for each in news)):
                yield frame
                told_at = time.monotonic()
            # Also where there is news, and none of it is for this reader.
            if time.monotonic() >= told_at + KEEP_ALIVE_SECONDS:
                yield ": still here\n\n"
                told_at = time.monotonic()
        now = reader.head or head
        yield events.end_frame(now.status, reader.seq, more=reader.seq < now.last_seq)


def _frame(view: View, news: Landed | Delta) -> str | None:
    if isinstance(news, Landed):
        if view not in news.made:
            news.made[view] = events.frame_of(news.entry, view)
        return str(news.made[view])
    delta = delta_seen(view, news)
    return None if delta is None else f"event: delta\ndata: {events.line(delta)}\n\n"
