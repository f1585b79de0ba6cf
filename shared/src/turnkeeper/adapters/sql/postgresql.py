"""PostgreSQL: for several machines. Nothing outlives a transaction in its connection, so a pooler may stand between."""

from __future__ import annotations

import functools
import hashlib
import logging
import os
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg_pool import ConnectionPool, PoolTimeout

from turnkeeper.adapters.sql.database import Busy, Database, Lost, Row, Statements, UnsuitableDatabase
from turnkeeper.adapters.sql.postgresql_bell import PostgresBell
from turnkeeper.ports import Clock, Ids

# Where nobody has set up logs, as on a command line, it tells of no attempt: the last one is told as an error.
logging.getLogger("psycopg.pool").addHandler(logging.NullHandler())

#: A transaction waits so long for a lock or an answer, and is ended by the server where its client falls silent:
#: whoever stands still must not hold others up.
_LIMITS = (
    "SELECT set_config('lock_timeout', '3s', true), set_config('statement_timeout', '10s', true), "
    "set_config('idle_in_transaction_session_timeout', '5s', true)"
)
_LOCK = (
    "SELECT CASE WHEN writes THEN pg_advisory_xact_lock(name) ELSE pg_advisory_xact_lock_shared(name) END "
    "FROM unnest(%s::bigint[], %s::boolean[]) AS locks (name, writes)"
)
_POOL_SECONDS = 3.0
#: What a connection is made with where its address does not say otherwise. All but the encoding stays on this side.
_DEFAULTS: dict[str, str | int] = {
    "application_name": "turnkeeper",
    "client_encoding": "utf8",
    "connect_timeout": 3,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 10_000,
}
#: Nothing was done, and later it may be: conflicts and deadlocks, no resources, locks and time that ran out, a server
#: that stops, starts, or is only a replica.
_BUSY = ("40", "53", "55P03", "57", "25006", "08", "58")
#: It is what was to be written that cannot be: values, constraints on them, and more than a statement may hold.
_OF_VALUES = ("22", "23", "54")

#: Why that may be, and what to do: no time that one waits helps against a wrong address.
_HINTS = {
    "25006": "it takes no writes (a standby, or default_transaction_read_only; of several servers "
    "target_session_attrs=read-write finds one)",
    "42501": "a right of this role is missing, see the roles in docs/databases.md",
}


class _Statements:
    def __init__(self, connection: psycopg.Connection[Row], pipeline: psycopg.Pipeline | None = None) -> None:
        self._connection = connection
        self._pipeline = pipeline

    def rows(self, sql: str, *values: Any) -> list[Row]:
        cursor = self._connection.cursor(binary=True).execute(_sql(sql), values)
        if self._pipeline is not None:
            # A whole answer, and not only these rows: else the server waits for more of the same, and takes a client
            # that has fallen silent for one that is busy.
            self._pipeline.sync()
        return cursor.fetchall()

    def many(self, sql: str, rows: Sequence[Row]) -> None:
        # One by one: within a pipeline they go out together, where `executemany` would wait for their answers.
        for row in rows:
            self._connection.execute(_sql(sql), row)

    def lock(self, names: Iterable[tuple[bytes, bool]]) -> None:
        wanted: dict[int, bool] = {}
        for name, writes in names:
            number = int.from_bytes(hashlib.blake2b(name, digest_size=8).digest(), signed=True)
            wanted[number] = writes or wanted.get(number, False)
        # In one order, whoever asks; and two names of one number are one lock, which is only a wait too many.
        numbers = sorted(wanted)
        self._connection.execute(_LOCK, (numbers, [wanted[number] for number in numbers]))


