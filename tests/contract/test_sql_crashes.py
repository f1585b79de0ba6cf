"""Databases whose clients are killed, whose connections are cut, and whose server goes down, in the midst of writes."""

from __future__ import annotations

import errno
import os
import random
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.support import postgresql as servers
from tests.support.repository import REPOSITORY
from tests.support.sql_writer import COUNTER, LOG
from turnkeeper.adapters.sql import postgresql as postgresql_store
from turnkeeper.adapters.sql import schema
from turnkeeper.adapters.sql.blobs import SqlBlobs
from turnkeeper.adapters.sql.database import Database, Lost, UnsuitableDatabase
from turnkeeper.adapters.sql.feed import Follower
from turnkeeper.adapters.sql.opening import database_of
from turnkeeper.adapters.sql.queue import SqlQueue
from turnkeeper.adapters.sql.table import SqlTable, _locked
from turnkeeper.adapters.sql.texts import read
from turnkeeper.adapters.table_values import item_from_wire
from turnkeeper.core.errors import Unavailable
from turnkeeper.table import ABSENT, Check, Cond, ConditionFailed, Item, Key, Put, StoreBusy, Update

pytestmark = pytest.mark.timeout(180)


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The address of a new database, with its tables."""
    made: str = (
        request.getfixturevalue("postgresql").database()
        if request.param == "postgresql"
        else f"sqlite:///{tmp_path / 'store.db'}"
    )
    schema.migrate(database_of(made))
    return made


@pytest.fixture
def own(url: str) -> Iterator[Database]:
    database = database_of(url, busy_seconds=30)
    yield database
    database.close()


def everything(database: Database) -> dict[tuple[str, str], Item]:
    rows = database.read(lambda statements: statements.rows("SELECT item FROM turnkeeper_items"))
    items = [item_from_wire(read(row[0])) for row in rows]
    return {(item["pk"], item["sk"]): item for item in items}


def replayed(database: Database) -> dict[tuple[str, str], Item]:
    """The table as its changes tell it; each begins where the one before it of the same item ended."""
    told: dict[tuple[str, str], Item] = {}

    def see(event: dict[str, Any], _context: Any) -> None:
        for record in event["Records"]:
            images = record["dynamodb"]
            old, new = images.get("OldImage"), images["NewImage"]
            item = item_from_wire(new)
            key = item["pk"], item["sk"]
            assert told.get(key) == (item_from_wire(old) if old else None)
            told[key] = item

    while Follower(database, "replay").round(see):
        pass
    return told


def test_processes_are_killed_in_the_midst_of_writes(url: str, own: Database) -> None:
    """What was answered is there, what was not is there whole or not at all, and nobody is left waiting."""
    command = [sys.executable, "-m", "tests.support.sql_writer", url]
    dice, answered = random.Random(7), set[str]()
    for generation in range(4):
        writers = [
            subprocess.Popen([*command, f"w{generation}{n}"], cwd=REPOSITORY, stdout=subprocess.PIPE, text=True)
            for n in range(3)
        ]
        for writer in writers:
            assert writer.stdout is not None
            answered.add(writer.stdout.readline().strip())
        time.sleep(dice.uniform(0.1, 0.6))
        for writer in writers:
            writer.send_signal(signal.SIGKILL)
            answered |= {line.strip() for line in writer.communicate()[0].splitlines() if line.endswith("\n") or line}

    table = SqlTable(own)
    table.write([Update(COUNTER, add={"n": 0}, set={"after": True})])
    items = everything(own)
    logged = {sk for pk, sk in items if pk == LOG}
    # The last line of each may have been cut off.
    whole = {name for name in answered if len(name) == len("w00-000000")}
    assert len(whole) > 20
    assert whole <= logged
    assert items[COUNTER.pk, COUNTER.sk]["n"] == len(logged)
    assert replayed(own) == items
    _queue_is_whole(own, {name for name in whole if int(name[-6:]) % 5 == 0})


def _queue_is_whole(database: Database, sent: set[str]) -> None:
    """Each message that was sent can be received once what the dead held is given up, or is a dead letter."""
    rows = database.read(lambda statements: statements.rows("SELECT body FROM turnkeeper_messages"))
    assert sent <= {bytes(row[0]).decode() for row in rows}
    blobs = SqlBlobs(database)
    for name in sent:
        assert blobs.get(f"{name[:3]}/{int(name[-6:])}").startswith(name.encode())
    time.sleep(1.1)
    assert SqlQueue(database).receive(most=10, wait_seconds=0, visibility_seconds=30)


def count_to(table: SqlTable, threads: int, each: int) -> list[str]:
    """Add to the counter and put an item of one's own, from several threads; what was answered."""

    def work(thread: int) -> list[str]:
        done = []
        for number in range(each):
            name = f"{thread}-{number}"
            table.write([Update(COUNTER, add={"n": 1}), Put(Key(LOG, name), {}, (ABSENT,))])
            done.append(name)
        return done

    with ThreadPoolExecutor(threads) as pool:
        return [name for done in pool.map(work, range(threads)) for name in done]


