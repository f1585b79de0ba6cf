"""What stays broken until a person mends it is found again with every look at it, and told once a day."""

from __future__ import annotations

import logging
from collections import OrderedDict

_DAY_SECONDS = 86_400
#: Errors that a process remembers to have told.
_KEPT = 1_000


class OnceADay(logging.Filter):
    """Lets an error through that was not told within a day, about the same and for the same cause; and all that is
    none. A process that starts anew tells each once more."""

    def __init__(self) -> None:
        super().__init__()
        self._told_at: OrderedDict[tuple[str, str], float] = OrderedDict()

    def filter(self, record: logging.LogRecord) -> bool:
        if record.levelno < logging.ERROR:
            return True
        cause = record.exc_info[1] if record.exc_info else None
        told = record.getMessage(), repr(cause)
        if record.created - self._told_at.get(told, -_DAY_SECONDS) < _DAY_SECONDS:
            return False
        self._told_at[told] = record.created
        self._told_at.move_to_end(told)
        while len(self._told_at) > _KEPT:
            self._told_at.popitem(last=False)
        return True
