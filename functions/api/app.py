"""The front door: from a request to a response, whichever server it stands behind."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from functions.api.http import OWN_HEADERS, Request, Response, check_session_id, is_preflight
from functions.api.problems import internal_error, problem_of
from functions.api.routes import ROUTES
from functions.api.routing import Route, find
from functions.api.stages.identify import identify, identify_reader
from turnkeeper.core.errors import TurnkeeperError
from turnkeeper.core.policy import Policy
from turnkeeper.runtime.intake import Identity
from turnkeeper.settings import Settings
from turnkeeper.telemetry import fields
from turnkeeper.wiring.front_door import FrontDoorKit

#: Who is asking, as :func:`functions.api.stages.identify.identify` says.
Identify = Callable[[Request, Settings, Policy], Identity]
#: Carries a call out where it is not to be answered in one piece.
Call = Callable[[Route, FrontDoorKit, Request], Response]

logger = logging.getLogger(__name__)


class FrontDoor:
    def __init__(self, kit: FrontDoorKit, identify: Identify = identify) -> None:
        self._kit = kit
        self._identify = identify

    def answer(self, request: Request, call: Call | None = None) -> Response:
        """The response to a request, and a line in the log for it: of its route, or of ``call`` for its route. Never
        raises."""
        with fields.scope(request_id=request.request_id or None):
            return self._answer_and_log(request, call)

    def _answer_and_log(self, request: Request, call: Call | None) -> Response:
        started = time.monotonic()
        line: dict[str, Any] = {"request_id": request.request_id}
        try:
            response = self._answer(request, call, line)
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
        return response.with_headers(OWN_HEADERS)

    def _answer(self, request: Request, call: Call | None, line: dict[str, Any]) -> Response:
        """Adds to ``line`` what the request turns out to be."""
        if is_preflight(request):
            line["call"] = "preflight"
            return Response(204)
        route, request = find(ROUTES, request)
        line["call"] = route.name
        if not route.public:
            who = self._who(route, request)
            line |= {"tenant_id": who.tenant_id, "user_id": who.user_id}
            fields.note(tenant_id=who.tenant_id, user_id=who.user_id)
            request = replace(request, identity=who)
        if (session_id := request.parameters.get("session_id")) is not None:
            line["session_id"] = check_session_id(session_id)
            fields.note(session_id=session_id)
        return route.call(self._kit, request) if call is None else call(route, self._kit, request)

    def _who(self, route: Route, request: Request) -> Identity:
        if route.by_token and (token := request.query.get("token")):
            return identify_reader(request, self._kit.stream_tokens.verify(token))
        return self._identify(request, self._kit.settings, self._kit.policy)
