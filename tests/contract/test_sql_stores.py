"""What the stores in a database promise beside the ports: changes in their order, fair queues, an end of time, a schema
that comes of itself, and roles that may no more than they need."""

from __future__ import annotations

import os
import random
import re
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import SecretStr

from functions.observe.records import changed
from server.feeds import _Expired, _Queued
from tests.support import postgresql as servers
from tests.support.installation import environment_here
from tests.support.repository import REPOSITORY
from turnkeeper.adapters.sql import feed, schema
from turnkeeper.adapters.sql.blobs import Folder, SqlBlobs
from turnkeeper.adapters.sql.database import Database, UnsuitableDatabase, refusals
from turnkeeper.adapters.sql.feed import Follower
from turnkeeper.adapters.sql.looking import holdings
from turnkeeper.adapters.sql.opening import UnknownDatabase, database_of
from turnkeeper.adapters.sql.queue import KEPT_SECONDS, PATIENCE_SECONDS, SqlDeadLetters, SqlQueue
from turnkeeper.adapters.sql.sqlite import SqliteDatabase
from turnkeeper.adapters.sql.table import SqlTable
from turnkeeper.adapters.table_values import item_from_wire
from turnkeeper.core.errors import Unavailable
from turnkeeper.settings import Settings
from turnkeeper.table import Check, Cond, ConditionFailed, Key, Put, StoreBusy, Update
from turnkeeper.testing.clock import ManualClock
from turnkeeper.wiring.sql import SqlPlatform

Record = dict[str, Any]


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


def shown(follower: Follower, give_back: Callable[[Record], bool] = lambda _: False) -> list[Record]:
    """All that is there to be shown now, as often as it was; ``give_back`` refuses."""
    seen: list[Record] = []

    def handler(event: Record, _context: Any) -> Record:
        for record in event["Records"]:
            seen.append(record)
            if give_back(record):
                return {"batchItemFailures": [{"itemIdentifier": record["dynamodb"]["SequenceNumber"]}]}
        return {"batchItemFailures": []}

    while follower.round(handler):
        pass
    return seen


def names(records: list[Record]) -> list[str]:
    return [record["dynamodb"]["Keys"]["sk"]["S"] for record in records]


# ---- the table's changes ----


def test_changes_are_shown_as_a_stream_shows_them(fresh: Database) -> None:
    table, follower = SqlTable(fresh), Follower(fresh, "observe")
    key = Key("T#acme#S#ses_1", "HEAD")
    table.write([Put(key, {"n": 1, "b": b"\x00\xff"}), Check(Key("other", "x"), (Cond("pk", "absent"),))])
    table.update(Update(key, add={"n": 1}))
    table.write([Put(key, {"n": 2, "b": b"\x00\xff"})])
    with pytest.raises(ConditionFailed):
        table.write([Put(key, {}, (Cond("n", "=", 7),))])
    first, second = shown(follower)
    assert (first["eventName"], second["eventName"]) == ("INSERT", "MODIFY")
    assert "OldImage" not in first["dynamodb"]
    assert second["dynamodb"]["OldImage"] == first["dynamodb"]["NewImage"]
    seen = changed(second)
    assert seen is not None
    assert (seen.tenant_id, seen.session_id, seen.new["n"], seen.new["b"]) == ("acme", "ses_1", 2, b"\x00\xff")
    assert first["dynamodb"]["SequenceNumber"] < second["dynamodb"]["SequenceNumber"]
    assert shown(follower) == []
    assert names(shown(Follower(fresh, "score"))) == ["HEAD", "HEAD"], "each follows for itself"


def test_what_is_given_back_comes_again_with_all_behind_it(fresh: Database) -> None:
    table, follower = SqlTable(fresh), Follower(fresh, "observe")
    for n in range(5):
        table.write([Put(Key("p", str(n)), {})])
    refused = []

    def once(record: Record) -> bool:
        if record["dynamodb"]["Keys"]["sk"]["S"] == "2" and not refused:
            refused.append(record)
            return True
        return False

    assert names(shown(follower, once)) == ["0", "1", "2", "2", "3", "4"]
    assert follower.behind_seconds() == 0
    table.write([Put(Key("p", "5"), {})])
    assert names(shown(follower, lambda _: True)) == ["5"]
    fresh.write(lambda statements, _: statements.many("UPDATE turnkeeper_feed SET at = at - ?", [(100,)]))
    assert 100 <= follower.behind_seconds() < 1_000
    assert names(shown(Follower(fresh, "observe"))) == ["5"]


