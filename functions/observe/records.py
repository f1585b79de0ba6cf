"""What the table's stream tells, one change at a time."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from turnkeeper.adapters.table_values import item_from_wire
from turnkeeper.core.errors import TurnkeeperError
from turnkeeper.core.session import Head
from turnkeeper.runtime.store import codec, keys
from turnkeeper.table import Item
from turnkeeper.telemetry import fields

logger = logging.getLogger(__name__)


def each(
    event: Mapping[str, Any], see: Callable[[Mapping[str, Any]], None], passed_over: Callable[[], None] = lambda: None
) -> dict[str, Any]:
    """Show each record of a batch once, and say what of it is given back, as Lambda takes it.

    One that cannot be read or written now is given back, with those behind it, as a stream has it. One that can never
    be is logged and passed over, so that it holds up nothing.
    """
    for record in event.get("Records", []):
        with fields.scope():
            try:
                see(record)
            except Exception as error:
                if isinstance(error, TurnkeeperError) and error.retryable:
                    logger.warning("a record is put back: %s", error)
                    return {"batchItemFailures": [{"itemIdentifier": record["dynamodb"]["SequenceNumber"]}]}
                logger.exception("a record is passed over: %s", record.get("eventID"))
                passed_over()
    return {"batchItemFailures": []}


@dataclass(frozen=True)
class Changed:
    """One item of a session, as it was and as it is."""

    tenant_id: str
    session_id: str
    sk: str
    old: Item | None
    new: Item

    @property
    def inserted(self) -> bool:
        return self.old is None

    @cached_property
    def head(self) -> Head:
        """Where it is a session's head. Raises ValueError where that cannot be read."""
        return codec.head_of(self.new)

    @cached_property
    def old_head(self) -> Head | None:
        """As it was; ``None`` where it was not there. Raises as :attr:`head`."""
        return codec.head_of(self.old) if self.old is not None else None


def changed(record: Mapping[str, Any]) -> Changed | None:
    """A record of the stream; ``None`` where it is about no session, or takes an item away. What is logged from here on
    says which session."""
    images = record["dynamodb"]
    if record.get("eventName") not in {"INSERT", "MODIFY"} or "NewImage" not in images:
        return None
    new = item_from_wire(images["NewImage"])
    if (session := keys.session_of_pk(new["pk"])) is None:
        return None
    fields.note(tenant_id=session[0], session_id=session[1])
    old = item_from_wire(images["OldImage"]) if images.get("OldImage") else None
    return Changed(*session, new["sk"], old, new)
