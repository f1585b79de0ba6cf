"""The front door: finds the call, finds out who is asking, and makes an answer of whatever happens."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from typing import Any

from functions.api.http import SESSION_ID, Answer, Request
from functions.api.identity import identity_of
from functions.api.problems import internal_error, problem, problem_of
from functions.api.routes import routes
from functions.api.routing import Route
from turnkeeper.bootstrap import Kit
from turnkeeper.core.errors import SessionNotFound, TurnkeeperError

logger = logging.getLogger(__name__)

#: API Gateway gives up after 30 s, whatever the Lambda's own timeout is.
_MOST_SECONDS = 29.0


class FrontDoor:
    def __init__(self, kit: Kit) -> None:
        self._kit = kit
        self._routes = routes(kit)

    def answer(self, event: Mapping[str, Any], left_seconds: float = _MOST_SECONDS) -> dict[str, Any]:
        """The answer to one event of API Gateway. Never raises."""
        started = time.monotonic()
        told: dict[str, Any] = {}
        try:
            answer = self._answer(Request.of(event, min(left_seconds, _MOST_SECONDS)), told)
        except TurnkeeperError as error:
            answer = problem_of(error)
            told["code"] = error.code
            if answer.status == 500:
                logger.exception("a call failed", extra=told)
        except Exception:
            logger.exception("a call failed", extra=told)
            answer = internal_error()
        took = int((time.monotonic() - started) * 1000)
        logger.info("answered", extra={**told, "status": answer.status, "duration_ms": took})
        return answer.event()

    def _answer(self, request: Request, told: dict[str, Any]) -> Answer:
        told["request_id"] = request.request_id
        allowed: list[str] = []
        for route in self._routes:
            if (parameters := route.match(request.path)) is None:
                continue
            if route.method == request.method:
                told["call"] = route.name
                return self._call(route, request, parameters, told)
            allowed.append(route.method)
        if allowed:
            text = f"{request.path} takes {', '.join(allowed)}."
            return problem(405, "method_not_allowed", text, headers={"allow": ", ".join(allowed)})
        return problem(404, "not_found", "There is nothing at this address.")

    def _call(self, route: Route, request: Request, parameters: Mapping[str, str], told: dict[str, Any]) -> Answer:
        if route.public:
            return route.call(request)
        who = identity_of(request, self._kit.settings, self._kit.policy.default_role)
        told |= {"tenant_id": who.tenant_id, "user_id": who.user_id}
        session_id = parameters.get("session_id")
        if session_id is not None:
            if not SESSION_ID.fullmatch(session_id):
                raise SessionNotFound("There is no such session.")
            told["session_id"] = session_id
        return route.call(request.routed(parameters, who))
