"""Queues in a database: fair between groups, and patient with who takes long."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from server.feeds import _Queued
from tests.support import postgresql as servers
from tests.support.feeds import Record
from turnkeeper.adapters.sql.database import Database
from turnkeeper.adapters.sql.queue import PATIENCE_SECONDS, SqlDeadLetters, SqlQueue


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
