"""The feed of a table in a database: its changes in their order, and the end of what has had its time."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psycopg
import pytest
from pydantic import SecretStr

from functions.observe.records import changed
from server.feeds import _Expired
from tests.support import postgresql as servers
from tests.support.feeds import Record, follow, names, shown
from turnkeeper.adapters.sql import feed, schema
from turnkeeper.adapters.sql.database import Database
from turnkeeper.adapters.sql.feed import Follower
from turnkeeper.adapters.sql.looking import holdings
from turnkeeper.adapters.sql.queue import KEPT_SECONDS, SqlDeadLetters, SqlQueue
from turnkeeper.adapters.sql.table import SqlTable
from turnkeeper.adapters.table_values import item_from_wire
from turnkeeper.settings import Settings
from turnkeeper.table import Check, Cond, ConditionFailed, Key, Put, Update
from turnkeeper.testing.clock import ManualClock
from turnkeeper.wiring.sql import SqlPlatform


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
