"""The transcript as it happens: by long poll, or as server-sent events in one piece. Documents, frames and views of it,
which :mod:`functions.api.streaming` sends as they come."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import timedelta
from functools import partial
from typing import Any

from functions.api.documents.events import Event, EventPage, StreamTokenDocument, ToolResult
from functions.api.http import EVENT_STREAM, Request, Response
from functions.api.stages.read import MAX_WAIT_SECONDS, number, view_of
from functions.api.stages.tell import watch
from functions.api.stages.wait import look_until
from turnkeeper.core.canonical import json_text
from turnkeeper.core.contents import without_data
from turnkeeper.core.ledger import iso
from turnkeeper.core.money import format_usd
from turnkeeper.core.reading import Reading
from turnkeeper.core.session import Entry, Head, ToolOutcome
from turnkeeper.core.transcript import Block, text_block, text_of
from turnkeeper.core.views import View, event_seen
from turnkeeper.runtime.news import News, news_of
from turnkeeper.wiring.front_door import FrontDoorKit

#: Without a word about it, a stream stays open this long.
_STREAM_WAIT_SECONDS = 20
#: Lambda answers with 6 MB at most; what does not fit comes with the next page.
_MAX_BYTES = 4_500_000
_MAX_ENTRIES = 100
_MAX_SEQ = 10**9 - 2
#: Of a page, what is not for end users: how its runner does.
_INTERNAL = frozenset({"lease_expires_at", "runner_silent_since"})
#: How soon a client should come back: while a turn runs, and at rest.
RETRY_MILLIS = (500, 5_000)


def get(kit: FrontDoorKit, request: Request) -> Response:
    stream = request.wants_stream
    after = after_of(request) if stream else _after(request)
    wait = number(request, "wait", least=0, most=MAX_WAIT_SECONDS, default=_STREAM_WAIT_SECONDS if stream else 0)
    head = kit.intake.owned(request.who, request.parameters["session_id"])
    view, after = view_of(kit, request, head), min(after, head.last_seq)
    news = look_until(
        kit.clock,
        News(head),
        partial(news_of, kit.table, kit.blobs, head, after=after),
        lambda now: bool(now.entries) or now.head.last_seq > after or now.head.resting,
        request.spare_seconds(wait),
    )
    page = _page(kit, news, after)
    return Response(200, _stream(page, news.head, view), EVENT_STREAM) if stream else Response.json(_seen(page, view))


def stream(kit: FrontDoorKit, request: Request) -> Response:
    """As a stream what there is, from a server that answers in one piece: the client comes again for the rest."""
    return get(kit, replace(request, headers={**request.headers, "accept": EVENT_STREAM}))


def stream_token(kit: FrontDoorKit, request: Request) -> Response:
    """For a browser's EventSource, which can send no header: it reads this session as its asker would, for a while."""
    who, head = request.who, kit.intake.owned(request.who, request.parameters["session_id"])
    reading = Reading(tenant_id=who.tenant_id, user_id=who.user_id, role=who.role, session_id=head.session_id)
    token = kit.stream_tokens.sign(reading)
    ends = kit.clock.now() + timedelta(seconds=kit.stream_tokens.valid_seconds)
    return Response.json(StreamTokenDocument(token=token, expires_at=iso(ends)).dump())


def after_of(request: Request) -> int:
    """Where a stream goes on. A client that connects again asks with the address of the first time, and says in a
    header how far it came."""
    last_event_id = request.headers.get("last-event-id", "")
    after = _after(request)
    return int(last_event_id) if re.fullmatch(r"[0-9]{1,9}", last_event_id) else after


def _after(request: Request) -> int:
    return number(request, "after", least=0, most=_MAX_SEQ, default=0)


def frame_of(entry: Entry, view: View) -> str:
    """The frame of an entry; empty where the view does not hold it."""
    return _frame(event_seen(view, _fitting(_event(entry)).dump()))


def _frame(event: Mapping[str, Any] | None) -> str:
    return "" if event is None else f"id: {event['seq']}\nevent: {event['type']}\ndata: {line(event)}\n\n"


def _seen(page: EventPage, view: View) -> dict[str, Any]:
    document = page.dump()
    if view == "user":
        document |= dict.fromkeys(_INTERNAL & document.keys())
    return {**document, "events": [seen for each in document["events"] if (seen := event_seen(view, each))]}


def _page(kit: FrontDoorKit, news: News, after: int) -> EventPage:
    head = news.head
    events: list[Event] = []
    size = 0
    for event in map(_fitting, map(_event, _entries(kit, news, after))):
        size += _length(event)
        if events and size > _MAX_BYTES:
            return EventPage(events=events, last_seq=events[-1].seq, status=head.status, more=True, **watch(kit, head))
        events.append(event)
    last_seq = max(head.last_seq, events[-1].seq if events else 0)
    return EventPage(events=events, last_seq=last_seq, status=head.status, more=False, **watch(kit, head))


