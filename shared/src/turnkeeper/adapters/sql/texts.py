"""Items as text: their wire form as JSON, as Lambda's events have it."""

from __future__ import annotations

import json
from typing import Any

from turnkeeper.adapters.table_values import WireItem


def written(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def read(text: str) -> WireItem:
    """An item of its text."""
    item: WireItem = json.loads(text)
    return item
