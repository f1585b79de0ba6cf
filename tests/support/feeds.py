"""Following what a database tells of its changes, until nothing more is there."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from server.feeds import _Expired
from turnkeeper.adapters.sql.feed import Follower

Record = dict[str, Any]


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


def follow(feed: _Expired) -> int:
    taken = 0
    while found := feed.round(lambda *_: {}):
        taken += found
    return taken
