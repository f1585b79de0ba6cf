"""Queues in a database: visibility, receive counts, delays and dead letters as SQS has them."""

from __future__ import annotations

import contextlib
import logging
import secrets
from collections.abc import Iterator
from datetime import UTC, datetime

from turnkeeper.adapters.sql.database import Database, Row, Statements, outages
from turnkeeper.core.dead_letters import DeadLetter
from turnkeeper.core.errors import InputTooLarge
from turnkeeper.ports import Message

_logger = logging.getLogger(__name__)

MAX_MESSAGE_BYTES = 1024 * 1024
MAX_A_RECEIVE = 10
_LONGEST_WAIT_SECONDS = 20
#: How often a receive looks again by itself, where no bell can be heard from the sender's process.
_LOOK_SECONDS = 0.5
_DETAIL_CHARACTERS = 1024
#: As long as on SQS a message waits at most, from when it was sent or set aside.
KEPT_SECONDS = 14 * 86_400
#: Where something has waited for so long, what comes new stands behind it.
PATIENCE_SECONDS = 60
_ROWS_A_DELETE = 100
#: No clock that is right has sent something this much later than now.
_AHEAD_SECONDS = 60
_TAKEN = "id, body, receives, group_id, turn"
_FIRST_SECONDS, _LONGEST_SECONDS = 30, 3_600


