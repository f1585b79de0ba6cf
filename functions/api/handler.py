"""The front door's Lambda. It imports no model, no agent and nothing that runs a turn: whoever waits for an answer does
not wait for that (docs/decisions/0144)."""

from __future__ import annotations

from functools import cache
from typing import Any

from functions.api import gateway
from functions.api.app import FrontDoor
from functions.starting import IN_LAMBDA, IN_SNAPSHOT
from turnkeeper.adapters import logs
from turnkeeper.settings import Settings
from turnkeeper.wiring.front_door import FrontDoorKit


@cache
def front_door() -> FrontDoor:
    """This process's front door, with all that a first request would wait for."""
    settings = Settings.from_environment()
    logs.set_up(settings.log_level)
    kit = FrontDoorKit(settings, bundled=IN_LAMBDA)
    kit.warm()
    if IN_SNAPSHOT:
        import functions.api.openapi  # noqa: F401 - imported by one call only

        kit.prepare()
    return FrontDoor(kit)


def handler(event: dict[str, Any], context: Any) -> dict[str, Any]:
    request = gateway.request_of(event, context.get_remaining_time_in_millis() / 1000)
    return gateway.event_of(front_door().answer(request))


if IN_LAMBDA:
    # Lambda gives an environment a whole core while it starts.
    front_door()
