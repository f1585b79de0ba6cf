"""What a result may cost: rows, cells, bytes; and values as JSON can carry them."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from turnkeeper.tools._common import cut, plain

MAX_CELL_BYTES = 4_000
MAX_COLUMNS = 200
_CUT = "...[cut]"


@dataclass
class Result:
    """Rows as they come in, up to the limits."""

    max_rows: int
    max_bytes: int
    columns: list[str] = field(default_factory=list)
    rows: list[list[Any]] = field(default_factory=list)
    truncated: bool = False
    _bytes: int = 0

    def take(self, rows: Iterable[Sequence[Any]]) -> bool:
        """Add rows; False as soon as no more fit."""
        for row in rows:
            cells = [cell(value) for value in row]
            self._bytes += len(json.dumps(cells, ensure_ascii=False).encode("utf-8", "replace")) + 1
            if len(self.rows) >= self.max_rows or self._bytes > self.max_bytes:
                self.truncated = True
                return False
            self.rows.append(cells)
        return True

    def answer(self) -> dict[str, Any]:
        return {"columns": [cut(name, 200)[0] for name in self.columns], "rows": self.rows, "truncated": self.truncated}


def cell(value: Any) -> Any:
    """A value that JSON can carry: bytes in hexadecimal, numbers that JSON does not know as text, long text cut."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int):
        # JSON readers lose digits past 2**53, but not in Python; past 64 bits nobody expects a number.
        return value if abs(value) < 2**63 else str(value)
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, bytes | memoryview):
        data = bytes(value[: MAX_CELL_BYTES // 2 + 1])
        text = "\\x" + data.hex()
    else:
        text = plain(str(value))
    kept, was_cut = cut(text, MAX_CELL_BYTES)
    return kept + _CUT if was_cut else kept