def test_a_follower_among_writers_misses_nothing_and_sees_each_item_in_its_order(fresh: Database) -> None:
    table, follower = SqlTable(fresh), Follower(fresh, "observe")
    seen: list[Record] = []
    over = threading.Event()

    def follow() -> None:
        while not over.is_set():
            seen.extend(shown(follower))

    def write(thread: int) -> None:
        dice = random.Random(thread)
        for _ in range(40):
            keys = dice.sample(range(6), 2)
            table.write([Update(Key("p", str(n)), add={"n": 1}) for n in keys])

    following = threading.Thread(target=follow)
    following.start()
    with ThreadPoolExecutor(6) as pool:
        list(pool.map(write, range(6)))
    over.set()
    following.join()
    seen.extend(shown(follower))
    assert len(seen) == 6 * 40 * 2
    for n in range(6):
        values = [
            item_from_wire(record["dynamodb"]["NewImage"])["n"]
            for record in seen
            if record["dynamodb"]["Keys"]["sk"]["S"] == str(n)
        ]
        assert values == list(range(1, len(values) + 1))


def test_a_change_is_not_passed_over_while_an_earlier_one_is_under_way(
    postgresql: servers.Server, opened: Callable[[str], Database]
) -> None:
    """A transaction that began first and ends last: what ends before it waits for it."""
    url = postgresql.database()
    database = opened(url)
    schema.migrate(database)
    table, follower = SqlTable(database), Follower(database, "observe")
    with psycopg.connect(url) as slow:
        slow.execute(
            "INSERT INTO turnkeeper_feed (transaction_number, at, token, changes) "
            "VALUES (pg_current_xact_id()::text::bigint, 0, 'slow', "
            """'[{"old": null, "new": {"pk": {"S": "p"}, "sk": {"S": "slow"}}}]')"""
        )
        table.write([Put(Key("p", "quick"), {})])
        assert shown(follower) == []
        slow.commit()
    assert names(shown(follower)) == ["slow", "quick"]


def test_who_stood_still_and_wakes_takes_nobody_back(fresh: Database) -> None:
    """It lost its lease within a batch, and another one has gone on."""
    table = SqlTable(fresh)
    for n in range(150):
        table.write([Put(Key("p", f"{n:03}"), {})])
    by_another: list[Record] = []

    def frozen(_event: Record, _context: Any) -> None:
        by_another.extend(shown(Follower(fresh, "observe")))

    assert Follower(fresh, "observe").round(frozen) == 100
    assert len(by_another) == 150
    assert shown(Follower(fresh, "observe")) == []
    table.write([Put(Key("p", "new"), {})])
    assert names(shown(Follower(fresh, "observe"))) == ["new"]


def test_what_was_read_by_all_is_pruned_and_what_nobody_reads_in_a_day(fresh: Database) -> None:
    table = SqlTable(fresh)
    for n in range(3):
        table.write([Put(Key("p", str(n)), {})])
    quick, slow = Follower(fresh, "quick"), Follower(fresh, "slow")
    assert len(shown(quick)) == 3
    assert names(shown(slow, lambda record: names([record]) == ["1"])) == ["0", "1", "1"]

    def age(seconds: int) -> None:
        fresh.write(lambda statements, _: statements.many("UPDATE turnkeeper_feed SET at = at - ?", [(seconds,)]))

    assert feed.prune(fresh) == 0, "a lost answer may still be asked for"
    age(feed.KEPT_SECONDS + 1)
    assert feed.prune(fresh) == 1
    assert names(shown(slow, lambda _: True)) == ["1"]
    age(feed.LONGEST_SECONDS)
    assert feed.prune(fresh) == 2
    assert shown(slow) == []


