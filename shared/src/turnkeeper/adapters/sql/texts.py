"""Items as text: their wire form as JSON, with bytes in base64, as Lambda's events have it."""

from __future__ import annotations

import base64
import json
from typing import Any

from turnkeeper.adapters.table_values import WireItem


def written(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), default=_base64)


def _base64(value: bytes) -> str:
    return base64.b64encode(value).decode()


def read(text: str) -> WireItem:
    """An item of its text."""
    # In wire form a text below "B" is always a value: names of attributes stand above other values.
    item: WireItem = json.loads(text, object_hook=_bytes if '"B":"' in text else None)
    return item


def _bytes(value: dict[str, Any]) -> dict[str, Any]:
    content = value.get("B")
    return {"B": base64.b64decode(content)} if isinstance(content, str) else value
