"""The table's changes, in order, for those who follow: what a DynamoDB stream is elsewhere."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from turnkeeper.adapters.sql.database import Database, Row, Statements, outages

#: A write whose answer was lost is known by its row for at least as long.
KEPT_SECONDS = 600
#: Whatever nobody has read by then is gone, as it is with a stream.
LONGEST_SECONDS = 24 * 3600
_WRITES_A_BATCH = 100
#: A batch ends with the write that goes over it.
_CHARACTERS_A_BATCH = 4_000_000
_ROWS_A_DELETE = 1000
#: What is written by others is looked for as often, where their bell cannot be heard.
_LOOK_SECONDS = 0.25

Handler = Callable[[dict[str, Any], Any], Mapping[str, Any] | None]


class Follower:
    """Reads the feed from where this name stopped, and shows it to handlers as Lambda shows them a stream: batches of
    records of the shape of DynamoDB's, each at least once, the changes of one item in their order. What a handler gives
    back (``batchItemFailures``) is shown again, with all behind it.

    A name that is new begins with the oldest change that is kept. One process at a time may follow by a name; one that
    stood still and wakes shows its batch a second time, and takes nobody back.
    """

    def __init__(self, database: Database, name: str) -> None:
        self._database = database
        self._name = name

    def round(self, handler: Handler, context: Any = None) -> int:
        """Show the handler one batch, where there is anything; how many records it took.

        Raises:
            Unavailable: the database was busy; nothing is lost.
        """
        writes = [(row, list(_records(row))) for row in self._rows()]
        records = [record for _, of_write in writes for record in of_write]
        if not records:
            return 0
        answer = handler({"Records": records}, context) or {}
        first = min((failed["itemIdentifier"] for failed in answer.get("batchItemFailures", [])), default=None)
        taken = [row for row, of_write in writes if first is None or _sequence(of_write[-1]) < first]
        if taken:
            self._acknowledge(taken[-1])
        return sum(first is None or _sequence(record) < first for record in records)

    def wait(self, rung: int, seconds: float) -> None:
        """Until something may have been written; ``rung`` is what :attr:`Database.bell` had rung before one looked."""
        self._database.bell.wait(rung, min(seconds, _LOOK_SECONDS))

    def behind_seconds(self) -> float:
        """How old the oldest change is that was not taken yet; 0 where there is none."""
        sql = (
            f"SELECT {self._database.now} - min(at) FROM turnkeeper_feed WHERE (transaction_number, position) > ({_AT})"
        )
        with outages():
            [(seconds,)] = self._database.read(lambda statements: statements.rows(sql, self._name, self._name))
        return max(float(seconds or 0), 0.0)

    def _rows(self) -> list[Row]:
        # Below the number of every transaction that is still under way: a later look would pass over what they wrote.
        next_writes = (
            "SELECT transaction_number, position, changes, at FROM turnkeeper_feed "
            f"WHERE (transaction_number, position) > ({_AT}) AND transaction_number < {self._database.settled_number} "
            f"ORDER BY transaction_number, position LIMIT {_WRITES_A_BATCH}"
        )
        until = "SUM(LENGTH(changes)) OVER (ORDER BY transaction_number, position) - LENGTH(changes)"
        sql = (
            f"SELECT transaction_number, position, changes, at FROM (SELECT writes.*, {until} AS size_before "
            f"FROM ({next_writes}) AS writes) AS sized WHERE size_before < {_CHARACTERS_A_BATCH} "
            "ORDER BY transaction_number, position"
        )
        with outages():
            return self._database.read(lambda statements: statements.rows(sql, self._name, self._name))

    def _acknowledge(self, row: Row) -> None:
        sql = (
            "INSERT INTO turnkeeper_followers (name, transaction_number, position, at) "
            f"VALUES (?, ?, ?, {self._database.now}) ON CONFLICT (name) DO UPDATE SET "
            "transaction_number = excluded.transaction_number, position = excluded.position, at = excluded.at "
            "WHERE (excluded.transaction_number, excluded.position) > (turnkeeper_followers.transaction_number, "
            "turnkeeper_followers.position)"
        )
        with outages():
            self._database.write(lambda statements, _: statements.many(sql, [(self._name, row[0], row[1])]))


_AT = (
    "coalesce((SELECT transaction_number FROM turnkeeper_followers WHERE name = ?), -1), "
    "coalesce((SELECT position FROM turnkeeper_followers WHERE name = ?), -1)"
)


def prune(database: Database) -> int:
    """Take away what all followers have read, and what is older than a day; how many writes. At most some at a time:
    call it again while it took any."""
    old = (
        f"SELECT position FROM turnkeeper_feed AS old WHERE at < {database.now} - ? AND (at < {database.now} - ? OR "
        "(EXISTS (SELECT 1 FROM turnkeeper_followers) AND NOT EXISTS (SELECT 1 FROM turnkeeper_followers AS f "
        "WHERE (f.transaction_number, f.position) < (old.transaction_number, old.position)))) "
        f"ORDER BY at LIMIT {_ROWS_A_DELETE}"
    )
    sql = f"DELETE FROM turnkeeper_feed WHERE position IN ({old}) RETURNING position"

    def work(statements: Statements, _lost: bool) -> int:
        return len(statements.rows(sql, KEPT_SECONDS, LONGEST_SECONDS))

    with outages():
        return database.write(work)


# ---- records ----


def _number(row: Row, change: int) -> str:
    """Sorts as the changes come."""
    return f"{row[0]:020}{row[1]:020}{change:03}"


def _sequence(record: Mapping[str, Any]) -> str:
    number: str = record["dynamodb"]["SequenceNumber"]
    return number


def _records(row: Row) -> Iterator[dict[str, Any]]:
    for number, change in enumerate(json.loads(row[2])):
        old, new = change["old"], change["new"]
        name = "INSERT" if old is None else "REMOVE" if new is None else "MODIFY"
        place = new or old
        images = {"OldImage": old, "NewImage": new}
        sequence = _number(row, number)
        yield {
            "eventID": sequence,
            "eventName": name,
            "eventSource": "aws:dynamodb",
            "dynamodb": {
                "ApproximateCreationDateTime": row[3],
                "Keys": {"pk": place["pk"], "sk": place["sk"]},
                "SequenceNumber": sequence,
                "StreamViewType": "NEW_AND_OLD_IMAGES",
                **{image: item for image, item in images.items() if item is not None},
            },
        }
