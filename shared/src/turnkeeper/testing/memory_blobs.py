"""Large contents in memory."""

from __future__ import annotations

import threading


class MemoryBlobs:
    """A :class:`turnkeeper.table.Blobs` in memory; ``contents`` is there for tests to look at."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.contents: dict[str, bytes] = {}

    def put(self, key: str, data: bytes) -> None:
        with self._lock:
            self.contents[key] = bytes(data)

    def get(self, key: str) -> bytes:
        with self._lock:
            return self.contents[key]

    def delete_prefix(self, prefix: str) -> int:
        if not prefix:
            raise ValueError("an empty prefix is the whole bucket")
        with self._lock:
            keys = [key for key in self.contents if key.startswith(prefix)]
            for key in keys:
                del self.contents[key]
            return len(keys)
