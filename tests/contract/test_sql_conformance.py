"""The contracts of all ports on the stores without AWS."""

from __future__ import annotations

import time
import uuid
from pathlib import Path

import pytest

from turnkeeper.adapters.sql.blobs import Bucket, Folder, Outside, SqlBlobs
from turnkeeper.adapters.sql.database import Database
from turnkeeper.adapters.sql.queue import SqlDeadLetters, SqlQueue
from turnkeeper.adapters.sql.table import SqlTable
from turnkeeper.testing.conformance import (
    BlobsConformance,
    QueueConformance,
    TableQueryConformance,
    TableRaceConformance,
    TableWriteConformance,
)
from turnkeeper.testing.memory_blobs import MemoryBlobs


class TestSqlWrites(TableWriteConformance):
    @pytest.fixture(autouse=True)
    def _table(self, database: Database) -> None:
        self.table = SqlTable(database)


class TestSqlQueries(TableQueryConformance):
    @pytest.fixture(autouse=True)
    def _table(self, database: Database) -> None:
        self.table = SqlTable(database)


class TestSqlRaces(TableRaceConformance):
    @pytest.fixture(autouse=True)
    def _table(self, database: Database) -> None:
        self.table = SqlTable(database)


class TestSqlQueue(QueueConformance):
    wait_seconds = 0

    @pytest.fixture(autouse=True)
    def _queue(self, database: Database) -> None:
        name = uuid.uuid4().hex
        letters = SqlDeadLetters(database, name)
        self.queue = SqlQueue(database, name)
        self.sleep = time.sleep

        def redrive() -> int:
            with letters.held() as held:
                return sum(letters.give_back(letter) is None for letter in held)

        def dead_letters() -> list[tuple[str, str | None]]:
            with letters.held() as held:
                return [(letter.body, letter.error_code) for letter in held]

        self.redrive, self.dead_letters = redrive, dead_letters


class TestSqlBlobs(BlobsConformance):
    @pytest.fixture(autouse=True, params=["inside", "folder", "bucket"])
    def _blobs(self, database: Database, tmp_path: Path, request: pytest.FixtureRequest) -> None:
        places: dict[str, Outside] = {"folder": Folder(tmp_path / "blobs"), "bucket": Bucket(MemoryBlobs())}
        self.blobs = SqlBlobs(database, places.get(request.param), most_bytes=1_000)
