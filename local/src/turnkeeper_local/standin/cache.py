"""The prompt cache: which part of a prompt was seen before, up to a ``cache_control`` marker.

As with the API, a marker writes the prefix up to it, a later request reads the longest live prefix that ends at one
of its own markers or at most ``_LOOKBACK`` pieces before it, and reading keeps an entry alive. Unlike the API there
is no least size, so that short tests see the cache too.
"""

from __future__ import annotations

import hashlib
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate

from turnkeeper_local.standin.tokens import BASE_TOKENS, Segment

_LOOKBACK = 20
_MAX_ENTRIES = 200_000
_TTL_SECONDS = {"5m": 300.0, "1h": 3600.0}


@dataclass(frozen=True, slots=True)
class InputSplit:
    """Input tokens by how they were served. The parts always add up to the whole prompt."""

    fresh: int
    read: int = 0
    written_5m: int = 0
    written_1h: int = 0

    @property
    def written(self) -> int:
        return self.written_5m + self.written_1h

    @property
    def total(self) -> int:
        return self.fresh + self.read + self.written


@dataclass(slots=True)
class _Entry:
    ttl_seconds: float
    expires_at: float


class PromptCache:
    """Safe to share between threads."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._entries: OrderedDict[bytes, _Entry] = OrderedDict()

    def split(self, model: str, prompt: Sequence[Segment]) -> InputSplit:
        """Say what of ``prompt`` is cached, and cache what its markers ask for."""
        totals = list(accumulate(segment.tokens for segment in prompt))
        total = BASE_TOKENS + (totals[-1] if totals else 0)
        markers = [(index, segment.ttl) for index, segment in enumerate(prompt) if segment.ttl]
        if not markers:
            return InputSplit(fresh=total)
        digests = _prefix_digests(model, prompt)
        with self._lock:
            hit = self._longest_hit([index for index, _ in markers], digests)
            boundary = totals[hit] if hit is not None else 0
            read, written = boundary, {"5m": 0, "1h": 0}
            for index, ttl in markers:
                if hit is None or index > hit:
                    written[ttl] += totals[index] - boundary
                    boundary = totals[index]
                self._keep(digests[index], _TTL_SECONDS[ttl])
        return InputSplit(total - boundary, read, written["5m"], written["1h"])

    def _longest_hit(self, markers: Sequence[int], digests: Sequence[bytes]) -> int | None:
        now = self._clock()
        for marker in reversed(markers):
            for index in range(marker, max(marker - _LOOKBACK, -1), -1):
                entry = self._entries.get(digests[index])
                if entry is not None and entry.expires_at > now:
                    self._keep(digests[index], entry.ttl_seconds)
                    return index
        return None

    def _keep(self, digest: bytes, ttl_seconds: float) -> None:
        now = self._clock()
        entry = self._entries.get(digest)
        if entry is not None and entry.expires_at > now:
            ttl_seconds = max(ttl_seconds, entry.ttl_seconds)
        self._entries[digest] = _Entry(ttl_seconds, now + ttl_seconds)
        self._entries.move_to_end(digest)
        if len(self._entries) > _MAX_ENTRIES:
            self._entries.popitem(last=False)


def _prefix_digests(model: str, prompt: Sequence[Segment]) -> list[bytes]:
    digests = []
    previous = hashlib.blake2b(model.encode(), digest_size=16).digest()
    for segment in prompt:
        previous = hashlib.blake2b(previous + segment.canonical, digest_size=16).digest()
        digests.append(previous)
    return digests
