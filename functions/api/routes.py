"""Every call of the front door, in one table."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from functions.api import sessions
from functions.api.bodies import ContinueSession, CreateSession, Fork, PostTurn, Rewind
from functions.api.http import EVENT_STREAM, Request, Response
from functions.api.routing import Handler, Query, Route
from functions.api.sessions import MAX_SESSIONS, STATUSES
from functions.api.stages import begin
from functions.api.stages.read import MAX_WAIT_SECONDS
from functions.api.turns import turn_route
from turnkeeper.core.late import late
from turnkeeper.core.views import VIEWS
from turnkeeper.wiring.front_door import FrontDoorKit

_VIEW = Query(
    "view",
    {"type": "string", "enum": list(VIEWS)},
    "What is told: `user` leaves out tools' arguments and results, costs and internals.",
)
_READING = (
    Query("after", {"type": "integer", "minimum": 0, "default": 0}, "Only what comes after this seq."),
    Query("wait", {"type": "integer", "minimum": 0, "maximum": MAX_WAIT_SECONDS}, "Seconds to wait for an event."),
    _VIEW,
)


def _in(room: str, call: str) -> Handler:
    """A call whose module is imported when it is first made, or before a snapshot: its documents are of use to no call
    elsewhere."""
    module: Any = late(lambda: import_module(f"functions.api.{room}"))

    def entered(kit: FrontDoorKit, request: Request) -> Response:
        response: Response = getattr(module, call)(kit, request)
        return response

    return entered


def _openapi(*_: object) -> Response:
    # What makes a document of models is of use to this call only.
    from functions.api.openapi import openapi_document

    return Response.json(openapi_document(ROUTES))


ROUTES: tuple[Route, ...] = (
    turn_route(
        "/v1/sessions",
        "createSession",
        "Begin a session with its first input",
        CreateSession,
        begin.create,
        (402, 404, 423),
    ),
    Route(
        "GET",
        "/v1/sessions",
        sessions.find,
        "listSessions",
        "One's own sessions, newest first; all of the tenant's for admins",
        {200: "sessions.SessionList"},
        query=(
            Query("status", {"type": "string", "enum": list(STATUSES)}, "Only these."),
            Query(
                "scored_below",
                {"type": "number", "minimum": 0, "maximum": 1},
                "Only those with a turn that scored less, worst first, on one page.",
            ),
            Query("limit", {"type": "integer", "minimum": 1, "maximum": MAX_SESSIONS, "default": 20}, "At most."),
            Query("cursor", {"type": "string"}, "`next_cursor` of the page before."),
            _VIEW,
        ),
    ),
    Route(
        "GET",
        "/v1/sessions/{session_id}",
        sessions.get,
        "getSession",
        "A session",
        {200: "sessions.SessionDocument"},
        query=(_VIEW,),
        problems=(404,),
    ),
    Route(
        "GET",
        "/v1/sessions/{session_id}/explain",
        _in("past", "explain"),
        "explainSession",
        "What happened in a session, why it ended, and what can be done now, in plain sentences",
        {200: "past.Explanation"},
        query=(Query("turn", {"type": "integer", "minimum": 1}, "Only this turn."),),
        problems=(404,),
    ),
    Route(
        "DELETE",
        "/v1/sessions/{session_id}",
        sessions.erase,
        "eraseSession",
        "Erase a session's contents; what it cost and the skeleton of its audit trail stay",
        {204: None},
        problems=(404,),
    ),
    turn_route(
        "/v1/sessions/{session_id}/turns",
        "postTurn",
        "The next input of a session at rest",
        PostTurn,
        begin.post,
        (402, 404, 409, 423),
    ),
    Route(
        "POST",
        "/v1/sessions/{session_id}/cancel",
        sessions.cancel,
        "cancelSession",
        "Stop at the next safe point",
        {200: "sessions.SessionDocument"},
        problems=(404, 409),
    ),
    Route(
        "POST",
        "/v1/sessions/{session_id}/rewind",
        _in("past", "rewind"),
        "rewindSession",
        "Take the latest turns out of later requests; nothing is deleted",
        {200: "past.RewoundDocument"},
        body=Rewind,
        problems=(404, 409),
    ),
    turn_route(
        "/v1/sessions/{session_id}/fork",
        "forkSession",
        "Begin a session with a copy of this one's conversation",
        Fork,
        begin.fork,
        (402, 404, 409, 423),
    ),
    Route(
        "GET",
        "/v1/sessions/{session_id}/events",
        _in("events", "get"),
        "getEvents",
        "The transcript; waits for what comes next where asked to",
        {200: "events.EventPage"},
        query=_READING,
        problems=(404,),
        by_token=True,
        also=(EVENT_STREAM,),
    ),
    Route(
        "GET",
        "/v1/sessions/{session_id}/stream",
        _in("events", "stream"),
        "streamSession",
        "The transcript as server-sent events, and between them `delta` frames of the entry to come, at `stream_url`",
        {200: None},
        query=_READING,
        problems=(404,),
        by_token=True,
        streams=True,
        also=(EVENT_STREAM,),
    ),
    Route(
        "POST",
        "/v1/sessions/{session_id}/stream-token",
        _in("events", "stream_token"),
        "createStreamToken",
        "A token that reads this session's stream and events for some minutes, in the query, and nothing else",
        {200: "events.StreamTokenDocument"},
        problems=(404,),
    ),
    turn_route(
        "/v1/continue",
        "continueSession",
        "Wait for a running turn, or go on with a stopped one",
        ContinueSession,
        begin.go_on,
        (402, 404, 409, 410, 423),
    ),
    Route(
        "GET",
        "/v1/agents",
        _in("agents", "find"),
        "listAgents",
        "The agents that a session can be begun with",
        {200: "deployed.AgentList"},
    ),
    Route(
        "GET",
        "/v1/spend",
        _in("spend", "get"),
        "getSpend",
        "What was spent, is set aside and may be spent, by scope",
        {200: "money.Spend"},
        query=(Query("session_id", {"type": "string"}, "Tell the task scope of this session, too."),),
        problems=(404,),
    ),
    Route(
        "GET",
        "/v1/health",
        lambda *_: Response.json({"status": "ok"}),
        "getHealth",
        "Whether the front door answers",
        {200: "deployed.Health"},
        public=True,
    ),
    Route(
        "GET",
        "/v1/openapi.json",
        _openapi,
        "getOpenApi",
        "This document",
        {200: None},
        public=True,
    ),
)
