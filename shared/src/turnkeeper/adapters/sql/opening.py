"""A database by its address."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import unquote

from turnkeeper.adapters.sql.database import Database, UnsuitableDatabase
from turnkeeper.adapters.sql.sqlite import SqliteDatabase

_SQLITE = "sqlite:///"
_POSTGRESQL = ("postgresql://", "postgres://")


class UnknownDatabase(UnsuitableDatabase, ValueError):
    """The address is of no kind of database that there is a store for, or cannot be read. Does not quote it: it may
    hold a password."""


def database_of(url: str, connections: int = 10, *, busy_seconds: float = 10.0) -> Database:
    """The database at an address, not asked yet: ``sqlite:///file`` (``sqlite:////file`` from the root), or
    ``postgresql://...`` as libpq takes it, with at most so many connections.

    Raises:
        UnknownDatabase: it is neither.
    """
    if url.startswith(_SQLITE):
        return SqliteDatabase(_path_of(url), busy_seconds=busy_seconds)
    if not url.startswith(_POSTGRESQL):
        raise UnknownDatabase("a database's address begins with postgresql:// or sqlite:///")
    _check(url)
    # Its import costs more than the rest of the store.
    from turnkeeper.adapters.sql.postgresql import PostgresDatabase

    return PostgresDatabase(url, connections, busy_seconds=busy_seconds)


def _check(url: str) -> None:
    """Whether libpq can read it. What it says where it cannot may be a part of the password."""
    import psycopg
    from psycopg.conninfo import conninfo_to_dict

    try:
        read = conninfo_to_dict(url)
    except psycopg.ProgrammingError:
        read = {"host": "@"}
    # What follows a bare @ or / in a password is taken for host, port and name, which errors of libpq quote.
    there = f"{read.get('host')}{read.get('dbname')}"
    if "@" in there or not re.fullmatch(r"[\d,]*", str(read.get("port", ""))):
        raise UnknownDatabase(
            "the database's address cannot be read: special characters of a password are written %XX in it (@ is %40, "
            "/ is %2F), or the password is in PGPASSWORD instead"
        )


def _path_of(url: str) -> Path:
    text = url.removeprefix(_SQLITE)
    path = unquote(text)
    if "?" in text or "#" in text or not path or "\0" in path or path == ":memory:":
        raise UnknownDatabase("sqlite:/// is followed by the path of a file only (a ? in it is %3F, a # %23)")
    return Path(path)