class PostgresDatabase(Database):
    """``url`` is what libpq takes. Connections are made when they are needed, at most ``connections``."""

    kind = "postgresql"
    now = "extract(epoch FROM clock_timestamp())::double precision"
    skip_locked = "FOR UPDATE SKIP LOCKED"
    transaction_number = "pg_current_xact_id()::text::bigint"
    settled_number = "pg_snapshot_xmin(pg_current_snapshot())::text::bigint"
    has_schema = "SELECT to_regclass('turnkeeper_schema')::text"

    def __init__(
        self,
        url: str,
        connections: int = 10,
        *,
        busy_seconds: float = 10.0,
        clock: Clock | None = None,
        ids: Ids | None = None,
    ) -> None:
        super().__init__(busy_seconds, clock, ids)
        given = conninfo_to_dict(url)
        self.password = given.get("password") or os.environ.get("PGPASSWORD")  # type: ignore[assignment]
        conninfo = make_conninfo(url, **{name: value for name, value in _DEFAULTS.items() if name not in given})
        self._conninfo = conninfo
        self._pool: ConnectionPool[psycopg.Connection[Row]] = ConnectionPool(
            conninfo,
            min_size=1,
            max_size=connections,
            open=False,
            timeout=_POOL_SECONDS,
            # Given up so soon, a connection is made anew for the next who asks. In between, pauses double: after an
            # outage of minutes, the pool would look for the server minutes after that is back.
            reconnect_timeout=_POOL_SECONDS,
            # No statement is prepared: a pooler may give the next one to another connection.
            kwargs={"autocommit": True, "prepare_threshold": None},
            name="turnkeeper",
            configure=_configure,
        )
        self._checking = threading.Lock()
        self.most_connections = connections
        self._opening = threading.Lock()
        self.bell: PostgresBell = PostgresBell(conninfo)

    @contextmanager
    def transaction(self, *, write: bool) -> Iterator[_Statements]:
        committing = False
        connection: psycopg.Connection[Row] | None = None
        try:
            with self._opened().connection() as connection:
                if not write:
                    yield _Statements(connection)
                    return
                # What need not be answered goes out with what does: a write takes two round trips.
                with connection.pipeline() as pipeline, connection.transaction():
                    connection.execute(_LIMITS)
                    yield _Statements(connection, pipeline)
                    committing = True
                self._has_written = True
        except PoolTimeout as error:
            raise Busy("no connection to the database is free, or it cannot be reached") from error
        except psycopg.Error as error:
            broken = connection is None or connection.closed
            if broken:
                # Where one is dead, its idle neighbours may be.
                threading.Thread(target=self._check, daemon=True).start()
            raise self._trouble(error, broken=broken, committing=committing) from error

    def refusal(self) -> str | None:
        try:
            psycopg.connect(self._conninfo).close()
        except psycopg.Error as error:
            return str(error)
        return None

    def before_migration(self, statements: Statements) -> None:
        # It takes as long as it takes, and waits for another one.
        statements.rows("SELECT set_config('lock_timeout', '0', true), set_config('statement_timeout', '0', true)")
        [(encoding,)] = statements.rows("SELECT current_setting('server_encoding')")
        if encoding != "UTF8":
            raise UnsuitableDatabase(f"the database's encoding is {encoding}: make one with ENCODING 'UTF8'")

    def after_migration(self, statements: Statements) -> None:
        # Restored from another server, whose transactions were further on: what is new here would be before it. All
        # that is kept is put in the order of its positions, and shown again.
        [(strange,)] = statements.rows(
            "SELECT count(*) FROM (SELECT transaction_number FROM turnkeeper_feed UNION ALL "
            "SELECT transaction_number FROM turnkeeper_followers) AS known "
            "WHERE transaction_number >= pg_snapshot_xmax(pg_current_snapshot())::text::bigint"
        )
        if strange:
            statements.many("UPDATE turnkeeper_feed SET transaction_number = 0", [()])
            statements.many("DELETE FROM turnkeeper_followers", [()])

    def close(self) -> None:
        self.bell.close()
        self._pool.close()

    def _check(self) -> None:
        """Let the pool look at each of its connections, unless it does already."""
        if self._checking.acquire(blocking=False):
            try:
                self._pool.check()
            finally:
                self._checking.release()

    def _trouble(self, error: psycopg.Error, *, broken: bool, committing: bool) -> Exception:
        """What the error means; itself, where it is about what was to be written."""
        state = error.sqlstate or ""
        if broken or state.startswith(("08", "57P")):
            return Lost(_text(error)) if committing else Busy(_text(error))
        if state.startswith(_BUSY):
            return Busy(_text(error))
        # The statements are always the same, so it is rights, tables, columns or settings that are not as they were.
        return error if not state or state.startswith(_OF_VALUES) else self.refused(_text(error))

    def _opened(self) -> ConnectionPool[psycopg.Connection[Row]]:
        if self._pool.closed:
            with self._opening:
                self._pool.open()
        return self._pool


def _configure(connection: psycopg.Connection[Row]) -> None:
    # Whatever the server's default is: what is read behind a lock has to be what was committed before it was given.
    connection.isolation_level = psycopg.IsolationLevel.READ_COMMITTED


@functools.lru_cache(maxsize=512)
def _sql(sql: str) -> Any:
    return sql.replace("?", "%b")


def _text(error: psycopg.Error) -> str:
    """Without the server's own words, which may quote values."""
    name = f"{type(error).__name__} {error.sqlstate or ''}".strip()
    hint = _HINTS.get(error.sqlstate or "")
    return f"{name}: {hint}" if hint else name
