"""Makes the traces of turns that came to rest, and sends them where the deployment says.

A function of its own behind a queue: a receiver that is slow or away keeps neither the scorer nor any turn waiting, and
what it did not take comes back later, for hours (docs/decisions/0110).
"""

from __future__ import annotations

import logging
from typing import Any

from functions.process import kit as _kit
from turnkeeper.adapters.emf import Emf
from turnkeeper.bootstrap import Kit
from turnkeeper.core.errors import TurnkeeperError
from turnkeeper.runtime.tracing import Tracer
from turnkeeper.telemetry import fields
from turnkeeper.telemetry.metrics import sample

logger = logging.getLogger(__name__)


def handler(event: dict[str, Any], _context: Any) -> dict[str, Any]:
    """Send a trace for each message of the queue. What cannot be done now is given back, the later to return the more
    often it was tried; after the last time the queue sets it aside, as it does with what can never be done."""
    kit = _kit()
    emf = Emf()
    failed = []
    for record in event.get("Records", []):
        with fields.scope():
            if not _told(kit.tracer, record, emf):
                failed.append({"itemIdentifier": record["messageId"]})
                _put_off(kit, record)
    emf.flush()
    return {"batchItemFailures": failed}


def _told(tracer: Tracer, record: dict[str, Any], emf: Emf) -> bool:
    try:
        told = tracer.tell(record["body"])
    except Exception as error:
        emf.add([sample("traces_failed")])
        if isinstance(error, TurnkeeperError) and error.retryable:
            logger.warning("a trace is put off: %s", error)
        else:
            logger.exception("a trace cannot be made: message %s", record.get("messageId"))
        return False
    if told in ("sent", "refused_in_part"):
        emf.add([sample("traces_exported" if told == "sent" else "traces_failed")])
    return True


def _put_off(kit: Kit, record: dict[str, Any]) -> None:
    try:
        receives = int(record.get("attributes", {}).get("ApproximateReceiveCount", "1"))
        kit.trace_queue.put_off(record["receiptHandle"], receives)
    except Exception:
        # The queue shows it again by itself, a little sooner or later.
        logger.exception("message %s cannot be put off", record.get("messageId"))
