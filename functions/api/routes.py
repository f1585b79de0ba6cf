"""Every call of the front door, in one table."""

from __future__ import annotations

from pydantic import BaseModel

from functions.api import documents
from functions.api.bodies import ContinueSession, CreateSession, PostTurn
from functions.api.events import EVENT_STREAM, EventCalls
from functions.api.http import Answer
from functions.api.openapi import openapi_document
from functions.api.preferences import MOST_WAIT_SECONDS
from functions.api.routing import Query, Route
from functions.api.sessions import MOST_SESSIONS, STATUSES, SessionCalls
from functions.api.spend import SpendCalls
from functions.api.turns import TurnCalls
from turnkeeper.bootstrap import Kit


def routes(kit: Kit) -> tuple[Route, ...]:
    turns, sessions, events, spend = TurnCalls(kit), SessionCalls(kit), EventCalls(kit), SpendCalls(kit)
    turn: dict[int, type[BaseModel] | None] = {200: documents.Turn, 202: documents.Turn}
    wait = Query(
        "wait", {"type": "integer", "minimum": 0, "maximum": MOST_WAIT_SECONDS}, "Seconds to wait for an event."
    )
    table = (
        Route(
            "POST",
            "/v1/sessions",
            turns.create,
            "createSession",
            "Begin a session with its first input",
            turn,
            body=CreateSession,
            problems=(402, 404, 413, 422, 423),
            turn=True,
        ),
        Route(
            "GET",
            "/v1/sessions",
            sessions.list,
            "listSessions",
            "One's own sessions, newest first; all of the tenant's for admins",
            {200: documents.SessionList},
            query=(
                Query("status", {"type": "string", "enum": list(STATUSES)}, "Only these."),
                Query("limit", {"type": "integer", "minimum": 1, "maximum": MOST_SESSIONS, "default": 20}, "At most."),
                Query("cursor", {"type": "string"}, "`next_cursor` of the page before."),
            ),
        ),
        Route(
            "GET",
            "/v1/sessions/{session_id}",
            sessions.get,
            "getSession",
            "A session",
            {200: documents.Session},
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
        Route(
            "POST",
            "/v1/sessions/{session_id}/turns",
            turns.post,
            "postTurn",
            "The next input of a session at rest",
            turn,
            body=PostTurn,
            problems=(402, 404, 409, 413, 422, 423),
            turn=True,
        ),
        Route(
            "POST",
            "/v1/sessions/{session_id}/cancel",
            sessions.cancel,
            "cancelSession",
            "Stop at the next safe point",
            {200: documents.Session},
            problems=(404, 409),
        ),
        Route(
            "GET",
            "/v1/sessions/{session_id}/events",
            events.get,
            "getEvents",
            "The transcript; waits for what comes next where asked to",
            {200: documents.EventPage},
            query=(
                Query("after", {"type": "integer", "minimum": 0, "default": 0}, "Only what comes after this seq."),
                wait,
            ),
            problems=(404,),
            also=(EVENT_STREAM,),
        ),
        Route(
            "POST",
            "/v1/continue",
            turns.go_on,
            "continueSession",
            "Wait for a running turn, or go on with a stopped one",
            turn,
            body=ContinueSession,
            problems=(402, 404, 409, 410, 422, 423),
            turn=True,
        ),
        Route(
            "GET",
            "/v1/spend",
            spend.get,
            "getSpend",
            "What was spent, is set aside and may be spent, by scope",
            {200: documents.Spend},
            query=(Query("session_id", {"type": "string"}, "Tell the task scope of this session, too."),),
            problems=(404,),
        ),
        Route(
            "GET",
            "/v1/health",
            lambda _: Answer.json(documents.Health().dump()),
            "getHealth",
            "Whether the front door answers",
            {200: documents.Health},
            public=True,
        ),
    )
    described: tuple[Route, ...] = (
        *table,
        Route(
            "GET",
            "/v1/openapi.json",
            lambda _: Answer.json(openapi_document(described)),
            "getOpenApi",
            "This document",
            {200: None},
            public=True,
        ),
    )
    return described