def test_a_time_that_is_over_takes_the_item_away(fresh: Database) -> None:
    table, follower = SqlTable(fresh), Follower(fresh, "observe")
    now = int(time.time())
    for name, until in (("over", now - 5), ("not yet", now + 500), ("never", 10**37), ("odd", "soon")):
        table.write([Put(Key("p", name), {"expires_at_epoch": until})])
    table.write([Put(Key("p", "longer"), {"expires_at_epoch": now - 5})])
    table.update(Update(Key("p", "longer"), set={"expires_at_epoch": now + 500}))
    shown(follower)
    assert table.expire() == 1
    assert table.expire() == 0
    assert [item["sk"] for item in table.query_all("p")] == ["longer", "never", "not yet", "odd"]
    [gone] = shown(follower)
    assert (gone["eventName"], names([gone])) == ("REMOVE", ["over"])
    assert "NewImage" not in gone["dynamodb"]
    assert changed(gone) is None


def test_the_chores_take_away_all_that_has_had_its_time(url: str) -> None:
    """What AWS does by itself: items, changes that all have read, messages, dead letters."""
    clock = ManualClock()
    platform = SqlPlatform(Settings(database_url=SecretStr(url), database_migrate=True), lambda: clock)
    database, now = platform.database, int(time.time())
    for n in range(250):
        platform.table.write([Put(Key("p", f"{n:03}"), {"expires_at_epoch": now - 5 if n else now + 500})])
    for queue in (platform.queue, platform.words, SqlQueue(database, "jobs.dead")):
        queue.send("old", group="g")
    for table, column in (("feed", "at"), ("messages", "sent_at")):
        sql = f"UPDATE turnkeeper_{table} SET {column} = {column} - ?"
        database.write(lambda statements, _, sql=sql: statements.many(sql, [(KEPT_SECONDS + 1,)]))  # type: ignore[misc]
    platform.queue.send("new", group="g")
    expired = _Expired(platform, clock)
    assert follow(expired) == 250 + 249 + 3
    left = holdings(database)
    assert (left["items"], left["messages"]) == (1, {"jobs": 1})
    platform.table.write([Put(Key("p", "later"), {"expires_at_epoch": now - 5})])
    assert follow(expired) == 0
    clock.sleep(60)
    assert follow(expired) == 1
    database.close()


def test_what_was_taken_away_is_gone_from_the_files_of_sqlite_too(tmp_path: Path) -> None:
    """From its pages and its log, by value: items, blobs, messages and the changes that told of them."""
    clock, word = ManualClock(), "quixotic-marmot-0001"
    url = SecretStr(f"sqlite:///{tmp_path / 'store.db'}")
    platform = SqlPlatform(Settings(database_url=url, database_migrate=True), lambda: clock)
    database, expired = platform.database, _Expired(platform, clock)

    def found() -> bool:
        return any(word.encode() in file.read_bytes() for file in tmp_path.iterdir())

    for n in range(20):
        text = word + "x" * 700 * n
        platform.table.write([Put(Key("p", f"{n}"), {"text": text})])
        platform.blobs.put(f"claims/p/{n}", text.encode())
        platform.queue.send(text, group="g")
        [message] = platform.queue.receive(most=1, wait_seconds=0, visibility_seconds=60)
        platform.queue.delete(message)
    for n in range(20):
        platform.table.update(Update(Key("p", f"{n}"), remove=("text",)))
    platform.blobs.delete_prefix("claims/p/")
    assert word not in str(platform.table.query_all("p")) and found()
    back = "UPDATE turnkeeper_feed SET at = at - ?"
    database.write(lambda statements, _: statements.many(back, [(feed.LONGEST_SECONDS + 1,)]))
    assert follow(expired) == 40
    assert not found()
    platform.table.write([Put(Key("p", "later"), {"text": word})])
    platform.table.update(Update(Key("p", "later"), remove=("text",)))
    database.write(lambda statements, _: statements.many(back, [(feed.LONGEST_SECONDS + 1,)]))
    clock.sleep(60)
    assert follow(expired) == 2 and found()
    clock.sleep(600)
    assert follow(expired) == 0 and not found()
    database.close()


