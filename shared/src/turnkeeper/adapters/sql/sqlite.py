"""SQLite: one file, for one machine. Several processes may share it."""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from turnkeeper.adapters.sql.bell import Bell
from turnkeeper.adapters.sql.database import Busy, Database, Lost, Row, UnsuitableDatabase
from turnkeeper.ports import Clock, Ids

#: How long one statement waits for another process's transaction before the attempt counts as busy.
_WAIT_SECONDS = 2.0
#: Nothing was done, and later it may be.
_BUSY = {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_FULL, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_IOERR}
#: It depends on whether it was otherwise before.
_REFUSED = {sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM, sqlite3.SQLITE_AUTH}
#: Asking again cannot help.
_UNSUITABLE = {sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT}


class _Statements:
    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def rows(self, sql: str, *values: Any) -> list[Row]:
        return self._connection.execute(sql, values).fetchall()

    def many(self, sql: str, rows: Sequence[Row]) -> None:
        self._connection.executemany(sql, rows)

    def lock(self, names: Iterable[tuple[bytes, bool]]) -> None:
        """A transaction that writes has the whole file to itself."""


class SqliteDatabase(Database):
    """Safe in one file of one machine; not on network file systems. Only :meth:`make` makes the file."""

    kind = "sqlite"
    now = "((julianday('now') - 2440587.5) * 86400.0)"
    skip_locked = ""
    # One transaction writes at a time, so their changes are in order already.
    transaction_number = "0"
    settled_number = "1"
    has_schema = "SELECT name FROM sqlite_master WHERE name = 'turnkeeper_schema'"

    def __init__(
        self, path: Path, *, busy_seconds: float = 10.0, clock: Clock | None = None, ids: Ids | None = None
    ) -> None:
        super().__init__(busy_seconds, clock, ids)
        self.bell = Bell()
        self.path = path
        self._idle: list[sqlite3.Connection] = []
        self._inode: int | None = None
        self._lock = threading.Lock()
        # Threads of one process take turns here, in the order in which they came, instead of by SQLite's own pauses.
        self._writing = threading.Lock()

    @contextmanager
    def transaction(self, *, write: bool) -> Iterator[_Statements]:
        if not write:
            with self._connection() as connection:
                yield _Statements(connection)
            return
        if not self._writing.acquire(timeout=_WAIT_SECONDS):
            raise Busy("other threads write")
        try:
            with self._connection() as connection:
                connection.execute("BEGIN IMMEDIATE")
                try:
                    yield _Statements(connection)
                    self._commit(connection)
                finally:
                    # Where it fails, too, what led to it is what counts; the connection is closed, which ends it.
                    with suppress(sqlite3.Error):
                        if connection.in_transaction:
                            connection.execute("ROLLBACK")
        finally:
            self._writing.release()

    def make(self) -> None:
        """An empty file, which only its owner may read."""
        try:
            if not self.path.exists():
                self.path.parent.mkdir(parents=True, exist_ok=True)
                os.close(os.open(self.path, os.O_CREAT | os.O_RDWR, 0o600))
        except OSError as error:
            raise UnsuitableDatabase(f"{self.path} cannot be made: {error.strerror}") from error

    def refusal(self) -> str | None:
        """SQLite calls much the same that is not: what it cannot do without is its file and, beside it, its log."""
        if not self.path.is_file():
            return f"{self.path} is no file"
        for place in (self.path, self.path.parent):
            if not os.access(place, os.R_OK | os.W_OK):
                return f"{place} cannot be written to"
        return None

    def close(self) -> None:
        with self._lock:
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()

    def tidy(self) -> bool:
        """Its log keeps what was written until it is written over, which may be never."""
        if not self._writing.acquire(timeout=_WAIT_SECONDS):
            return False
        try:
            with self._connection() as connection:
                [(is_busy, *_)] = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
            return not is_busy
        except Busy:
            return False
        finally:
            self._writing.release()

    def _commit(self, connection: sqlite3.Connection) -> None:
        try:
            connection.execute("COMMIT")
            self._has_written = True
        except sqlite3.OperationalError as error:
            # What the disk refused at the end may stand in the log all the same.
            if error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_IOERR:
                raise Lost(str(error)) from error
            raise

    @contextmanager
    def _connection(self) -> Iterator[sqlite3.Connection]:
        """An idle connection, or a new one; one that failed is closed. Raises Busy, UnsuitableDatabase."""
        self._check_file()
        with self._lock:
            connection = self._idle.pop() if self._idle else None
        try:
            connection = connection or self._connected()
            yield connection
        except BaseException as error:
            if connection is not None:
                with suppress(sqlite3.Error):
                    connection.close()
            code = getattr(error, "sqlite_errorcode", 0) & 0xFF
            if code in _BUSY:
                raise Busy(str(error)) from error
            if code in _REFUSED:
                raise self.refused(f"{self.path.name} cannot be used: {error}") from error
            if code in _UNSUITABLE:
                raise UnsuitableDatabase(f"{self.path.name} cannot be used: {error}") from error
            raise
        with self._lock:
            self._idle.append(connection)

    def _check_file(self) -> None:
        """SQLite would go on with a file that was deleted: what it answers is gone when the process ends."""
        if self._inode is not None and self._found() != self._inode:
            raise UnsuitableDatabase("the database's file was removed or replaced in use: start the process anew")

    def _found(self) -> int | None:
        """The file's number, where it is there. Raises Busy, UnsuitableDatabase."""
        try:
            return self.path.stat().st_ino
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise self.refused(f"{self.path} cannot be used: {error.strerror}") from error

    def _connected(self) -> sqlite3.Connection:
        # SQLite would make one, and whoever has mistyped its name would find it empty.
        if self._found() is None:
            raise UnsuitableDatabase(f"{self.path} is not there: `turnkeeper database migrate` makes it")
        connection = sqlite3.connect(
            self.path, timeout=_WAIT_SECONDS, isolation_level=None, check_same_thread=False, cached_statements=256
        )
        connection.execute("PRAGMA journal_mode = WAL")
        # What was answered stays, also when the power fails.
        connection.execute("PRAGMA synchronous = FULL")
        # And what was taken away is gone, whatever this build of SQLite does of itself.
        connection.execute("PRAGMA secure_delete = ON")
        self._inode = self._found()
        return connection
