"""`turnkeeper database`: the tables of a kit that keeps its state in PostgreSQL or SQLite."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from turnkeeper_local.cli.options import Json
from turnkeeper_local.cli.output import Output

if TYPE_CHECKING:
    from turnkeeper.adapters.sql.database import Database

app = typer.Typer(
    name="database", help="The tables of a kit that keeps its state in PostgreSQL or SQLite.", no_args_is_help=True
)

Url = Annotated[
    str,
    typer.Option(
        "--url",
        metavar="URL",
        envvar="TURNKEEPER_DATABASE_URL",
        help="The database: postgresql://... or sqlite:///file.",
        show_default=False,
        show_envvar=True,
    ),
]


@app.command()
def migrate(url: Url, json: Json = False) -> None:
    """Make the kit's tables, or bring them to the version that this code needs. Safe to repeat, and while others do."""
    with Output(json) as out, _opened(url) as database:
        from turnkeeper.adapters.sql import schema

        made = schema.migrate(database)
        there = schema.version(database)
        document = {"kind": database.kind, "version": there, "made": made}
        said = f"now at version {there}" if made else f"at version {there} already"
        out.answer(document, lambda console: console.print(f"the database is {said}"))


@app.command()
def status(url: Url, json: Json = False) -> None:
    """Show the version of the tables, what they hold, and how far behind those are who follow the changes."""
    with Output(json) as out, _opened(url) as database:
        from turnkeeper.adapters.sql import schema
        from turnkeeper.adapters.sql.looking import holdings

        there, needed = schema.version(database), schema.needed_version(database)
        document = {"kind": database.kind, "version": there, "needed_version": needed}
        if there:
            document |= holdings(database)
        lines = [f"{name}: {value}" for name, value in document.items()]
        out.answer(document, lambda console: console.print("\n".join(lines)))


@contextmanager
def _opened(url: str) -> Iterator[Database]:
    import sqlite3

    import psycopg

    from turnkeeper.adapters.sql.database import refusals
    from turnkeeper.adapters.sql.opening import UnknownDatabase, database_of
    from turnkeeper.core.errors import TurnkeeperError
    from turnkeeper_local.cli.errors import CliError, UsageError

    try:
        database = database_of(url, 2, busy_seconds=5)
    except UnknownDatabase as error:
        raise UsageError(str(error), code="unknown_database") from error
    try:
        with refusals(database):
            yield database
    except TurnkeeperError as error:
        raise CliError(str(error), code=error.code, hint="is the database there, and is its address right?") from error
    except (psycopg.Error, sqlite3.Error) as error:
        said = getattr(getattr(error, "diag", None), "message_primary", None) or str(error)
        raise CliError(f"the database refused: {said}", code="database_refused") from error
    finally:
        database.close()
