"""One finding of the doctor's."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Check:
    name: str
    ok: bool
    detail: str
    #: What to do about it.
    hint: str | None = None

    def document(self) -> dict[str, Any]:
        return asdict(self)
