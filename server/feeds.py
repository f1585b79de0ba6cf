"""Who follows the changes of a store without AWS: the functions that read the table's stream there, and its queues."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from functions.deliver.handler import handler as deliver
from functions.observe.handler import handler as observe
from functions.score.handler import handler as score
from functions.trace.handler import handler as trace
from server.chores import Follower, Function
from turnkeeper.adapters.sql.feed import prune
from turnkeeper.adapters.sql.queue import SqlQueue
from turnkeeper.bootstrap import Kit
from turnkeeper.wiring.sql import SqlPlatform

#: By the name under which each remembers how far it came.
FUNCTIONS: Mapping[str, Function] = {"observe": observe, "score": score}
_BATCH = 10
#: As long as the trace function may take for a batch, on AWS.
_VISIBLE_SECONDS = 120


def followers_of(kit: Kit) -> Sequence[Follower]:
    """None where the store is AWS's: there Lambdas do it."""
    platform = kit.platform
    if not isinstance(platform, SqlPlatform):
        return []
    followers = [Follower(name, platform.follower(name), function) for name, function in FUNCTIONS.items()]
    followers.append(Follower("prune", _Pruned(platform), _nothing))
    followers.append(Follower("deliver", _Queued(platform.words), deliver))
    if kit.settings.otlp_endpoint is not None:
        followers.append(Follower("trace", _Queued(platform.trace_queue), trace))
    return followers


class _Pruned:
    """A :class:`server.chores.Feed` of what all others have taken: it is taken away."""

    def __init__(self, platform: SqlPlatform) -> None:
        self._platform = platform

    def round(self, _handler: Function) -> int:
        return prune(self._platform.database)


def _nothing(_event: dict[str, Any], _context: Any) -> Mapping[str, Any]:
    return {"batchItemFailures": []}


class _Queued:
    """A :class:`server.chores.Feed` of a queue's messages, as Lambda shows them. What is given back has been put off by
    the function itself."""

    def __init__(self, queue: SqlQueue) -> None:
        self._queue = queue

    def round(self, handler: Function) -> int:
        messages = self._queue.receive(most=_BATCH, wait_seconds=0, visibility_seconds=_VISIBLE_SECONDS)
        if not messages:
            return 0
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
