from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from turnkeeper.adapters.aws import Aws
from turnkeeper.adapters.dynamodb import DynamoTable
from turnkeeper.adapters.sql import schema
from turnkeeper.adapters.sql.database import Database
from turnkeeper.adapters.sql.opening import database_of
from turnkeeper.table import Table
from turnkeeper.testing.schema import create_table


@pytest.fixture(scope="module")
def emulated_table(emulator: str) -> Table:
    """A table of this module's own, on the emulator."""
    aws = Aws(region="eu-west-1", endpoint_url=emulator, max_pool_connections=16, table_timeout_seconds=30)
    name = f"contract-{uuid.uuid4().hex}"
    create_table(aws.dynamodb, name)
    return DynamoTable(aws.table_requests, name)


@pytest.fixture(scope="module")
def new_database(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[[str], Database]]:
    """Makes databases of a kind, with their tables."""
    made: list[Database] = []

    def make(kind: str) -> Database:
        if kind == "postgresql":
            url = request.getfixturevalue("postgresql").database()
        else:
            url = f"sqlite:///{tmp_path_factory.mktemp('sqlite') / 'store.db'}"
        made.append(database_of(url))
        schema.migrate(made[-1])
        return made[-1]

    yield make
    for database in made:
        database.close()


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest, new_database: Callable[[str], Database]) -> Database:
    """A database of this module's own, of each kind."""
    return new_database(request.param)


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The address of a database without tables."""
    if request.param == "postgresql":
        made: str = request.getfixturevalue("postgresql").database()
        return made
    return f"sqlite:///{tmp_path / 'store.db'}"


@pytest.fixture
def opened() -> Iterator[Callable[[str], Database]]:
    databases: list[Database] = []

    def open_(url: str) -> Database:
        databases.append(database_of(url, 6))
        return databases[-1]

    yield open_
    for database in databases:
        database.close()


@pytest.fixture
def fresh(url: str, opened: Callable[[str], Database]) -> Database:
    database = opened(url)
    schema.migrate(database)
    return database