class SqlQueue:
    """A :class:`turnkeeper.ports.Queue` by the name ``name``, in one table with others. What was received ``receives``
    times goes to its dead letters instead of being received once more.

    Fair among groups: each message gets a turn when it is sent, the one after its group's last, but never one that is
    over. So a group with a long backlog stands behind itself, and one that comes new does not wait for it. Nor does it
    wait for ever, where others come new all the time: nobody gets a turn before what has waited longest, and a minute.
    """

    def __init__(self, database: Database, name: str = "jobs", *, receives: int = 3) -> None:
        self._database = database
        self._name = name
        self._dead = dead_queue(name)
        self._receives = receives

    def send(self, body: str, *, group: str, delay_seconds: int = 0) -> None:
        """Raises InputTooLarge over 1 MiB."""
        content = body.encode()
        if len(content) > MAX_MESSAGE_BYTES:
            raise InputTooLarge("A job is at most 1 MiB.", limit_bytes=MAX_MESSAGE_BYTES)
        row = (self._name, group.encode(), content, delay_seconds)
        with outages():
            self._database.write(lambda statements, _: _send(statements, self._database, *row))
        self._database.bell.ring()

    def receive(self, *, most: int, wait_seconds: int, visibility_seconds: int) -> list[Message]:
        until = self._database.clock.monotonic() + min(wait_seconds, _LONGEST_WAIT_SECONDS)
        while True:
            rung = self._database.bell.rung
            with outages():
                messages = self._take(min(most, MAX_A_RECEIVE), visibility_seconds)
            left = until - self._database.clock.monotonic()
            if messages or left <= 0:
                return messages
            self._database.bell.wait(rung, min(_LOOK_SECONDS, left))

    def extend(self, message: Message, visibility_seconds: int) -> None:
        self._put_off(message.receipt, visibility_seconds)

    def put_off(self, receipt: str, receives: int) -> None:
        """See :meth:`turnkeeper.runtime.tracing.TraceQueue.put_off`."""
        seconds = min(_FIRST_SECONDS * 2 ** max(receives - 1, 0), _LONGEST_SECONDS)
        self._put_off(receipt, seconds)

    def delete(self, message: Message) -> None:
        sql = "DELETE FROM turnkeeper_messages WHERE id = ? AND receipt = ? AND queue = ?"
        with outages():
            self._database.write(lambda statements, _: statements.many(sql, [(*_held(message.receipt), self._name)]))

    def reject(self, message: Message, *, error_code: str, detail: str) -> None:
        """See :meth:`turnkeeper.ports.Queue.reject`: moved in one transaction."""
        now = self._database.now
        sql = (
            f"UPDATE turnkeeper_messages SET queue = ?, error_code = ?, detail = ?, "
            f"sent_at = {now}, visible_at = {now} "
            "WHERE id = ? AND receipt = ? AND queue = ?"
        )
        reason = (error_code, detail[:_DETAIL_CHARACTERS].encode(errors="replace"))
        row = (self._dead, *reason, *_held(message.receipt), self._name)
        with outages():
            self._database.write(lambda statements, _: statements.many(sql, [row]))

    def backlog(self) -> int:
        waiting, in_flight = self._counts()
        return waiting + in_flight

    def _counts(self) -> tuple[int, int]:
        """Messages that can be received now, and that are in somebody's hand."""
        now = self._database.now
        sql = (
            f"SELECT count(CASE WHEN visible_at <= {now} THEN 1 END), "
            f"count(CASE WHEN visible_at > {now} AND receives > 0 THEN 1 END) FROM turnkeeper_messages WHERE queue = ?"
        )
        with outages():
            [(waiting, in_flight)] = self._database.read(lambda statements: statements.rows(sql, self._name))
        return waiting, in_flight

    def _take(self, most: int, visibility_seconds: int) -> list[Message]:
        database, now = self._database, self._database.now
        # Without a transaction that writes: most looks find nothing.
        there = f"SELECT 1 FROM turnkeeper_messages WHERE queue = ? AND visible_at <= {now} LIMIT 1"
        if not database.read(lambda statements: statements.rows(there, self._name)):
            return []
        token = secrets.token_bytes(16)
        died = (
            f"UPDATE turnkeeper_messages SET queue = ?, sent_at = {now} WHERE id IN (SELECT id "
            f"FROM turnkeeper_messages WHERE queue = ? AND visible_at <= {now} AND receives >= ? "
            f"ORDER BY turn, id LIMIT 100 {database.skip_locked})"
        )
        taken = (
            f"UPDATE turnkeeper_messages SET visible_at = {now} + ?, receives = receives + 1, receipt = ? "
            f"WHERE id IN (SELECT id FROM turnkeeper_messages WHERE queue = ? AND visible_at <= {now} AND receives < ? "
            f"ORDER BY turn, id LIMIT ? {database.skip_locked}) RETURNING {_TAKEN}"
        )

        def work(statements: Statements, lost: bool) -> list[Row]:
            if lost and (mine := statements.rows(f"SELECT {_TAKEN} FROM turnkeeper_messages WHERE receipt = ?", token)):
                return mine
            statements.many(died, [(self._dead, self._name, self._receives)])
            values = (visibility_seconds, token, self._name, self._receives, most)
            return statements.rows(taken, *values)

        rows = sorted(database.write(work), key=lambda row: (row[4], row[0]))
        return [
            Message(str(id), f"{id}-{token.hex()}", bytes(body).decode(), receives, bytes(group).decode())
            for id, body, receives, group, _ in rows
        ]

    def _put_off(self, receipt: str, seconds: int) -> None:
        now = self._database.now
        sql = (
            f"UPDATE turnkeeper_messages SET visible_at = {now} + ? "
            f"WHERE id = ? AND receipt = ? AND queue = ? AND visible_at > {now}"
        )
        row = (seconds, *_held(receipt), self._name)
        with outages():
            self._database.write(lambda statements, _: statements.many(sql, [row]))
        if seconds == 0:
            self._database.bell.ring()


class SqlWords(SqlQueue):
    """A :class:`turnkeeper.ports.Words`, which whoever delivers receives from."""

    def tell(self, body: str, *, group: str, delay_seconds: int = 0) -> None:
        self.send(body, group=group, delay_seconds=delay_seconds)


