"""The table's stream, as Lambda hands it over."""

from __future__ import annotations

import json
from typing import Any

from tests.support.kit import MemoryKit
from turnkeeper.adapters.table_values import item_to_wire
from turnkeeper.table import Item


def image(item: Item) -> dict[str, Any]:
    """As Lambda hands it over."""
    return item_to_wire(item)


class Stream:
    """What the table's changes look like as the Lambda's event."""

    def __init__(self, kit: MemoryKit) -> None:
        self.records: list[dict[str, Any]] = []
        kit.table.on_change = self._on_change

    def _on_change(self, old: Item | None, new: Item | None) -> None:
        number = str(len(self.records) + 1)
        images = {"SequenceNumber": number}
        record: dict[str, Any] = {"eventID": f"event {number}", "dynamodb": images}
        record["eventName"] = "REMOVE" if new is None else "INSERT" if old is None else "MODIFY"
        if old is not None:
            images["OldImage"] = image(old)  # type: ignore[assignment]
        if new is not None:
            images["NewImage"] = image(new)  # type: ignore[assignment]
        self.records.append(json.loads(json.dumps(record)))

    def event(self) -> dict[str, Any]:
        event = {"Records": list(self.records)}
        self.records.clear()
        return event
