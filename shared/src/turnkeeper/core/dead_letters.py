"""A message that nobody was ever done with."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class DeadLetter:
    message_id: str
    receipt: str
    body: str
    group: str | None
    #: Why the worker rejected it; None where the queue moved it, since nobody was ever done with it.
    error_code: str | None
    detail: str | None
    sent_at: datetime
    #: How often it was received before it died; None where nobody wrote it down.
    receives: int | None
