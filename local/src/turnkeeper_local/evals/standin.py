"""The stand-in as the engine's model, without HTTP: for tests, and for cases that have no script."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from turnkeeper.adapters.anthropic_errors import status_error
from turnkeeper.adapters.anthropic_stream import PartialMessage
from turnkeeper.core.errors import ProviderError
from turnkeeper.ports import Clock, ModelReply, ModelRequest, OnEvent
from turnkeeper_local.standin.errors import ApiError, new_request_id
from turnkeeper_local.standin.model import Delivery, StandIn
from turnkeeper_local.standin.sse import events
from turnkeeper_local.standin.validate import parse_body


class StandInModel:
    """A :class:`turnkeeper.ports.Model`: directives work as over HTTP. ``requests`` is what it was sent.

    Args:
        clock: what it sleeps by, where it is told to take its time; without one it takes none.
    """

    def __init__(self, clock: Clock | None = None, standin: StandIn | None = None) -> None:
        self.standin = standin or StandIn()
        self.requests: list[ModelRequest] = []
        self._clock = clock

    def call(self, request: ModelRequest, *, timeout_seconds: float, on_event: OnEvent | None = None) -> ModelReply:
        self.requests.append(request)
        request_id = new_request_id()
        try:
            delivery = self.standin.answer(_body(request, max_tokens=request.max_tokens, stream=True))
        except ApiError as error:
            headers = error.headers(request_id)
            now = self._clock.now() if self._clock else datetime.now(UTC)
            raise status_error(error.status, error.body(request_id), headers, certainty="unbilled", now=now) from error
        if self._takes_too_long(delivery, timeout_seconds) or delivery.cut:
            usage = delivery.reply.usage()
            raise ProviderError("the stream broke", retryable=True, certainty="unknown", usage=usage)
        answer = PartialMessage()
        for event in events(delivery.reply):
            answer.feed(event)
            if on_event is not None:
                on_event(answer.parts)
        return answer.reply(request_id)

    def count_tokens(self, request: ModelRequest) -> int:
        return self.standin.count_tokens({name: value for name, value in _body(request).items() if name != "metadata"})

    def _takes_too_long(self, delivery: Delivery, timeout_seconds: float) -> bool:
        if self._clock is None:
            return False
        takes = delivery.sleep_seconds + delivery.trickle_seconds
        self._clock.sleep(min(takes, timeout_seconds))
        return takes > timeout_seconds


def _body(request: ModelRequest, **more: Any) -> Mapping[str, Any]:
    """As the adapter writes it and the stand-in's server reads it: what is no JSON gets no further."""
    body = {**request.options, "model": request.model, "messages": request.messages, **more}
    if request.system:
        body["system"] = request.system
    if tools := [*request.tools, *request.options.get("tools", ())]:
        body["tools"] = tools
    return parse_body(json.dumps(body).encode())
