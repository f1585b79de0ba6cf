"""SQLite as the third wall: opened read-only, and asked about every table, column and function before it is used."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Callable, Mapping
from pathlib import Path
from urllib.parse import quote

from turnkeeper.core.tools import ForeignToolError, ToolError
from turnkeeper.tools._common import Deadline
from turnkeeper.tools.sql import rewrite
from turnkeeper.tools.sql.guard import Tables
from turnkeeper.tools.sql.rewrite import CTE_PREFIX, RealTable, Statement
from turnkeeper.tools.sql.rows import MAX_COLUMNS, Result
from turnkeeper.tools.sql.vocabulary import FUNCTIONS, SQLITE_OPERATORS

_MAX_VALUE_BYTES = 8_000_000
_STEPS_BETWEEN_LOOKS = 2_000
_CALLABLE = FUNCTIONS | SQLITE_OPERATORS


def run(path: Path, statement: Statement, result: Result, deadline: Deadline) -> None:
    """Run the statement on the file and fill the result.

    Raises:
        ToolDenied: it reads what is not allowed.
        ToolError: the database cannot be read, refuses the statement, or takes too long.
    """
    tables = statement.tables
    try:
        with contextlib.closing(_open(path, deadline)) as connection:
            real = {key: _real(connection, key, tables) for key in statement.keys}
            sql = rewrite.write(statement, real)
            connection.set_authorizer(_authorizer(real, _views(connection, real)))
            cursor = connection.execute(sql)
            result.columns = [str(column[0]).replace("`", "") for column in cursor.description or ()]
            while (rows := cursor.fetchmany(50)) and result.take(rows):
                pass
    except (sqlite3.Error, sqlite3.Warning) as error:
        raise _explained(error, tables, deadline) from error


def _open(path: Path, deadline: Deadline) -> sqlite3.Connection:
    connection = sqlite3.connect(
        f"file:{quote(str(path))}?mode=ro",
        uri=True,
        timeout=min(2.0, deadline.left()),
        isolation_level=None,
        check_same_thread=False,
        cached_statements=0,
    )
    connection.execute("PRAGMA query_only = ON")
    connection.execute("PRAGMA trusted_schema = OFF")
    connection.execute("PRAGMA cell_size_check = ON")
    for limit, value in (
        (sqlite3.SQLITE_LIMIT_LENGTH, _MAX_VALUE_BYTES),
        (sqlite3.SQLITE_LIMIT_ATTACHED, 0),
        (sqlite3.SQLITE_LIMIT_COLUMN, max(MAX_COLUMNS, 2000)),
        (sqlite3.SQLITE_LIMIT_LIKE_PATTERN_LENGTH, 1000),
        (sqlite3.SQLITE_LIMIT_WORKER_THREADS, 0),
    ):
        connection.setlimit(limit, value)
    connection.set_progress_handler(deadline.passed, _STEPS_BETWEEN_LOOKS)
    # Bytes that are not UTF-8 in a text column are data like any other, not a reason to fail.
    connection.text_factory = lambda data: data.decode("utf-8", "replace")
    return connection


def _real(connection: sqlite3.Connection, key: str, tables: Tables) -> RealTable:
    schema, _, name = key.rpartition(".")
    if schema not in ("", "main"):
        raise ToolError(f"The table {key} is not in the database.")
    found = connection.execute(
        "SELECT name FROM main.sqlite_master WHERE type IN ('table', 'view') AND lower(name) = lower(?)", (name,)
    ).fetchone()
    rows = connection.execute("SELECT name, hidden FROM pragma_table_xinfo(?, 'main')", (found[0],)) if found else ()
    # Hidden columns of virtual tables are commands to them, not data.
    columns = [str(column) for column, hidden in rows if hidden != 1]
    wanted = tables.columns[key]
    if wanted is not None:
        chosen = {tables.fold(column) for column in wanted}
        columns = [column for column in columns if tables.fold(column) in chosen]
    if not found or not columns:
        raise ToolError(f"The table {key} is not in the database, or has none of the allowed columns.")
    return RealTable("main", str(found[0]), tuple(columns))


def _views(connection: sqlite3.Connection, real: Mapping[str, RealTable]) -> frozenset[str]:
    """Which of the listed tables are views: what a view reads was decided by who wrote it, and by who listed it."""
    names = {row[0] for row in connection.execute("SELECT name FROM main.sqlite_master WHERE type = 'view'")}
    return frozenset(table.name for table in real.values() if table.name in names)


def _authorizer(
    real: Mapping[str, RealTable], views: frozenset[str]
) -> Callable[[int, str | None, str | None, str | None, str | None], int]:
    readable = {table.name: {*table.columns, ""} for table in real.values()}

    def authorize(action: int, first: str | None, second: str | None, schema: str | None, inside: str | None) -> int:
        if action in (sqlite3.SQLITE_SELECT, sqlite3.SQLITE_RECURSIVE):
            return sqlite3.SQLITE_OK
        if action == sqlite3.SQLITE_FUNCTION:
            ok = (second or "").lower() in _CALLABLE
        elif action == sqlite3.SQLITE_READ:
            # An empty column is a table that is counted without being read; a CTE of ours may be. `inside` names the
            # view that reads; no CTE can pretend to be one, since CTEs have names of ours by now.
            ok = (
                inside in views
                or ((first or "").startswith(CTE_PREFIX) and not second)
                or ((second or "") in readable.get(first or "", ()) and schema in ("main", None))
            )
        else:
            ok = False
        return sqlite3.SQLITE_OK if ok else sqlite3.SQLITE_DENY

    return authorize


def _explained(error: Exception, tables: Tables, deadline: Deadline) -> ToolError:
    text = str(error)
    if "interrupted" in text or "locked" in text:
        return ToolError(f"The query took longer than {deadline.timeout_seconds:.3g} s and was stopped. Ask for less.")
    if "prohibited" in text or "not authorized" in text or text.startswith("no such column"):
        return rewrite.unknown_column("This column, table or function", tables)
    if "unable to open" in text or "not a database" in text or "malformed" in text or "disk I/O" in text:
        return ToolError("The database cannot be read.")
    return ForeignToolError(f"The database refused the statement: {text[:200].replace('`', '')}")
