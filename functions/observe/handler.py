"""Reads the table's stream: what is not needed for an answer happens here."""

from __future__ import annotations

import logging
from functools import cache
from typing import Any

from functions.observe.alerting import Alerting
from functions.observe.metering import Tally
from functions.observe.records import changed
from functions.observe.tampering import Guard
from functions.observe.waking import Waking
from turnkeeper.adapters.logs import set_up
from turnkeeper.bootstrap import Kit
from turnkeeper.core.errors import TurnkeeperError
from turnkeeper.settings import Settings

logger = logging.getLogger(__name__)


@cache
def _kit() -> Kit:
    settings = Settings.from_environment()
    set_up(settings.log_level)
    return Kit(settings)


def handler(event: dict[str, Any], _context: Any) -> dict[str, Any]:
    """See each record once. One that cannot be read now is given back, with those behind it, as a stream has it; one
    that can never be read is logged and passed over, so that it holds up nothing."""
    kit = _kit()
    tally = Tally()
    alerting = Alerting(kit.alerts, kit.blobs)
    guard = Guard(kit.alerts)
    waking = Waking(kit.wakes, kit.clock)
    failures: list[dict[str, str]] = []
    for record in event.get("Records", []):
        try:
            guard.see(record)
            change = changed(record)
            if change is not None:
                waking.see(change)
                alerting.see(change)
                tally.see(change)
        except TurnkeeperError as error:
            if error.retryable:
                logger.warning("a record is put back: %s", error)
                failures = [{"itemIdentifier": record["dynamodb"]["SequenceNumber"]}]
                break
            logger.exception("a record is passed over: %s", record.get("eventID"))
        except Exception:
            logger.exception("a record is passed over: %s", record.get("eventID"))
    tally.flush()
    return {"batchItemFailures": failures}
