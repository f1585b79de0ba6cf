"""The front door: from a request to a response, whichever server it stands behind."""

from __future__ import annotations

import logging
import time
from dataclasses import replace
from typing import Any

from functions.api.http import Request, Response, check_session_id, is_preflight
from functions.api.problems import internal_error, problem_of
from functions.api.routes import ROUTES
from functions.api.routing import find
from functions.api.stages.identify import identify
from turnkeeper.bootstrap import Kit
from turnkeeper.core.errors import TurnkeeperError
from turnkeeper.telemetry import fields

logger = logging.getLogger(__name__)

#: Answers are their caller's own, and are what they say they are.
_HEADERS = {"cache-control": "no-store", "x-content-type-options": "nosniff"}


class FrontDoor:
    def __init__(self, kit: Kit) -> None:
        self._kit = kit

    def answer(self, request: Request) -> Response:
        """The response to a request, and a line in the log for it. Never raises."""
        with fields.scope(request_id=request.request_id or None):
            return self._answer_and_log(request)

    def _answer_and_log(self, request: Request) -> Response:
        started = time.monotonic()
        line: dict[str, Any] = {"request_id": request.request_id}
        try:
            response = self._answer(request, line)
        except TurnkeeperError as error:
            response = problem_of(error)
            line["code"] = error.code
            if response.status == 500:
                logger.exception("a call failed", extra=line)
        except Exception:
            response = internal_error()
            logger.exception("a call failed", extra=line)
        took = int((time.monotonic() - started) * 1000)
        logger.info("answered", extra={**line, "status": response.status, "duration_ms": took})
        return response.with_headers(_HEADERS)

    def _answer(self, request: Request, line: dict[str, Any]) -> Response:
        """Adds to ``line`` what the request turns out to be."""
        if is_preflight(request):
            line["call"] = "preflight"
            return Response(204)
        route, request = find(ROUTES, request)
        line["call"] = route.name
        if not route.public:
            who = identify(request, self._kit.settings, self._kit.policy)
            line |= {"tenant_id": who.tenant_id, "user_id": who.user_id}
            fields.note(tenant_id=who.tenant_id, user_id=who.user_id)
            request = replace(request, identity=who)
        if (session_id := request.parameters.get("session_id")) is not None:
            line["session_id"] = check_session_id(session_id)
            fields.note(session_id=session_id)
        return route.call(self._kit, request)
