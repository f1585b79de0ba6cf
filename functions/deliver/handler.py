"""Tells of turns that have ended: on the bus, to addresses and to queues (docs/decisions/0133).

A function of its own behind a queue, one message at a time: a receiver that hangs or is away holds up neither a turn
nor the observer, nor what is for somebody else.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from functions.process import kit as _kit
from turnkeeper.adapters.emf import Emf
from turnkeeper.core.errors import TurnkeeperError
from turnkeeper.runtime.delivering import Deliverer
from turnkeeper.telemetry import fields
from turnkeeper.telemetry.metrics import sample

logger = logging.getLogger(__name__)

_COUNTED = frozenset({"delivered", "failed", "dead"})


def handler(event: dict[str, Any], _context: Any) -> dict[str, Any]:
    """Do what each message of the queue asks for. What cannot be done now is given back; what never can, the queue sets
    aside after a while."""
    deliverer, emf = _kit().deliverer, Emf()
    failed = []
    for record in event.get("Records", []):
        with fields.scope():
            if not _done(deliverer, record, emf):
                failed.append({"itemIdentifier": record["messageId"]})
    emf.flush()
    return {"batchItemFailures": failed}


def _done(deliverer: Deliverer, record: Mapping[str, Any], emf: Emf) -> bool:
    try:
        outcome = deliverer.take(record["body"])
    except Exception as error:
        if isinstance(error, TurnkeeperError) and error.retryable:
            logger.warning("word is put back: %s", error)
        else:
            logger.exception("word cannot be told: message %s", record.get("messageId"))
        return False
    if outcome in _COUNTED:
        emf.add([sample("deliveries", outcome=outcome)])
    return True
