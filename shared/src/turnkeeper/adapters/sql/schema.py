"""The tables of the stores: which version a database has, and bringing it to the one that this code needs."""

from __future__ import annotations

import re
from pathlib import Path

from turnkeeper.adapters.sql.database import Database, Statements, UnsuitableDatabase

_FOLDER = Path(__file__).parent
_VERSIONS = "CREATE TABLE IF NOT EXISTS turnkeeper_schema (version integer PRIMARY KEY, applied_at double precision)"
#: Held by whoever changes the tables.
_LOCK = b"turnkeeper_schema"


class SchemaMissing(UnsuitableDatabase):
    """The database does not have the tables that this code needs."""


def steps(kind: str) -> dict[int, str]:
    """The migrations of this kind of database, by the version that each leads to. Each only adds, so that the code of
    the version before goes on while it is being replaced."""
    return {int(file.name.partition(".")[0]): file.read_text() for file in sorted(_FOLDER.glob(f"[0-9]*.{kind}.sql"))}


def needed_version(database: Database) -> int:
    return max(steps(database.kind))


def migrate(database: Database) -> list[int]:
    """Bring the database to the version that this code needs, in one transaction; the versions that were made. Several
    may do it at once: one does it, the others wait. A database that is further on stays as it is.

    Raises:
        UnsuitableDatabase: it cannot hold what is to be put into it.
    """

    def work(statements: Statements, _lost: bool) -> list[int]:
        database.before_migration(statements)
        statements.lock([(_LOCK, True)])
        statements.many(_VERSIONS, [()])
        [(version,)] = statements.rows("SELECT coalesce(max(version), 0) FROM turnkeeper_schema")
        made = {number: sql for number, sql in steps(database.kind).items() if number > version}
        for number, sql in made.items():
            for statement in _statements(sql):
                statements.many(statement, [()])
            statements.many(f"INSERT INTO turnkeeper_schema VALUES (?, {database.now})", [(number,)])
        database.after_migration(statements)
        return list(made)

    database.make()
    return database.write(work)


def check(database: Database) -> None:
    """Raises SchemaMissing."""
    needed = needed_version(database)
    there = version(database)
    if there < needed:
        raise SchemaMissing(
            f"the database is at version {there} and this code needs {needed}: run `turnkeeper database migrate`, "
            "or let processes do it at their start, with TURNKEEPER_DATABASE_MIGRATE=true"
        )


def version(database: Database) -> int:
    """0 where nothing was made yet."""
    there = database.read(lambda statements: statements.rows(database.has_schema))
    if not there or there[0][0] is None:
        return 0
    [(found,)] = database.read(
        lambda statements: statements.rows("SELECT coalesce(max(version), 0) FROM turnkeeper_schema")
    )
    return int(found)


def _statements(sql: str) -> list[str]:
    plain = re.sub(r"--[^\n]*", "", sql)
    return [statement.strip() for statement in plain.split(";") if statement.strip()]