@contextmanager
def losing(database: Database, left: list[int]) -> Iterator[None]:
    """Answers to commits are lost, as often as ``left`` says."""
    real: Callable[..., AbstractContextManager[Any]] = database.transaction

    @contextmanager
    def transaction(*, write: bool) -> Iterator[Any]:
        with real(write=write) as statements:
            yield statements
        if write and left[0]:
            left[0] -= 1
            raise Lost("the answer")

    database.transaction = transaction  # type: ignore[method-assign]
    yield
    database.transaction = real  # type: ignore[method-assign]


def test_a_lost_answer_is_not_a_failed_condition_and_counts_once(own: Database) -> None:
    table, left = SqlTable(own), [0]
    counter, lock = Key("p", "COUNTER"), Key("p", "LOCK")
    table.write([Put(counter, {"n": 0})])
    with losing(own, left):
        left[0] = 2
        table.write([Update(counter, add={"n": 1}, conditions=(Cond("n", "=", 0),)), Put(lock, {}, (ABSENT,))])
        assert left[0] == 0
        left[0] = 1
        table.write([Put(Key("p", "ALONE"), {}, (ABSENT,))])
        left[0] = 1
        assert table.update(Update(counter, set={"x": 1}))["x"] == 1
        left[0] = 1
        with pytest.raises(Unavailable):
            table.update(Update(counter, add={"n": 1}))
    assert [item["sk"] for item in table.query_all("p")] == ["ALONE", "COUNTER", "LOCK"]
    assert table.get(counter) == {"pk": "p", "sk": "COUNTER", "n": 2, "x": 1}


def test_a_disk_that_fails_at_the_commit_and_behind_it_does_nothing_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the rollback says must not hide that the commit may stand in the log."""
    failing = ["ROLLBACK", "COMMIT"]

    class FailingDisk(sqlite3.Connection):
        def execute(self, sql: str, *values: Any) -> sqlite3.Cursor:
            answer = super().execute(sql, *values)
            if failing and sql == failing[-1]:
                if failing.pop() == "COMMIT":
                    super().execute("BEGIN")
                error = sqlite3.OperationalError("disk I/O error")
                error.sqlite_errorcode = sqlite3.SQLITE_IOERR
                raise error
            return answer

    made = database_of(f"sqlite:///{tmp_path / 'store.db'}")
    schema.migrate(made)
    SqlTable(made).write([Put(Key("p", "COUNTER"), {"n": 0})])
    made.close()
    real = sqlite3.connect
    monkeypatch.setattr(sqlite3, "connect", lambda *a, **k: real(*a, **k, factory=FailingDisk))
    table = SqlTable(made)
    table.write([Update(Key("p", "COUNTER"), add={"n": 1}), Put(Key("p", "LOCK"), {}, (ABSENT,))])
    assert failing == []
    assert [item.get("n") for item in table.query_all("p")] == [1, None]
    made.close()


def test_a_file_that_may_not_be_written_for_a_while_is_busy_for_as_long(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk that is mounted anew, a folder whose owner was mistaken: a paid answer is written once that is over. Who
    comes to it first is told at once."""
    refusals, real, real_stat = [0, 0], sqlite3.connect, Path.stat

    class ReadOnly(sqlite3.Connection):
        def execute(self, sql: str, *values: Any) -> sqlite3.Cursor:
            if sql.startswith("BEGIN") and refusals[0]:
                refusals[0] -= 1
                error = sqlite3.OperationalError("attempt to write a readonly database")
                error.sqlite_errorcode = sqlite3.SQLITE_READONLY
                raise error
            return super().execute(sql, *values)

    def stat(path: Path, **more: Any) -> os.stat_result:
        if path.name == "store.db" and refusals[1]:
            refusals[1] -= 1
            raise PermissionError(errno.EACCES, "Permission denied")
        return real_stat(path, **more)

    monkeypatch.setattr(sqlite3, "connect", lambda *a, **k: real(*a, **k, factory=ReadOnly))
    monkeypatch.setattr(Path, "stat", stat)
    url = f"sqlite:///{tmp_path / 'store.db'}"
    made = database_of(url)
    schema.migrate(made)
    for kind in (0, 1):
        refusals[kind] = 3
        SqlTable(made).write([Update(COUNTER, add={"n": 1})])
        assert refusals == [0, 0]
        refusals[kind] = 1
        with pytest.raises(UnsuitableDatabase, match=r"store\.db cannot be used"):
            SqlTable(database_of(url)).write([Put(COUNTER, {})])
    assert everything(made)[COUNTER.pk, COUNTER.sk]["n"] == 2
    made.close()