class SqlDeadLetters:
    """A :class:`turnkeeper.wiring.platform.DeadLetters` of the queue of this name. Looking hides nothing."""

    def __init__(self, database: Database, name: str = "jobs") -> None:
        self._database = database
        self._name = name
        self._queue = SqlQueue(database, name)

    @contextlib.contextmanager
    def held(self) -> Iterator[Iterator[DeadLetter]]:
        yield self._read()

    def give_back(self, letter: DeadLetter) -> None:
        # A new message, as it would be on SQS: with its own turn, and as if it had never been received.
        row = (self._name, (letter.group or "").encode(), letter.body.encode(), 0)

        def work(statements: Statements, _lost: bool) -> None:
            if statements.rows(_DISCARD, int(letter.message_id), dead_queue(self._name)):
                _send(statements, self._database, *row)

        with outages():
            self._database.write(work)
        self._database.bell.ring()

    def discard(self, letter: DeadLetter) -> None:
        row = (int(letter.message_id), dead_queue(self._name))
        with outages():
            self._database.write(lambda statements, _: statements.rows(_DISCARD, *row))

    def depths(self) -> dict[str, int]:
        waiting, in_flight = self._queue._counts()
        dead, _ = SqlQueue(self._database, dead_queue(self._name))._counts()
        return {"queue": waiting, "in_flight": in_flight, "dead_letters": dead}

    def _read(self) -> Iterator[DeadLetter]:
        sql = (
            "SELECT id, body, group_id, error_code, detail, sent_at, receives FROM turnkeeper_messages "
            f"WHERE queue = ? AND id > ? AND sent_at <= ? ORDER BY id LIMIT {MAX_A_RECEIVE}"
        )
        name, last = dead_queue(self._name), 0
        with outages():
            [(began,)] = self._database.read(lambda statements: statements.rows(f"SELECT {self._database.now}"))
        while True:
            with outages():
                rows = self._database.read(lambda statements, last=last: statements.rows(sql, name, last, began))  # type: ignore[misc]
            if not rows:
                return
            yield from map(_letter, rows)
            last = rows[-1][0]


_DISCARD = "DELETE FROM turnkeeper_messages WHERE id = ? AND queue = ? RETURNING id"


def mend_times(database: Database) -> None:
    """What was sent by a clock that has been set back since can be received now: it would wait until that time comes,
    and so would whoever looks for a dead letter. One that is in somebody's hand comes twice at most."""
    now = database.now
    sql = f"UPDATE turnkeeper_messages SET sent_at = {now}, visible_at = {now} WHERE sent_at > {now} + ?"
    with outages():
        database.write(lambda statements, _: statements.many(sql, [(_AHEAD_SECONDS,)]))


def expire(database: Database) -> int:
    """Take away messages and dead letters that nobody wanted for so long; how many, at most some at a time."""
    old = f"SELECT id FROM turnkeeper_messages WHERE sent_at < {database.now} - ? ORDER BY id LIMIT {_ROWS_A_DELETE}"
    sql = f"DELETE FROM turnkeeper_messages WHERE id IN ({old} {database.skip_locked}) RETURNING id"
    with outages():
        gone = database.write(lambda statements, _: statements.rows(sql, KEPT_SECONDS))
    if gone:
        _logger.warning("%d messages and dead letters were kept for 14 days, and are gone", len(gone))
    return len(gone)


def dead_queue(name: str) -> str:
    return f"{name}.dead"


def _send(
    statements: Statements, database: Database, queue: str, group: bytes, body: bytes, delay_seconds: int
) -> None:
    now = database.now
    waiting = f"FROM turnkeeper_messages WHERE queue = ? AND visible_at <= {now}"
    # A group is forgotten with its last message: one that sends whenever it was served is new each time. The turn that
    # it gets would never be over, and who waits for the next one would starve.
    longest = f"SELECT turn {waiting} - {PATIENCE_SECONDS} ORDER BY visible_at LIMIT 1"
    # Two that are sent at once may get the same turn: which is first then is chance, as it is on SQS.
    statements.many(
        "INSERT INTO turnkeeper_messages (queue, group_id, body, turn, sent_at, visible_at) "
        "SELECT ?, ?, ?, CASE WHEN own > waiting THEN own ELSE waiting END, "
        f"{now}, {now} + ? FROM (SELECT "
        "coalesce((SELECT max(turn) + 1 FROM turnkeeper_messages WHERE queue = ? AND group_id = ?), 0) AS own, "
        f"coalesce(({longest}), (SELECT min(turn) {waiting}), 0) AS waiting) AS turns",
        [(queue, group, body, delay_seconds, queue, group, queue, queue)],
    )


def _held(receipt: str) -> tuple[int, bytes]:
    """The message that a receipt is for, and what tells it from those of other receives."""
    id, _, token = receipt.partition("-")
    return int(id), bytes.fromhex(token)


def _letter(row: Row) -> DeadLetter:
    id, body, group, error_code, detail, sent_at, receives = row
    return DeadLetter(
        message_id=str(id),
        receipt=str(id),
        body=bytes(body).decode(),
        group=bytes(group).decode() or None,
        error_code=error_code,
        detail=bytes(detail).decode() if detail is not None else None,
        sent_at=datetime.fromtimestamp(sent_at, UTC),
        receives=receives,
    )
