"""How fast the table is on each store: DynamoDB on the emulator, PostgreSQL, SQLite, and in memory as the floor.

The emulator is a program in Python, so its figures say nothing of DynamoDB itself (5 to 10 ms a transaction, as others
measure it); they are what a local kit has. Both databases wait for the disk at each commit.
"""

from __future__ import annotations

import os
import statistics
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path

from benchmarks._results import Results
from tests.support import postgresql
from tests.support.emulator import ministack
from turnkeeper.adapters.aws import Aws
from turnkeeper.adapters.dynamodb import DynamoTable
from turnkeeper.adapters.sql import schema
from turnkeeper.adapters.sql.opening import database_of
from turnkeeper.adapters.sql.table import SqlTable
from turnkeeper.table import ABSENT, Cond, ConditionFailed, Key, Put, Table, Update
from turnkeeper.testing.memory_table import MemoryTable
from turnkeeper.testing.schema import create_table

SECONDS = 3.0
THREADS = 8
#: About the size of a step's entry.
ENTRY = {"text": "x" * 3_000}


def tables() -> Iterator[tuple[str, Callable[[], AbstractContextManager[Table]]]]:
    yield "memory", lambda: nullcontext(MemoryTable())
    yield "sqlite", _sqlite
    if (bin := postgresql.programs()) is not None:
        yield "postgresql", lambda: _postgresql(bin)
    yield "dynamodb (emulator)", _dynamodb


@contextmanager
def _sqlite() -> Iterator[Table]:
    with tempfile.TemporaryDirectory() as folder:
        yield from _database(f"sqlite:///{folder}/store.db")


@contextmanager
def _postgresql(bin: Path) -> Iterator[Table]:
    with postgresql.server(bin, fsync="on", full_page_writes="on") as server:
        yield from _database(server.database())


def _database(url: str) -> Iterator[Table]:
    database = database_of(url, THREADS)
    schema.migrate(database)
    yield SqlTable(database)
    database.close()


@contextmanager
def _dynamodb() -> Iterator[Table]:
    os.environ |= {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test"}
    with ministack() as url:
        aws = Aws(region="eu-west-1", endpoint_url=url, max_pool_connections=THREADS, table_timeout_seconds=30)
        create_table(aws.dynamodb, "bench")
        yield DynamoTable(aws.table_requests, "bench", busy_seconds=30)


def step(table: Table, session: str, number: int, counter: str) -> None:
    """What a step of a turn writes: the head, an entry, and the money on a counter."""
    table.write(
        [
            Update(Key(session, "HEAD"), add={"steps": 1}, set={"at": str(number)}),
            Put(Key(session, f"ENTRY#{number:08}"), ENTRY, (ABSENT,)),
            Update(Key(counter, "MONEY"), add={"reserved": 1}, conditions=(Cond("reserved", "<", 10**12),)),
        ]
    )


def median_millis(work: Callable[[int], object]) -> float:
    times, until, number = [], time.monotonic() + SECONDS, 0
    while time.monotonic() < until:
        began = time.perf_counter()
        work(number)
        times.append(time.perf_counter() - began)
        number += 1
    return statistics.median(times) * 1_000


def a_second(work: Callable[[int, int], object]) -> float:
    def run(thread: int) -> int:
        until, number = time.monotonic() + SECONDS, 0
        while time.monotonic() < until:
            work(thread, number)
            number += 1
        return number

    with ThreadPoolExecutor(THREADS) as pool:
        return sum(pool.map(run, range(THREADS))) / SECONDS


def measure(table: Table) -> dict[tuple[str, str], float]:
    def new() -> str:
        return uuid.uuid4().hex

    reserved = Key(new(), "MONEY")
    table.write([Put(reserved, {"reserved": 0})])
    one, many, shared = new(), [new() for _ in range(THREADS)], [new() for _ in range(THREADS)]
    counters = [new() for _ in range(THREADS)]
    for pk in (one, *counters):
        table.write([Put(Key(pk, "MONEY"), {"reserved": 0})])
    found = {
        ("step", "ms"): median_millis(lambda n: step(table, one, n, one)),
        ("get", "ms"): median_millis(lambda _: table.get(Key(one, "HEAD"))),
        ("50 entries", "ms"): median_millis(lambda _: table.query(one, first="ENTRY#", limit=50)),
        ("own counters", "steps/s"): a_second(lambda thread, n: step(table, many[thread], n, counters[thread])),
        ("one counter", "steps/s"): a_second(lambda thread, n: step(table, shared[thread], n, reserved.pk)),
    }
    try:
        table.write([Put(reserved, {}, (ABSENT,))])
    except ConditionFailed:
        return found
    raise AssertionError("a condition was not held")


def main() -> int:
    with Results("stores") as results:
        for name, opened in tables():
            with opened() as table:
                for (what, unit), value in measure(table).items():
                    results.wall(what, value, unit, of=name)
    return 0


if __name__ == "__main__":
    sys.exit(main())