def test_what_was_received_before_an_answer_was_lost_is_not_received_twice(own: Database) -> None:
    queue, left = SqlQueue(own), [2]
    for body in "ab":
        queue.send(body, group="g")
    with losing(own, left):
        [message] = queue.receive(most=1, wait_seconds=0, visibility_seconds=60)
    assert (left, message.body, message.receive_count) == ([0], "a", 1)
    queue.delete(message)
    [other] = queue.receive(most=10, wait_seconds=0, visibility_seconds=60)
    assert (other.body, other.receive_count) == ("b", 1)


@contextmanager
def again_and_again(work: Callable[[], None], pause: Callable[[], float]) -> Iterator[None]:
    ended = threading.Event()

    def run() -> None:
        while not ended.wait(pause()):
            work()

    thread = threading.Thread(target=run)
    thread.start()
    yield
    ended.set()
    thread.join()


def test_connections_are_cut_at_any_moment(postgresql: servers.Server) -> None:
    """A write whose connection is cut is done once all the same, or not at all: each that was answered counts."""
    url = postgresql.database()
    database = database_of(url, 8, busy_seconds=60)
    schema.migrate(database)
    cut: list[int] = []
    dice = random.Random(11)

    with psycopg.connect(postgresql.url(), autocommit=True) as killer:

        def kill() -> None:
            name = url.rpartition("@/")[2].partition("?")[0]
            pids = killer.execute("SELECT pid FROM pg_stat_activity WHERE datname = %s", (name,)).fetchall()
            for (pid,) in dice.sample(pids, min(2, len(pids))):
                killer.execute("SELECT pg_terminate_backend(%s)", (pid,))
                cut.append(pid)

        with again_and_again(kill, lambda: dice.uniform(0.01, 0.05)):
            answered = count_to(SqlTable(database), threads=6, each=60)

    assert len(cut) > 5
    items = everything(database)
    assert {sk for pk, sk in items if pk == LOG} == set(answered)
    assert items[COUNTER.pk, COUNTER.sk]["n"] == len(answered) == 360
    assert replayed(database) == items
    database.close()


def test_the_server_crashes_and_comes_back() -> None:
    with servers.needed_server() as server:
        database = database_of(server.database(), 6, busy_seconds=60)
        schema.migrate(database)
        table = SqlTable(database)
        with ThreadPoolExecutor(1) as pool:
            counting = pool.submit(count_to, table, 4, 150)
            for _ in range(2):
                time.sleep(0.4)
                # As when its machine resets it: nothing is finished, and what was committed is recovered.
                server.stop(signal.SIGQUIT)
                server.start()
            answered = counting.result()
        items = everything(database)
        assert {sk for pk, sk in items if pk == LOG} == set(answered)
        assert items[COUNTER.pk, COUNTER.sk]["n"] == len(answered) == 600
        assert replayed(database) == items
        database.close()