def test_what_a_clock_sent_that_was_set_back_since_does_not_wait_for_its_time(url: str) -> None:
    platform = SqlPlatform(Settings(database_url=SecretStr(url), database_migrate=True), ManualClock)
    database, queue = platform.database, SqlQueue(platform.database)
    for body in ("job", "held", "dead"):
        queue.send(body, group="g")
    dead, held = queue.receive(most=2, wait_seconds=0, visibility_seconds=60)
    queue.reject(dead, error_code="not_json", detail="it is none")
    ahead = "UPDATE turnkeeper_messages SET sent_at = sent_at + ?, visible_at = visible_at + ?"
    database.write(lambda statements, _: statements.many(ahead, [(5 * 3600, 5 * 3600)]))
    queue.send("new", group="g")
    feed = _Expired(platform, ManualClock())
    assert follow(feed) == 0
    found = {message.body for message in queue.receive(most=10, wait_seconds=0, visibility_seconds=60)}
    assert found == {"job", "held", "dead", "new"} - {dead.body}
    with SqlDeadLetters(database).held() as letters:
        assert [letter.body for letter in letters] == [dead.body]
    queue.delete(held)
    assert queue.backlog() == 3, "who held it has it no more"
    database.close()


def follow(feed: _Expired) -> int:
    taken = 0
    while found := feed.round(lambda *_: {}):
        taken += found
    return taken


# ---- the queue ----


def test_a_long_backlog_of_one_group_does_not_hold_up_another(fresh: Database) -> None:
    queue = SqlQueue(fresh)
    for n in range(50):
        queue.send(f"noisy {n}", group="noisy")

    def take(most: int) -> list[str]:
        return [message.body for message in queue.receive(most=most, wait_seconds=0, visibility_seconds=60)]

    assert take(5) == [f"noisy {n}" for n in range(5)]
    queue.send("quiet 0", group="quiet")
    queue.send("quiet 1", group="quiet")
    assert take(2) == ["noisy 5", "quiet 0"]
    assert take(2) == ["noisy 6", "quiet 1"]
    queue.send("quiet 2", group="quiet")
    assert take(3) == ["noisy 7", "quiet 2", "noisy 8"]


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(sends=st.lists(st.sampled_from("abc"), min_size=1, max_size=25), taken=st.integers(0, 6))
def test_no_group_waits_for_more_than_one_message_of_each_other_group(
    fresh: Database, sends: list[str], taken: int
) -> None:
    """Whatever was sent before: of two groups that wait, each is served once before any is served again."""
    queue = SqlQueue(fresh, uuid.uuid4().hex)
    for number, group in enumerate(sends):
        queue.send(f"{group}{number}", group=group)
    if taken:
        queue.receive(most=taken, wait_seconds=0, visibility_seconds=60)
    queue.send("new", group="d")
    order = []
    while found := queue.receive(most=1, wait_seconds=0, visibility_seconds=60):
        order.append(found[0].group)
    assert order.index("d") <= 3
    assert len(order) == max(len(sends) - taken, 0) + 1


def test_no_group_waits_for_ever_for_those_who_send_whenever_they_were_served(fresh: Database) -> None:
    """They are new each time, and somebody of the earlier turn is always there."""
    queue = SqlQueue(fresh)
    for group in "aaabcd":
        queue.send("", group=group)
    served = ""
    for _ in range(20):
        # As if each took half of what one has patience for.
        sql = "UPDATE turnkeeper_messages SET visible_at = visible_at - ?"
        fresh.write(lambda statements, _, sql=sql: statements.many(sql, [(PATIENCE_SECONDS / 2,)]))  # type: ignore[misc]
        [message] = queue.receive(most=1, wait_seconds=0, visibility_seconds=600)
        served += message.group
        queue.delete(message)
        if message.group != "a":
            queue.send("", group=message.group)
    assert served.count("a") == 3, served
    assert len(served[: served.rindex("a")]) <= 12


