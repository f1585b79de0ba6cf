"""Failures and cuts that have already happened, and what was refused at first, by conversation.

The one thing a conversation cannot tell: an answer that failed leaves no trace in it. Kept in memory and lost on a
restart, after which a scripted failure happens once more.
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections import OrderedDict
from collections.abc import Sequence

from turnkeeper_local.standin.directives import Fault

_MAX_REMEMBERED = 200_000


def conversation_key(*parts: object) -> str:
    """A name for one place in one conversation. Equal parts give equal keys, in any process."""
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


class FaultLedger:
    """Hands out each scripted fault once, and knows what was refused. Safe to share between threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._used: OrderedDict[str, int] = OrderedDict()
        self._refused: OrderedDict[str, str] = OrderedDict()

    def is_refused(self, key: str, block: str) -> bool:
        """Whether this block is the one that stood there when the refusal under ``key`` was first asked for."""
        with self._lock:
            first = self._refused.setdefault(key, block)
            if len(self._refused) > _MAX_REMEMBERED:
                self._refused.popitem(last=False)
            return first == block

    def next_fault(self, key: str, faults: Sequence[Fault]) -> Fault | None:
        """The next fault due at this place, counted as used; None when they are spent."""
        if not faults:
            return None
        with self._lock:
            used = self._used.get(key, 0)
            passed = 0
            for fault in faults:
                passed += fault.times
                if used < passed:
                    self._used[key] = used + 1
                    self._used.move_to_end(key)
                    if len(self._used) > _MAX_REMEMBERED:
                        self._used.popitem(last=False)
                    return fault
        return None
