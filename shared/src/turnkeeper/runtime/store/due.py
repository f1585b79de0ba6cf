"""The table's ``due`` index: what somebody has to look after, by the time from which on it is late."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta

from turnkeeper.core.ledger import iso
from turnkeeper.core.lifecycle.running import OFF_SECONDS
from turnkeeper.table import Item, Key, Table

#: Behind every moment.
_EVER = "~"


def by_time(table: Table, place: str, *, since: str = "", until: str = _EVER) -> Iterator[Item]:
    """Items in a partition of the index, by the time that they are there for. Read page by page, as they are asked for;
    the index may lag, so somebody may have looked after some of them by now."""
    cursor: str | None = None
    while True:
        page = table.query(place, index="due", first=since, last=until, limit=100, cursor=cursor)
        yield from table.batch_get([Key(item["pk"], item["sk"]) for item in page.items])
        if (cursor := page.cursor) is None:
            return


def late(table: Table, place: str, now: datetime, *, put_off_seconds: float) -> Iterator[Item]:
    """Those that nobody looked after in time, longest due first; behind them those that are due later than any clock
    puts it off that is right: whoever wrote them may be gone as well.

    Args:
        put_off_seconds: how long after it is written an item there is due.
    """
    yield from by_time(table, place, until=iso(now))
    yield from by_time(table, place, since=iso(far(now, put_off_seconds)))


def far(now: datetime, put_off_seconds: float) -> datetime:
    """From then on, what is put off by so much was written by a clock that is wrong."""
    return now + timedelta(seconds=put_off_seconds + OFF_SECONDS)
