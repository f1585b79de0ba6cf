"""PostgreSQL as the third wall: a read-only transaction with a timeout and an empty search path, always rolled back.

Imports psycopg: import this module inside a call only.
"""

from __future__ import annotations

import contextlib
import os
import socket
import threading
from collections.abc import Iterator
from typing import Any

import psycopg
from psycopg import errors

from turnkeeper.core.tools import ForeignToolError, ToolError
from turnkeeper.tools._common import Deadline
from turnkeeper.tools.sql import rewrite
from turnkeeper.tools.sql.guard import Tables
from turnkeeper.tools.sql.rewrite import RealTable, Statement
from turnkeeper.tools.sql.rows import MAX_CELL_BYTES, MAX_COLUMNS, Result

#: Types that are small whatever their value: bool, int8, int2, int4, float4, float8. Everything else is cut by the
#: server.
_SMALL = frozenset({16, 20, 21, 23, 700, 701})
_GRACE_SECONDS = 1.0
#: Read-only before the first statement; literals and dates in one form, whatever the server's settings say.
_OPTIONS = (
    "-c default_transaction_read_only=on -c standard_conforming_strings=on -c DateStyle=ISO -c TimeZone=UTC"
    " -c IntervalStyle=postgres -c bytea_output=hex -c jit=off"
)
_FIND = """
SELECT n.nspname, c.relname, array_agg(a.attname::text ORDER BY a.attnum)
FROM pg_catalog.pg_class c
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
WHERE c.oid = pg_catalog.to_regclass(%s) AND c.relkind IN ('r', 'v', 'm', 'p', 'f')
GROUP BY 1, 2
"""


def run(url: str, statement: Statement, result: Result, deadline: Deadline) -> None:
    """Run the statement and fill the result.

    Raises:
        ToolDenied: it reads what is not allowed.
        ToolError: the database cannot be reached, refuses the statement, or takes too long.
    """
    tables = statement.tables
    try:
        with _connected(url, deadline) as cursor:
            real = {key: _real(cursor, key, tables) for key in statement.keys}
            sql = rewrite.write(statement, real)
            # From here on only pg_catalog's functions and operators exist; tables are written with their schema.
            _execute(cursor, "SET LOCAL search_path = pg_catalog", deadline)
            types = _described(cursor, sql, result, deadline)
            _execute(cursor, f"DECLARE turnkeeper_rows NO SCROLL CURSOR FOR {_bounded(sql, types)}", deadline)
            while True:
                _execute(cursor, "FETCH FORWARD 50 FROM turnkeeper_rows", deadline)
                rows = cursor.fetchall()
                if not rows or not result.take(rows):
                    return
    except psycopg.Error as error:
        raise _explained(error, tables, deadline) from error


@contextlib.contextmanager
def _connected(url: str, deadline: Deadline) -> Iterator[psycopg.Cursor[tuple[Any, ...]]]:
    connection = psycopg.connect(
        url,
        connect_timeout=max(2, int(deadline.left())),
        options=_OPTIONS,
        application_name="turnkeeper sql_query",
        autocommit=False,
    )
    line = socket.socket(fileno=os.dup(connection.fileno()))
    cut_off = threading.Timer(max(0.0, deadline.left()) + _GRACE_SECONDS, _hang_up, (line,))
    cut_off.daemon = True
    cut_off.start()
    try:
        connection.read_only = True
        with connection.cursor() as cursor:
            yield cursor
    finally:
        cut_off.cancel()
        cut_off.join()
        with contextlib.suppress(psycopg.Error):
            connection.rollback()
        connection.close()
        line.close()


def _hang_up(line: socket.socket) -> None:
    """The server's own timeout ends a query; this ends the wait for a server that no longer answers."""
    with contextlib.suppress(OSError):
        line.shutdown(socket.SHUT_RDWR)


def _execute(
    cursor: psycopg.Cursor[tuple[Any, ...]], sql: str, deadline: Deadline, arguments: tuple[Any, ...] | None = None
) -> None:
    milliseconds = max(1, int(deadline.left() * 1000))
    cursor.execute(f"SET LOCAL statement_timeout = {milliseconds}")
    # The text is what rewrite.write has made of the parse, not what the model sent.
    cursor.execute(sql, arguments)


def _real(cursor: psycopg.Cursor[tuple[Any, ...]], key: str, tables: Tables) -> RealTable:
    quoted = ".".join('"' + part.replace('"', '""') + '"' for part in key.split("."))
    found: tuple[str, str, list[str]] | None = cursor.execute(_FIND, (quoted,)).fetchone()
    columns: list[str] = list(found[2]) if found else []
    wanted = tables.columns[key]
    if wanted is not None:
        columns = [column for column in columns if column in wanted]
    if not found or not columns:
        raise ToolError(f"The table {key} is not in the database, or has none of the allowed columns.")
    return RealTable(found[0], found[1], tuple(columns))


def _described(cursor: psycopg.Cursor[tuple[Any, ...]], sql: str, result: Result, deadline: Deadline) -> list[int]:
    """The types of the columns that the statement gives, without a row of it being worked out."""
    _execute(cursor, f"DECLARE turnkeeper_shape NO SCROLL CURSOR FOR {sql}", deadline)
    _execute(cursor, "FETCH FORWARD 0 FROM turnkeeper_shape", deadline)
    description = cursor.description or []
    _execute(cursor, "CLOSE turnkeeper_shape", deadline)
    if len(description) > MAX_COLUMNS:
        raise ToolError(f"The statement gives more than {MAX_COLUMNS} columns. Ask for fewer.")
    result.columns = [column.name for column in description]
    return [column.type_code for column in description]


def _bounded(sql: str, types: list[int]) -> str:
    """The statement with every value of unknown size cut on the server: a gigabyte in one cell never leaves it."""
    if not types:
        return sql
    names = [f"c{number}" for number in range(len(types))]
    cells = [
        name if kind in _SMALL else f"pg_catalog.left({name}::pg_catalog.text, {MAX_CELL_BYTES + 1})"
        for name, kind in zip(names, types, strict=True)
    ]
    return f"SELECT {', '.join(cells)} FROM ({sql}) AS turnkeeper_result ({', '.join(names)})"  # noqa: S608


def _explained(error: psycopg.Error, tables: Tables, deadline: Deadline) -> ToolError:
    if isinstance(error, errors.QueryCanceled) or deadline.passed():
        return ToolError(f"The query took longer than {deadline.timeout_seconds:.3g} s and was stopped. Ask for less.")
    denied = (
        errors.UndefinedColumn,
        errors.UndefinedTable,
        errors.InvalidSchemaName,
        errors.InsufficientPrivilege,
        errors.ReadOnlySqlTransaction,
    )
    if isinstance(error, denied):
        return rewrite.unknown_column("This column or table", tables)
    if error.sqlstate is None or error.sqlstate.startswith(("08", "28", "3D", "53", "57")):
        # Not the driver's words: they name host, database and user.
        return ToolError("The database cannot be reached at the moment.")
    return ForeignToolError(
        f"The database refused the statement: {(error.diag.message_primary or 'unknown reason')[:200]}"
    )
