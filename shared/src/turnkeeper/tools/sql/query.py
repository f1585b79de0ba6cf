"""The ``sql_query`` tool."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from pydantic import AliasChoices, Field

from turnkeeper.core.tools import Tool, ToolContext
from turnkeeper.tools._common import Arguments, Deadline, guarded, positive, strings

_DESCRIPTION = (
    "Run one reading SQL statement ({dialect} dialect) and return columns, rows and truncated as JSON. "
    "Tables and columns: {tables}. At most {max_rows} rows come back: filter and aggregate in SQL."
)


class QueryArguments(Arguments):
    query: str = Field(
        description="One SELECT statement. Values are written into it; there are no placeholders.",
        validation_alias=AliasChoices("query", "sql"),
    )


def sql_query(
    url: str | Callable[[], str],
    tables: Mapping[str, Sequence[str] | str],
    max_rows: int = 100,
    timeout_seconds: float = 5,
    *,
    max_bytes: int = 200_000,
    base: str | Path | None = None,
    dialect: str | None = None,
    name: str = "sql_query",
    scopes: Iterable[str] = (),
    description: str | None = None,
) -> Tool:
    """A tool that reads listed tables of an SQLite file or a PostgreSQL database. Effect ``read``.

    ``url`` is ``sqlite:///relative.db`` (against ``base``, else the working directory of the process),
    ``sqlite:////absolute.db`` or ``postgresql://...``; or a callable that gives it, for an address with a password in
    it that is fetched at the first call; then ``dialect`` (``sqlite`` or ``postgresql``) says which it is.
    ``tables`` names each table with its allowed columns, or ``"*"`` for all; ``schema.table`` for one that is not on
    the search path. A listed view is read with what it reads.

    The tool answers ``{"columns", "rows", "truncated"}``. It raises ToolDenied for what is not allowed and
    ToolError where the statement cannot be parsed or run or takes longer than ``timeout_seconds``.

    Raises:
        ValueError: a URL, table list or limit that cannot be.
    """
    positive("max_rows", max_rows)
    positive("max_bytes", max_bytes)
    kind = _dialect(url if isinstance(url, str) else f"{dialect}:")
    allowed: dict[str, tuple[str, ...] | None] = {}
    for table, columns in tables.items():
        if isinstance(columns, str) and columns != "*":
            raise ValueError(f'the columns of {table!r} are a list, or "*" for all')
        allowed[table] = None if columns == "*" else strings(f"columns of {table}", columns)
    if isinstance(url, str) and kind == "sqlite":
        _path(url, base)

    def run(ctx: ToolContext, arguments: QueryArguments) -> dict[str, Any]:
        from turnkeeper.tools.sql import rewrite
        from turnkeeper.tools.sql.guard import Tables
        from turnkeeper.tools.sql.rows import Result

        statement = rewrite.read(arguments.query, Tables(kind, allowed))
        deadline = Deadline.of(ctx, timeout_seconds)
        result = Result(max_rows, max_bytes)
        address = url if isinstance(url, str) else url()
        if kind == "sqlite":
            from turnkeeper.tools.sql import sqlite

            sqlite.run(_path(address, base), statement, result, deadline)
        else:
            from turnkeeper.tools.sql import postgres

            postgres.run(address, statement, result, deadline)
        return result.answer()

    return guarded(
        name=name,
        description=description or _DESCRIPTION.format(dialect=kind, tables=_described(allowed), max_rows=max_rows),
        effect="read",
        arguments=QueryArguments,
        run=run,
        scopes=scopes,
        timeout_seconds=timeout_seconds,
    )


def _dialect(url: str) -> str:
    scheme = url.partition(":")[0]
    if scheme == "sqlite":
        return "sqlite"
    if scheme in ("postgresql", "postgres"):
        return "postgres"
    # The URL itself is not repeated: it may hold a password.
    raise ValueError("the url begins with sqlite:/// or postgresql://; for a callable, say dialect=")


def _path(url: str, base: str | Path | None) -> Path:
    path = unquote(url.removeprefix("sqlite:///"))
    if not url.startswith("sqlite:///") or not path or path.startswith(":") or "\0" in path:
        raise ValueError("an SQLite database is a file: sqlite:///relative.db or sqlite:////absolute.db")
    return (Path(base) if base is not None else Path.cwd()) / path


def _described(allowed: Mapping[str, tuple[str, ...] | None]) -> str:
    return "; ".join(
        f"{table}({', '.join(columns) if columns is not None else 'all columns'})" for table, columns in allowed.items()
    )