@pytest.mark.long
def test_a_server_that_was_gone_for_long_is_found_as_soon_as_it_is_back() -> None:
    """And not when the next pause is over, which was twice as long each time."""
    with servers.needed_server() as server:
        database = database_of(server.database(), 6, busy_seconds=1)
        schema.migrate(database)
        table, tried = SqlTable(database), 0
        server.stop(signal.SIGQUIT)
        gone = time.monotonic()
        while time.monotonic() < gone + 16:
            with pytest.raises(StoreBusy):
                table.write([Put(COUNTER, {})])
            tried += 1
        assert tried > 3
        server.start()
        back = time.monotonic()
        while True:
            with suppress(StoreBusy):
                table.write([Put(COUNTER, {})])
                break
        assert time.monotonic() - back < 6
        database.close()


def limit(monkeypatch: pytest.MonkeyPatch, long: str, short: str) -> None:
    limits = postgresql_store._LIMITS.replace(f"'{long}'", f"'{short}'")
    assert limits != postgresql_store._LIMITS
    monkeypatch.setattr(postgresql_store, "_LIMITS", limits)


def test_who_holds_an_item_for_too_long_makes_others_busy_and_no_more(
    postgresql: servers.Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    limit(monkeypatch, "3s", "100ms")
    database = database_of(postgresql.database(), 4, busy_seconds=0.3)
    schema.migrate(database)
    table, key = SqlTable(database), Key("p", "held")
    with database.transaction(write=True) as statements:
        _locked(statements, [Update(key, set={"n": 1})])
        with pytest.raises(StoreBusy):
            table.write([Put(key, {"by": "other"})])
        with pytest.raises(StoreBusy):
            table.write([Check(key, (ABSENT,)), Put(Key("p", "free"), {})])
        table.write([Put(Key("p", "free"), {})])
    table.write([Put(key, {"by": "other"})])
    database.close()


def test_a_process_that_stands_still_in_a_write_holds_nobody_up(
    postgresql: servers.Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server ends its transaction; when it goes on, it writes all the same."""
    limit(monkeypatch, "5s", "600ms")
    database = database_of(postgresql.database(), 4, busy_seconds=30)
    schema.migrate(database)
    table, key = SqlTable(database), Key("p", "held")
    attempts: list[float] = []
    standing = threading.Event()

    def stand_still(statements: Any, _lost: bool) -> None:
        _locked(statements, [Update(key, set={"n": 1})])
        attempts.append(time.monotonic())
        if len(attempts) == 1:
            standing.set()
            time.sleep(1.5)
        statements.many("INSERT INTO turnkeeper_followers VALUES ('still', 0, ?, 0)", [(len(attempts),)])

    with ThreadPoolExecutor(1) as pool:
        still = pool.submit(database.write, stand_still)
        assert standing.wait(30)
        table.write([Put(key, {"by": "other"})])
        still.result()
    assert len(attempts) == 2
    rows = database.read(lambda statements: statements.rows("SELECT position FROM turnkeeper_followers"))
    assert rows == [(2,)]
    database.close()


def test_conditions_hold_whatever_isolation_the_server_begins_with(postgresql: servers.Server) -> None:
    url = postgresql.database()
    name = url.rpartition("@/")[2].partition("?")[0]
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(f"ALTER DATABASE {name} SET default_transaction_isolation = 'repeatable read'")
    database = database_of(url, 8, busy_seconds=60)
    schema.migrate(database)
    table = SqlTable(database)
    assert len(count_to(table, threads=6, each=20)) == 120

    def skewed(n: int) -> bool:
        pair = [Key(f"pair {n // 2}", "A"), Key(f"pair {n // 2}", "B")]
        mine, other = pair if n % 2 else reversed(pair)
        try:
            table.write([Put(mine, {}), Check(other, (ABSENT,))])
        except ConditionFailed:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(skewed, range(80))) == 40
    database.close()
