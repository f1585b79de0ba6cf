"""Who follows the changes of a store without AWS: the functions that read the table's stream there, and its queues."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

from functions.deliver.handler import handler as deliver
from functions.observe.handler import handler as observe
from functions.score.handler import handler as score
from functions.trace.handler import handler as trace
from server.chores import Follower, Function
from turnkeeper.adapters.sql.feed import prune
from turnkeeper.adapters.sql.queue import SqlQueue, expire, mend_times
from turnkeeper.bootstrap import Kit
from turnkeeper.ports import Clock, Message
from turnkeeper.wiring.sql import SqlPlatform

#: By the name under which each remembers how far it came.
FUNCTIONS: Mapping[str, Function] = {"observe": observe, "score": score}
_BATCH = 10
#: How often it is looked for what has had its time.
_EXPIRE_SECONDS = 10.0
#: And how often what is gone is taken out of the database's files.
_TIDY_SECONDS = 600.0
#: As long as the trace function may take for a batch, on AWS.
_VISIBLE_SECONDS = 120


def followers_of(kit: Kit) -> Sequence[Follower]:
    """None where the store is AWS's: there Lambdas do it."""
    platform = kit.platform
    if not isinstance(platform, SqlPlatform):
        return []
    followers = [Follower(name, platform.follower(name), function) for name, function in FUNCTIONS.items()]
    followers.append(
        Follower("expire", _Expired(platform, kit.clock), lambda _event, _context: {"batchItemFailures": []})
    )
    followers.append(Follower("deliver", _Queued(platform.words, apart=True), deliver))
    if kit.settings.otlp_endpoint is not None:
        followers.append(Follower("trace", _Queued(platform.trace_queue), trace))
    return followers


class _Expired:
    """A :class:`server.chores.Feed` of what has had its time, which is taken away: changes that all others have taken,
    items, messages and dead letters, as AWS does it by itself there."""

    def __init__(self, platform: SqlPlatform, clock: Clock) -> None:
        self._platform = platform
        self._clock = clock
        self._next_at = self._tidied_at = -float("inf")
        # One that was ended before may have left something.
        self._is_tidy = False

    def round(self, _handler: Function) -> int:
        if self._clock.monotonic() < self._next_at:
            return 0
        database = self._platform.database
        mend_times(database)
        taken = prune(database) + self._platform.table.expire() + expire(database)
        now = self._clock.monotonic()
        if taken:
            self._is_tidy = False
            return taken
        self._next_at = now + _EXPIRE_SECONDS
        if not self._is_tidy and now - self._tidied_at >= _TIDY_SECONDS:
            self._is_tidy, self._tidied_at = database.tidy(), now
        return 0


class _Queued:
    """A :class:`server.chores.Feed` of a queue's messages, as Lambda shows them. What is given back has been put off by
    the function itself. ``apart``: each is shown alone, beside the others, so that one that takes long holds up none
    that came with it."""

    def __init__(self, queue: SqlQueue, *, apart: bool = False) -> None:
        self._queue = queue
        self._apart = apart

    def round(self, handler: Function) -> int:
        messages = self._queue.receive(most=_BATCH, wait_seconds=0, visibility_seconds=_VISIBLE_SECONDS)
        if not messages:
            return 0
        if not self._apart:
            return self._show(messages, handler)
        with ThreadPoolExecutor(len(messages), "apart") as pool:
            return sum(pool.map(lambda message: self._show([message], handler), messages))

    def _show(self, messages: Sequence[Message], handler: Function) -> int:
        records = [
            {
                "messageId": message.message_id,
                "receiptHandle": message.receipt,
                "body": message.body,
                "attributes": {"ApproximateReceiveCount": str(message.receive_count)},
            }
            for message in messages
        ]
        answer = handler({"Records": records}, None)
        failed = {failure["itemIdentifier"] for failure in answer["batchItemFailures"]}
        taken = [message for message in messages if message.message_id not in failed]
        for message in taken:
            self._queue.delete(message)
        return len(taken)
