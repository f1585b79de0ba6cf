"""A database by its address."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import quote, unquote, urlencode

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
    if _read(url) is None:
        raise UnknownDatabase(
            "the database's address cannot be read: special characters of a password are written %XX in it (@ is %40, "
            "/ is %2F), or the password is in PGPASSWORD instead"
        )
    # Its import costs more than the rest of the store.
    from turnkeeper.adapters.sql.postgresql import PostgresDatabase

    return PostgresDatabase(url, connections, busy_seconds=busy_seconds)


def without_password(url: str) -> str:
    """An address that may be written down; of one that cannot be read, only its kind."""
    kind = url.partition("://")[0]
    if kind == "sqlite":
        return url
    given = _read(url) if url.startswith(_POSTGRESQL) else None
    if given is None:
        return f"{kind}://..." if "://" in url else "..."
    kept = {name: value for name, value in given.items() if name not in ("password", "sslpassword")}
    plain = url if kept == given else re.sub(r"^(\w+://[^:/@]*):[^/@]*@", r"\1@", url)
    # It may stand in several places and be escaped in many ways, of which libpq knows all.
    return plain if _read(plain) == kept else f"postgresql:///?{urlencode(kept, quote_via=quote)}"


def _read(url: str) -> dict[str, object] | None:
    """What libpq makes of it; ``None`` where it cannot read it, or takes a part of a password for something else."""
    import psycopg
    from psycopg.conninfo import conninfo_to_dict

    try:
        read = conninfo_to_dict(url)
    except psycopg.ProgrammingError:
        return None
    # What follows a bare @ or / in a password is taken for host, port and name, which errors of libpq quote.
    there = f"{read.get('host')}{read.get('dbname')}"
    return None if "@" in there or not re.fullmatch(r"[\d,]*", str(read.get("port", ""))) else dict(read)


def _path_of(url: str) -> Path:
    text = url.removeprefix(_SQLITE)
    path = unquote(text)
    if "?" in text or "#" in text or not path or "\0" in path or path == ":memory:":
        raise UnknownDatabase("sqlite:/// is followed by the path of a file only (a ? in it is %3F, a # %23)")
    return Path(path)