def test_only_the_latest_receipt_counts(fresh: Database) -> None:
    queue = SqlQueue(fresh)
    queue.send("a", group="g")
    [first] = queue.receive(most=1, wait_seconds=0, visibility_seconds=0)
    [second] = queue.receive(most=1, wait_seconds=0, visibility_seconds=60)
    queue.delete(first)
    queue.reject(first, error_code="late", detail="")
    queue.extend(first, 0)
    assert queue.receive(most=1, wait_seconds=0, visibility_seconds=60) == []
    assert SqlDeadLetters(fresh).depths() == {"queue": 0, "in_flight": 1, "dead_letters": 0}
    queue.reject(second, error_code="bad", detail="\x00 \ud800 " + "x" * 5000)
    with SqlDeadLetters(fresh).held() as held:
        [letter] = held
    assert (letter.body, letter.group, letter.error_code, letter.receives) == ("a", "g", "bad", 2)
    assert letter.detail is not None
    assert len(letter.detail) <= 1024
    SqlDeadLetters(fresh).discard(letter)
    assert SqlDeadLetters(fresh).depths() == {"queue": 0, "in_flight": 0, "dead_letters": 0}


def test_what_is_put_off_comes_back_the_later_the_more_often_it_came(fresh: Database) -> None:
    queue = SqlQueue(fresh, "traces")
    queue.send("a", group="g")
    [message] = queue.receive(most=1, wait_seconds=0, visibility_seconds=60)
    waits = []
    for receives in (1, 2, 3, 20):
        queue.put_off(message.receipt, receives)
        sql = f"SELECT visible_at - {fresh.now} FROM turnkeeper_messages WHERE queue = 'traces'"
        [(seconds,)] = fresh.read(lambda statements, sql=sql: statements.rows(sql))  # type: ignore[misc]
        waits.append(round(seconds, -1))
    assert waits == [30, 60, 120, 3600]


def test_a_bell_is_heard_in_another_process(postgresql: servers.Server, opened: Callable[[str], Database]) -> None:
    url = postgresql.database()
    one, other = opened(url), opened(url)
    heard = threading.Event()

    def listen() -> None:
        assert other.bell.wait(0, 60)
        heard.set()

    listening = threading.Thread(target=listen)
    listening.start()
    # Nobody hears what rang before they listened.
    while not heard.wait(0.1):
        one.bell.ring()
    listening.join()


def test_word_for_one_who_takes_long_holds_up_none_that_came_with_it(fresh: Database) -> None:
    queue, all_are_told = SqlQueue(fresh, "words"), threading.Barrier(3)

    def tell(event: Record, _context: Any) -> Record:
        [record] = event["Records"]
        all_are_told.wait(30)
        return {"batchItemFailures": [{"itemIdentifier": record["messageId"]}] if record["body"] == "1" else []}

    for n in range(3):
        queue.send(str(n), group="g")
    assert _Queued(queue, apart=True).round(tell) == 2
    assert queue.backlog() == 1


# ---- contents ----


def test_large_contents_are_outside_and_small_ones_are_not(fresh: Database, tmp_path: Path) -> None:
    folder = tmp_path / "blobs"
    blobs = SqlBlobs(fresh, Folder(folder), most_bytes=10)
    blobs.put("t/a/small", b"x" * 10)
    blobs.put("t/a/large", b"x" * 11)
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert [path.read_bytes() for path in files] == [b"x" * 11]
    assert files[0].stat().st_mode & 0o077 == 0
    assert SqlBlobs(fresh).get("t/a/small") == b"x" * 10
    with pytest.raises(Unavailable):
        SqlBlobs(fresh).get("t/a/large")
    with pytest.raises(Unavailable):
        SqlBlobs(fresh).delete_prefix("t/a/")
    assert blobs.delete_prefix("t/a/") == 2
    assert [path for path in folder.rglob("*") if path.is_file()] == []