def _entries(kit: FrontDoorKit, news: News, after: int) -> Iterator[Entry]:
    """Those that came with the look, then all up to where its head is: so whoever is told that the session rests has
    been told everything."""
    head, entries = news.head, news.entries
    while entries or after < head.last_seq:
        if not entries:
            entries = tuple(kit.sessions.entries(head.tenant_id, head.session_id, after=after, limit=_MAX_ENTRIES))
            if not entries:
                return
        yield from entries
        after, entries = entries[-1].seq, ()


def _event(entry: Entry) -> Event:
    cost = format_usd(entry.cost_nanousd)
    match entry.type:
        case "user":
            more: dict[str, Any] = {"content": without_data(entry.content), "by_kit": entry.by_kit or None}
            more["removed_tools"] = list(entry.removed_tools) or None
        case "assistant":
            names = ("model", "stop_reason", "duration_ms", "request_id", "attempts")
            more = {name: getattr(entry, name) for name in names}
            # An answer in a copy has none of its own: the first session has paid it.
            more |= {"content": list(entry.content), "cost_usd": cost, "usage": entry.usage or {}}
        case "tool_results":
            blocks = [block for block in entry.content if block.get("type") == "tool_result"]
            notes = [str(block["text"]) for block in entry.content if block.get("type") == "text"]
            results = [_result(block, outcome) for block, outcome in zip(blocks, entry.outcomes, strict=True)]
            more = {"results": results, "notes": notes or None}
        case "repair" | "rewind":
            more = {"left_out": list(entry.left_out), "reason": entry.reason}
        case "compaction":
            more = {"left_out": list(entry.left_out), "reason": entry.reason, "summary": text_of(entry.content) or None}
            more |= {"model": entry.model, "usage": entry.usage, "cost_usd": cost}
        case "runner_lost":
            more = {"runner": entry.runner, "cost_usd": cost}
            if (lost := entry.lost_runner) is not None:
                more |= {"runner_id": lost.id, **lost.model_dump(exclude={"id"})}
        case "other":
            more = {}
        case "status":
            more = {"status": entry.status, "stop": entry.stop, "runner": entry.runner}
            more["cost_usd"] = cost if entry.cost_nanousd else None
    if entry.in_doubt_nanousd or entry.type == "runner_lost":
        more["in_doubt_usd"] = format_usd(entry.in_doubt_nanousd)
    return Event(seq=entry.seq, type=entry.type, at=entry.at, **more)


def _result(block: Block, outcome: ToolOutcome) -> ToolResult:
    from turnkeeper.core.untrusted import unwrap_blocks

    content = block.get("content") or []
    return ToolResult(
        tool_use_id=outcome.tool_use_id,
        tool=outcome.tool,
        is_error=outcome.is_error,
        outcome=outcome.outcome,
        duration_ms=outcome.duration_ms,
        content=unwrap_blocks([text_block(content)] if isinstance(content, str) else content),
        flag=outcome.flag,
        denial=outcome.denial,
    )


def _length(event: Event) -> int:
    """Bytes of an event in what Lambda hands to API Gateway: JSON in JSON, in ASCII."""
    return len(json.dumps(json.dumps(event.dump(), ensure_ascii=False)))


def _fitting(event: Event) -> Event:
    """An event that fits into an answer, its longest texts and files cut where it must be."""
    most = _MAX_BYTES
    while _length(event) > _MAX_BYTES:
        most //= 8
        event = Event.model_validate(_cut(event.dump(), most))
    return event


def _cut(value: Any, most: int) -> Any:
    if isinstance(value, str) and len(value) > most:
        return f"{value[:most]}[{len(value) - most} characters left out]"
    if isinstance(value, Mapping):
        return {name: _cut(item, most) for name, item in value.items()}
    return [_cut(item, most) for item in value] if isinstance(value, list) else value


def _stream(page: EventPage, head: Head, view: View) -> str:
    """Frames of the events, and one that says how the session stands."""
    frames = [_frame(event_seen(view, event.dump())) for event in page.events]
    if not page.events:
        frames.append(": nothing new\n\n")
    return begin_frame(head) + "".join(frames) + end_frame(page.status, page.last_seq, more=page.more)


def begin_frame(head: Head) -> str:
    return f"retry: {RETRY_MILLIS[head.resting]}\n\n"


def end_frame(status: str, last_seq: int, *, more: bool) -> str:
    """It has no id, so it is no place to go on from."""
    return f"event: end\ndata: {line({'status': status, 'last_seq': last_seq, 'more': more})}\n\n"


#: Line breaks that JSON leaves as they are. They are none in an event stream, and many a client takes them for such.
_BREAKS = str.maketrans({character: f"\\u{ord(character):04x}" for character in "\x85\u2028\u2029"})


def line(value: Any) -> str:
    """On one line, by whatever a client takes for a line's end."""
    return json_text(value).translate(_BREAKS)
