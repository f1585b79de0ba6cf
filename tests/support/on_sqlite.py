"""``pytest -p tests.support.on_sqlite tests/contract/api``: what the API promises, of kits whose table is SQLite's."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from functools import cached_property
from pathlib import Path
from typing import Any

import pytest

from tests.support.kit import MemoryKit
from turnkeeper.adapters.sql import schema
from turnkeeper.adapters.sql.sqlite import SqliteDatabase
from turnkeeper.adapters.sql.table import SqlTable


class SqliteTable(SqlTable):
    def __init__(self, path: Path) -> None:
        database = SqliteDatabase(path)
        schema.migrate(database)
        super().__init__(database)
        self._path = path

    def snapshot(self) -> list[Any]:
        """All items, by key: for tests to look at."""
        with closing(sqlite3.connect(self._path)) as connection:
            return connection.execute("SELECT * FROM turnkeeper_items ORDER BY pk, sk").fetchall()


@pytest.fixture(autouse=True, scope="session")
def tables_in_files(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Each kit has a file of its own."""
    table = cached_property(lambda _kit: SqliteTable(tmp_path_factory.mktemp("kit") / "store.db"))
    table.__set_name__(MemoryKit, "table")
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(MemoryKit, "table", table)
        yield