def test_a_content_outside_is_on_the_disk_with_its_name_before_the_database_names_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a power failure leaves a session whose words are missing."""
    synced: list[int] = []
    sync = os.fsync

    def fsync(opened: int) -> None:
        synced.append(os.fstat(opened).st_ino)
        sync(opened)

    monkeypatch.setattr(os, "fsync", fsync)
    Folder(tmp_path / "blobs").put("t/a/large", b"x")
    [file] = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert synced == [path.stat().st_ino for path in (file.parent.parent, file, file.parent)]


# ---- the schema ----


def test_many_make_the_tables_at_once_and_one_does(url: str, opened: Callable[[str], Database]) -> None:
    databases = [opened(url) for _ in range(4)]
    with pytest.raises(UnsuitableDatabase, match="turnkeeper database migrate"):
        schema.check(databases[0])
    with ThreadPoolExecutor(4) as pool:
        made = list(pool.map(schema.migrate, databases))
    assert sorted(made) == [[], [], [], [*schema.steps(databases[0].kind)]]
    schema.check(databases[0])
    assert holdings(databases[1]) == {"items": 0, "feed": 0, "blobs": 0, "messages": {}, "behind_seconds": {}}


def test_both_kinds_have_the_same_tables() -> None:
    """Column by column: what is written once for both finds the same."""
    kinds = [schema.steps(kind) for kind in ("sqlite", "postgresql")]
    assert kinds[0].keys() == kinds[1].keys()
    for number in kinds[0]:
        shapes = [re.findall(r"(?:CREATE TABLE|CREATE INDEX|^    )\s*(\w+)", kind[number], re.M) for kind in kinds]
        assert shapes[0] == shapes[1]
        assert len(shapes[0]) > 30


def test_a_database_of_another_encoding_is_refused(
    postgresql: servers.Server, opened: Callable[[str], Database]
) -> None:
    name = f"latin_{uuid.uuid4().hex}"
    with psycopg.connect(postgresql.url(), autocommit=True) as connection:
        connection.execute(
            f"CREATE DATABASE {name} ENCODING 'LATIN1' LOCALE 'C' LOCALE_PROVIDER libc TEMPLATE template0"  # type: ignore[call-overload]
        )
    with pytest.raises(UnsuitableDatabase, match="UTF8"):
        schema.migrate(opened(postgresql.url(name)))


def test_a_server_that_takes_no_writes_is_told_with_what_to_do(
    postgresql: servers.Server, opened: Callable[[str], Database]
) -> None:
    url = postgresql.database()
    schema.migrate(opened(url))
    standby = database_of(f"{url}&options=-cdefault_transaction_read_only%3Don", busy_seconds=0.2)
    assert schema.version(standby) == schema.needed_version(standby)
    with pytest.raises(StoreBusy, match=r"takes no writes .*target_session_attrs=read-write"):
        SqlTable(standby).write([Put(Key("p", "a"), {})])
    standby.close()


@pytest.mark.parametrize("module", ["turnkeeper.adapters.sql", "server"])
def test_a_migration_that_is_let_in_nowhere_says_why(postgresql: servers.Server, module: str) -> None:
    """A role or a database that there is not is no database that is busy."""
    command = [sys.executable, "-m", module, *["migrate"] * (module == "server")]
    environment = environment_here(TURNKEEPER_DATABASE_URL=postgresql.url("nowhere"))
    ended = subprocess.run(command, env=environment, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert ended.returncode == 1
    assert 'database "nowhere" does not exist' in ended.stderr.splitlines()[-1]
    assert "Traceback" not in ended.stderr


def test_a_backup_from_a_server_that_was_further_on_goes_on(
    postgresql: servers.Server, opened: Callable[[str], Database]
) -> None:
    database = opened(postgresql.database())
    schema.migrate(database)
    table, follower = SqlTable(database), Follower(database, "observe")
    table.write([Put(Key("p", "before"), {})])
    assert names(shown(follower)) == ["before"]
    for name in ("feed", "followers"):
        sql = f"UPDATE turnkeeper_{name} SET transaction_number = transaction_number + 1000000"
        database.write(lambda statements, _, sql=sql: statements.many(sql, [()]))  # type: ignore[misc]
    table.write([Put(Key("p", "after"), {})])
    assert shown(follower) == []
    assert schema.migrate(database) == []
    assert names(shown(follower)) == ["before", "after"]


def test_the_roles_of_the_documentation_are_enough_and_no_more(
    postgresql: servers.Server, opened: Callable[[str], Database]
) -> None:
    page = (REPOSITORY / "docs" / "databases.md").read_text()
    [grants] = re.findall(r"```sql\n(-- roles.*?)```", page, re.S)
    owner_url = postgresql.database()
    database = opened(owner_url)
    schema.migrate(database)
    with psycopg.connect(owner_url, autocommit=True) as connection:
        existing = connection.execute("SELECT 1 FROM pg_roles WHERE rolname = 'turnkeeper_app'").fetchone()
        assert existing is None, "one server, one test"
        connection.execute(grants)
    try:
        app = opened(owner_url.replace("postgres@", "turnkeeper_app@"))
        chores_url = owner_url.replace("postgres@", "turnkeeper_chores@")
        chores = opened(chores_url)
        table, queue, blobs = SqlTable(app), SqlQueue(app), SqlBlobs(app)
        schema.check(app)
        table.write([Put(Key("p", "a"), {"expires_at_epoch": 1})])
        queue.send("x", group="g")
        [message] = queue.receive(most=1, wait_seconds=0, visibility_seconds=60)
        queue.delete(message)
        blobs.put("k/1", b"x")
        assert blobs.delete_prefix("k/") == 1
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            table.expire()
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            feed.prune(app)
        for forbidden in ("DROP TABLE turnkeeper_items", "CREATE TABLE mine (a int)"):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                app.write(lambda statements, _, sql=forbidden: statements.many(sql, [()]))  # type: ignore[misc]
        assert names(shown(Follower(chores, "observe"))) == ["a"]
        served = SqlPlatform(Settings(database_url=SecretStr(chores_url), database_migrate=True), ManualClock)
        assert follow(_Expired(served, ManualClock())) == 1
        served.opened.close()
        assert feed.prune(chores) == 0
    finally:
        with psycopg.connect(owner_url, autocommit=True) as connection:
            for role in ("turnkeeper_app", "turnkeeper_chores"):
                connection.execute(f"DROP OWNED BY {role}")  # type: ignore[call-overload]
                connection.execute(f"DROP ROLE {role}")  # type: ignore[call-overload]


# ---- addresses, and a database that is not there ----


def test_addresses() -> None:
    paths = {}
    for url in ("sqlite:///here.db", "sqlite:////tmp/there.db", "sqlite:///a%20b.db"):
        database = database_of(url)
        assert isinstance(database, SqliteDatabase)
        paths[url] = str(database.path)
    assert list(paths.values()) == ["here.db", "/tmp/there.db", "a b.db"]
    for url in ("", "mysql://a:secret@b/c", "sqlite://host/file", "sqlite:///", "a file"):
        with pytest.raises(UnknownDatabase) as refused:
            database_of(url)
        assert "secret" not in str(refused.value)


def test_a_file_is_its_owners_alone(tmp_path: Path) -> None:
    database = database_of(f"sqlite:///{tmp_path / 'new' / 'store.db'}")
    schema.migrate(database)
    files = list((tmp_path / "new").iterdir())
    assert files
    assert all(file.stat().st_mode & 0o077 == 0 for file in files)
    database.close()


@pytest.mark.parametrize("what", ["a folder", "a file", "its folder"])
def test_a_file_that_cannot_be_used_is_named_with_why(tmp_path: Path, what: str) -> None:
    """SQLite says of each that it is unable to open it, as of one that is busy."""
    place = tmp_path / "kept"
    database = database_of(f"sqlite:///{place / 'store.db'}", busy_seconds=0.2)
    if what == "a folder":
        (place / "store.db").mkdir(parents=True)
    elif os.geteuid() == 0:
        pytest.skip("root may write anywhere")
    else:
        database.make()
        (place / "store.db" if what == "a file" else place).chmod(0o500)
    told = r"store\.db is no file|cannot be (written to|used)"
    with pytest.raises((StoreBusy, UnsuitableDatabase), match=told), refusals(database):
        schema.migrate(database)
    place.chmod(0o700)


def test_a_database_out_of_reach_is_busy_and_its_password_is_said_to_nobody(caplog: pytest.LogCaptureFixture) -> None:
    database = database_of("postgresql://app:a-password@127.0.0.1:1/kit?connect_timeout=1", busy_seconds=0.2)
    with pytest.raises(StoreBusy) as failed:
        SqlTable(database).get(Key("a", "b"))
    with pytest.raises(Unavailable) as silent:
        SqlQueue(database).backlog()
    assert "a-password" not in f"{failed.value}{silent.value}{caplog.text}"
    database.close()
