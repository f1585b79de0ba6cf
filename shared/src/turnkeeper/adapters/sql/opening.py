"""A database by its address."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import unquote, urlsplit

from turnkeeper.adapters.sql.database import Database
from turnkeeper.adapters.sql.sqlite import SqliteDatabase


class UnknownDatabase(ValueError):
    """The address is of no kind of database that there is a store for. Does not quote it: it may hold a password."""


def database_of(url: str, connections: int = 10, *, busy_seconds: float = 10.0) -> Database:
    """The database at an address, not asked yet: ``sqlite:///file`` (``sqlite:////file`` from the root), or
    ``postgresql://...`` as libpq takes it, with at most so many connections.

    Raises:
        UnknownDatabase: it is neither.
    """
    parts = urlsplit(url)
    if parts.scheme == "sqlite" and not parts.netloc and len(parts.path) > 1:
        return SqliteDatabase(Path(unquote(parts.path[1:])), busy_seconds=busy_seconds)
    if parts.scheme in ("postgresql", "postgres"):
        # Its import costs more than the rest of the store.
        from turnkeeper.adapters.sql.postgresql import PostgresDatabase

        return PostgresDatabase(url, connections, busy_seconds=busy_seconds)
    raise UnknownDatabase("a database's address begins with postgresql:// or sqlite:///")
