"""A bell that rings in the other processes of a database, by LISTEN and NOTIFY."""

from __future__ import annotations

import logging
import secrets
import threading

import psycopg

from turnkeeper.adapters.sql.bell import Bell

logger = logging.getLogger(__name__)

_CHANNEL = "turnkeeper"
#: A process notifies others at most so often: notifications are committed one after another.
_SECONDS_BETWEEN = 0.05
_SECONDS_AFTER_FAILURE = 5.0


class PostgresBell(Bell):
    """Threads of its own tell others, and hear them, on connections of their own; both are there once they are needed.
    Where they fail, everybody looks for themselves, as they do anyway when time is up."""

    def __init__(self, conninfo: str) -> None:
        super().__init__()
        self._conninfo = conninfo
        self._me = secrets.token_hex(8)
        self._due = threading.Event()
        self._closed = threading.Event()
        self._threads: dict[str, threading.Thread] = {}
        self._lock = threading.Lock()

    def ring(self) -> None:
        super().ring()
        self._due.set()
        self._run("tell", self._tell)

    def wait(self, rung: int, seconds: float) -> bool:
        self._run("listen", self._listen)
        return super().wait(rung, seconds)

    def close(self) -> None:
        self._closed.set()
        self._due.set()
        for thread in self._threads.values():
            thread.join(2)

    def _run(self, name: str, work: object) -> None:
        if name in self._threads or self._closed.is_set():
            return
        with self._lock:
            if name not in self._threads:
                thread = threading.Thread(target=self._again, args=(work,), name=f"turnkeeper-{name}", daemon=True)
                self._threads[name] = thread
                thread.start()

    def _again(self, work: object) -> None:
        while not self._closed.is_set():
            try:
                with psycopg.connect(self._conninfo, autocommit=True, prepare_threshold=None) as connection:
                    work(connection)  # type: ignore[operator]
            except psycopg.Error as error:
                logger.info("processes are not told of changes for now: %s", type(error).__name__)
                self._closed.wait(_SECONDS_AFTER_FAILURE)

    def _tell(self, connection: psycopg.Connection) -> None:
        while not self._closed.is_set():
            self._due.wait()
            self._due.clear()
            if not self._closed.is_set():
                connection.execute("SELECT pg_notify(%s, %s)", (_CHANNEL, self._me))
                self._closed.wait(_SECONDS_BETWEEN)

    def _listen(self, connection: psycopg.Connection) -> None:
        connection.execute(f"LISTEN {_CHANNEL}")
        while not self._closed.is_set():
            for notice in connection.notifies(timeout=1.0):
                if notice.payload != self._me:
                    super().ring()
