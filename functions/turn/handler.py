"""The turn runner's Lambda: one asynchronous event, one session, as far as the time goes.

With SnapStart, all that is expensive is made before the snapshot is taken: the model's SDK above all, and everything
that is put off elsewhere. Secrets are read when they are first used, so none gets into it.
"""

from __future__ import annotations

import logging
import os
from functools import cache
from typing import Any

from functions.starting import IN_LAMBDA, IN_SNAPSHOT, own_chance
from turnkeeper.adapters import logs
from turnkeeper.bootstrap import Kit
from turnkeeper.core.errors import LeaseLost, SessionBusy, SessionEnded, SessionNotFound
from turnkeeper.core.session import Head
from turnkeeper.runtime.manifest import MANIFEST, differing
from turnkeeper.runtime.world import Allowance
from turnkeeper.settings import Settings
from turnkeeper.telemetry import fields

logger = logging.getLogger(__name__)

#: Callers are given this alias of the function (``turnkeeper_infra.names``); so it is what
#: asks for the next run of itself.
LIVE_ALIAS = "live"

#: Kept of the Lambda's time when the settings ask for nearly all of it: a handoff has to be written and sent.
MARGIN_SECONDS = 15.0

#: Requests for a run come at least once: whoever has the session, or the sweep, looks after it.
NOTHING_TO_DO = (SessionBusy, SessionEnded, SessionNotFound, LeaseLost)


class TurnRunner:
    def __init__(self, kit: Kit) -> None:
        self._kit = kit

    def run(self, event: dict[str, Any], left_seconds: float, request_id: str = "") -> dict[str, Any]:
        """Run the session that the event names; what became of it.

        Args:
            request_id: of this invocation, by which its logs are found.

        Raises:
            StoreBusy, Unavailable: Lambda is to try again.
        """
        tenant_id, session_id = event.get("tenant_id"), event.get("session_id")
        if not isinstance(tenant_id, str) or not isinstance(session_id, str):
            logger.error("an event without tenant_id and session_id")
            return {"outcome": "invalid"}
        allowance = Allowance(
            runner="lambda",
            name=request_id,
            turn_seconds=max(0.0, min(self._kit.settings.turn_seconds, left_seconds - MARGIN_SECONDS)),
            hard_seconds=left_seconds,
        )
        try:
            head = self.run_session(tenant_id, session_id, allowance)
        except NOTHING_TO_DO as error:
            return {"outcome": error.code}
        return {"outcome": "ran", "status": head.status}

    def run_session(self, tenant_id: str, session_id: str, allowance: Allowance) -> Head:
        """Run a session as far as the allowance goes; the head as it was left.

        Raises:
            StoreBusy, Unavailable: it is to be tried again.
            SessionBusy, SessionEnded, SessionNotFound, LeaseLost: there is nothing to do here (``NOTHING_TO_DO``).
        """
        with fields.scope(tenant_id=tenant_id, session_id=session_id):
            try:
                head = self._kit.engine.run(tenant_id, session_id, allowance)
            except NOTHING_TO_DO as error:
                logger.info("nothing to do", extra={"code": error.code})
                raise
            said = {**fields.of_head(head), "status": head.status, "last_seq": head.last_seq}
            logger.info("the turn was run", extra=said)
            return head


@cache
def turn_runner() -> TurnRunner:
    """This process's runner, with the model's SDK imported."""
    settings = Settings.from_environment()
    name = os.environ.get("AWS_LAMBDA_FUNCTION_NAME")
    if name and settings.turn_function is None:
        # No setting can say it: a function's settings cannot name an alias that is made of it.
        settings = Settings.model_validate({**settings.model_dump(), "turn_function": f"{name}:{LIVE_ALIAS}"})
    logs.set_up(settings.log_level)
    kit = Kit(settings)
    kit.warm()
    _ = kit.engine
    if IN_LAMBDA:
        warn_of_differing(kit)
    if IN_SNAPSHOT:
        kit.prepare()
    return TurnRunner(kit)


def warn_of_differing(kit: Kit) -> None:
    """Log which agents are others in this process than the bundle's manifest tells the front door."""
    manifest = kit.settings.root / MANIFEST
    for name in differing(kit.catalog, manifest.read_bytes()) if manifest.exists() else ():
        logger.error(
            "agent %s is not what it was when it was bundled: its definition depends on the process that imports it. "
            "New sessions begin with the bundled one, so tools that are only here are granted to nobody",
            name,
        )


def handler(event: dict[str, Any], context: Any) -> dict[str, Any]:
    own_chance()
    return turn_runner().run(
        event, context.get_remaining_time_in_millis() / 1000, getattr(context, "aws_request_id", "")
    )


if IN_LAMBDA:
    turn_runner()
