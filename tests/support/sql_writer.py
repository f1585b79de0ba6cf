"""A process that writes a database until it is killed: ``python -m tests.support.sql_writer URL NAME``.

Each write adds to a counter that all processes share, and puts an item of its own; what was answered stands on the
output, a line each. Now and then it sends a message, puts a content, and takes a message and leaves it.
"""

from __future__ import annotations

import sys

from turnkeeper.adapters.sql.blobs import SqlBlobs
from turnkeeper.adapters.sql.opening import database_of
from turnkeeper.adapters.sql.queue import SqlQueue
from turnkeeper.adapters.sql.table import SqlTable
from turnkeeper.core.errors import Unavailable
from turnkeeper.table import ABSENT, Key, Put, StoreBusy, Update

COUNTER = Key("counter", "COUNTER")
LOG = "log"


def main(url: str, name: str) -> None:
    database = database_of(url, 2, busy_seconds=30)
    table, queue, blobs = SqlTable(database), SqlQueue(database), SqlBlobs(database)
    for number in range(1_000_000):
        mine = f"{name}-{number:06}"
        try:
            table.write([Update(COUNTER, add={"n": 1}), Put(Key(LOG, mine), {"x": "x" * 3_000}, (ABSENT,))])
            if number % 5 == 0:
                queue.send(mine, group=name)
                blobs.put(f"{name}/{number}", mine.encode() * 1_000)
                queue.receive(most=1, wait_seconds=0, visibility_seconds=1)
        except (StoreBusy, Unavailable):
            continue
        print(mine, flush=True)  # noqa: T201 - this is its answer


if __name__ == "__main__":
    main(*sys.argv[1:])
