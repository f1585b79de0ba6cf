"""Large contents in a database, the largest outside of it."""

from __future__ import annotations

import hashlib
import os
import secrets
from contextlib import suppress
from pathlib import Path
from typing import Protocol

from turnkeeper.adapters.sql.database import Database, outages
from turnkeeper.core.errors import Unavailable
from turnkeeper.table import Blobs

_KEYS_A_DELETE = 500


class Outside(Protocol):
    """Where contents are that are too large for the database. All methods raise Unavailable in an outage."""

    def put(self, key: str, data: bytes) -> None: ...

    def get(self, key: str) -> bytes:
        """Raises KeyError."""

    def delete(self, key: str) -> None:
        """What is not there is fine."""


class SqlBlobs:
    """A :class:`turnkeeper.table.Blobs`. What is larger than ``most_bytes`` is kept ``outside``, where there is such a
    place; which keys there are, only the database knows."""

    def __init__(self, database: Database, outside: Outside | None = None, most_bytes: int = 1024 * 1024) -> None:
        self._database = database
        self._outside = outside
        self._most_bytes = most_bytes

    def put(self, key: str, data: bytes) -> None:
        outside = self._outside if len(data) > self._most_bytes else None
        if outside is not None:
            outside.put(key, data)
        row = (key.encode(), len(data), None if outside is not None else bytes(data))
        sql = (
            "INSERT INTO turnkeeper_blobs (key, size, data) VALUES (?, ?, ?) "
            "ON CONFLICT (key) DO UPDATE SET size = excluded.size, data = excluded.data"
        )
        with outages():
            self._database.write(lambda statements, _: statements.many(sql, [row]))

    def get(self, key: str) -> bytes:
        sql = "SELECT data FROM turnkeeper_blobs WHERE key = ?"
        with outages():
            rows = self._database.read(lambda statements: statements.rows(sql, key.encode()))
        if not rows:
            raise KeyError(key)
        if rows[0][0] is not None:
            return bytes(rows[0][0])
        if self._outside is None:
            raise Unavailable(f"{key} is kept outside of the database, and this process was not told where")
        return self._outside.get(key)

    def delete_prefix(self, prefix: str) -> int:
        if not prefix:
            raise ValueError("an empty prefix is the whole store")
        first = prefix.encode()
        # The least key that is above all that begin so: 0xff is no part of any text.
        bounds = (first, first + b"\xff")
        sql = f"SELECT key, data IS NULL FROM turnkeeper_blobs WHERE key >= ? AND key < ? LIMIT {_KEYS_A_DELETE}"
        deleted = 0
        while True:
            with outages():
                rows = self._database.read(lambda statements: statements.rows(sql, *bounds))
            if not rows:
                return deleted
            keys = [bytes(row[0]) for row in rows]
            for key in [key for key, row in zip(keys, rows, strict=True) if row[1]]:
                self._delete_outside(key.decode())
            delete = [(key,) for key in keys]
            with outages():
                self._database.write(
                    lambda statements, _, delete=delete: statements.many(  # type: ignore[misc]
                        "DELETE FROM turnkeeper_blobs WHERE key = ?", delete
                    )
                )
            deleted += len(keys)

    def _delete_outside(self, key: str) -> None:
        if self._outside is None:
            raise Unavailable(f"{key} is kept outside of the database, and this process was not told where")
        self._outside.delete(key)


class Folder:
    """Outside, in a folder that all processes share: files under the hash of their key."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def put(self, key: str, data: bytes) -> None:
        file = self._file(key)
        new = file.with_name(f"{file.name}.{secrets.token_hex(8)}")
        try:
            if not file.parent.is_dir():
                file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                _sync(file.parent.parent)
            with os.fdopen(os.open(new, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "wb") as open_file:
                open_file.write(data)
                open_file.flush()
                os.fsync(open_file.fileno())
            new.replace(file)
            _sync(file.parent)
        except OSError as error:
            with suppress(OSError):
                new.unlink(missing_ok=True)
            raise Unavailable(f"the folder of large contents: {error.strerror}") from error

    def get(self, key: str) -> bytes:
        try:
            return self._file(key).read_bytes()
        except FileNotFoundError:
            raise KeyError(key) from None
        except OSError as error:
            raise Unavailable(f"the folder of large contents: {error.strerror}") from error

    def delete(self, key: str) -> None:
        try:
            self._file(key).unlink(missing_ok=True)
        except OSError as error:
            raise Unavailable(f"the folder of large contents: {error.strerror}") from error

    def _file(self, key: str) -> Path:
        name = hashlib.sha256(key.encode()).hexdigest()
        return self._path / name[:2] / name


def _sync(folder: Path) -> None:
    """What the disk has of a file is found again after a power failure once it has the file's name, too."""
    opened = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)


class Bucket:
    """Outside, in a bucket."""

    def __init__(self, blobs: Blobs) -> None:
        self._blobs = blobs

    def put(self, key: str, data: bytes) -> None:
        self._blobs.put(key, data)

    def get(self, key: str) -> bytes:
        return self._blobs.get(key)

    def delete(self, key: str) -> None:
        # Keys end in a hash of their content: no other one begins like this.
        self._blobs.delete_prefix(key)
