"""What a database holds, for the person who looks after it."""

from __future__ import annotations

from typing import Any

from turnkeeper.adapters.sql.database import Database, outages
from turnkeeper.adapters.sql.feed import Follower


def holdings(database: Database) -> dict[str, Any]:
    """Numbers of rows by table, messages by queue, and by follower the age of the oldest change that it has not taken.
    Counts every row: not for a look each minute."""
    count = "SELECT (SELECT count(*) FROM turnkeeper_items), (SELECT count(*) FROM turnkeeper_feed), "
    count += "(SELECT count(*) FROM turnkeeper_blobs)"
    with outages():
        [numbers] = database.read(lambda statements: statements.rows(count))
        found: dict[str, Any] = dict(zip(("items", "feed", "blobs"), numbers, strict=True))
        by_queue = "SELECT queue, count(*) FROM turnkeeper_messages GROUP BY queue ORDER BY queue"
        found["messages"] = dict(database.read(lambda statements: statements.rows(by_queue)))
        names = database.read(lambda statements: statements.rows("SELECT name FROM turnkeeper_followers ORDER BY name"))
    found["behind_seconds"] = {name: round(Follower(database, name).behind_seconds(), 1) for (name,) in names}
    return found
