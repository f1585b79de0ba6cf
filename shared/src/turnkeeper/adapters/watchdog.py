"""Cuts connections whose time is up. One thread watches over all of a process, and only while there are some."""

from __future__ import annotations

import contextlib
import heapq
import itertools
import socket
import threading
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import httpx2


class Watchdog:
    """Cuts a response's connection when time is up. A look at the clock with each event is not enough: pings, and
    events that arrive byte by byte, never get that far."""

    def __init__(self, response: httpx2.Response, seconds: float) -> None:
        network = response.extensions.get("network_stream")
        self._socket = network.get_extra_info("socket") if network is not None else None
        #: By the monotonic clock; ``None``: no more.
        self.due: float | None = None
        self.restart(seconds)

    def __enter__(self) -> Watchdog:
        return self

    def __exit__(self, *_: object) -> None:
        _WATCH.off(self)

    def restart(self, seconds: float) -> None:
        _WATCH.over(self, time.monotonic() + max(0.0, seconds))

    def cut(self) -> None:
        if isinstance(self._socket, socket.socket):
            # The plain shutdown, also under TLS: it wakes the reader and leaves the session object alone, which the
            # reader may be using right now.
            with contextlib.suppress(OSError):
                socket.socket.shutdown(self._socket, socket.SHUT_RDWR)


class _Watch:
    #: How long the thread stays without anything to watch over.
    IDLE_SECONDS = 30.0

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._dues: list[tuple[float, int, Watchdog]] = []
        self._numbers = itertools.count()
        self._thread: threading.Thread | None = None
        self._wakes_at = 0.0
        #: About how many of the dues are past, or put off.
        self._past = 0

    def over(self, dog: Watchdog, due: float) -> None:
        with self._changed:
            dog.due = due
            heapq.heappush(self._dues, (due, next(self._numbers), dog))
            # Not alive either in a process that was forked from the one that it was started in.
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._keep, name="watchdog", daemon=True)
                self._thread.start()
            elif due < self._wakes_at:
                self._changed.notify()

    def off(self, dog: Watchdog) -> None:
        """Once this returns, it cuts nothing any more: its connection may be another call's."""
        with self._changed:
            dog.due = None
            self._past += 1
            if self._past > 64 + len(self._dues) // 2:
                self._past = 0
                self._dues = [each for each in self._dues if each[2].due == each[0]]
                heapq.heapify(self._dues)

    def _keep(self) -> None:
        with self._changed:
            while True:
                now = time.monotonic()
                while self._dues and (self._dues[0][2].due != self._dues[0][0] or self._dues[0][0] <= now):
                    due, _, dog = heapq.heappop(self._dues)
                    if dog.due == due:
                        dog.cut()
                self._wakes_at = self._dues[0][0] if self._dues else now + self.IDLE_SECONDS
                if not self._changed.wait(self._wakes_at - now) and not self._dues:
                    self._thread = None
                    return


_WATCH = _Watch()
