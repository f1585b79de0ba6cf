"""The table on DynamoDB."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from turnkeeper.adapters.dynamodb_errors import FAILURES, trouble_of
from turnkeeper.adapters.dynamodb_expressions import key_condition, key_to_wire, transaction_entry, update_arguments
from turnkeeper.adapters.retries import Pauses
from turnkeeper.adapters.system import SystemClock, SystemIds
from turnkeeper.adapters.table_rules import (
    INDEXES,
    Range,
    all_pages,
    check_key,
    check_operation,
    check_operations,
    cursor_of,
)
from turnkeeper.adapters.table_values import WireItem, item_from_wire
from turnkeeper.core.errors import Unavailable
from turnkeeper.ports import Clock, Ids
from turnkeeper.table import Item, Key, Operation, Page, StoreBusy, Update

if TYPE_CHECKING:
    from turnkeeper.adapters.dynamodb_requests import DynamoRequests

T = TypeVar("T")

#: What a repeat of a request does: nothing, the same once more at most once, or the same again.
Repeat = Literal["read", "once", "again"]

_KEYS_A_BATCH = 100


class DynamoTable:
    """A :class:`turnkeeper.table.Table` on DynamoDB. Safe to share between threads.

    Retries what can be retried for ``busy_seconds``, with full jitter, then raises StoreBusy; Unavailable where an
    answer was lost and nobody can tell whether the write was applied: its client repeats nothing by itself.
    ``on_request`` hears the name of every request that is sent.
    """

    def __init__(
        self,
        client: DynamoRequests,
        name: str,
        *,
        busy_seconds: float = 5.0,
        clock: Clock | None = None,
        ids: Ids | None = None,
        on_request: Callable[[str], None] | None = None,
    ) -> None:
        self._client: Any = client
        self._name = name
        self._busy_seconds = busy_seconds
        self._clock = clock or SystemClock()
        self._ids = ids or SystemIds()
        self._on_request = on_request
        #: It has let this process write.
        self._has_written = False

    def get(self, key: Key) -> Item | None:
        check_key(key)
        answer = self._request("GetItem", "read", TableName=self._name, Key=key_to_wire(key), ConsistentRead=True)
        return item_from_wire(answer["Item"]) if answer.get("Item") else None

    def batch_get(self, keys: Sequence[Key]) -> list[Item]:
        for key in keys:
            check_key(key)
        found: dict[Key, WireItem] = {}
        distinct = list(dict.fromkeys(keys))
        for start in range(0, len(distinct), _KEYS_A_BATCH):
            for item in self._batch([key_to_wire(key) for key in distinct[start : start + _KEYS_A_BATCH]]):
                found[Key(item["pk"]["S"], item["sk"]["S"])] = item
        return [item_from_wire(found[key]) for key in keys if key in found]

    def _batch(self, wanted: list[WireItem]) -> Iterator[WireItem]:
        pauses = self._pauses()
        while wanted:
            request = {self._name: {"Keys": wanted, "ConsistentRead": True}}
            answer = self._request("BatchGetItem", "read", RequestItems=request)
            items = answer.get("Responses", {}).get(self._name, [])
            yield from items
            wanted = answer.get("UnprocessedKeys", {}).get(self._name, {}).get("Keys", [])
            if items:
                pauses = self._pauses()
            elif wanted:
                pauses.pause(StoreBusy("the table answered none of the keys of a batch"))

    def query(
        self,
        pk: str,
        *,
        first: str = "",
        last: str = "\uffff",
        index: str | None = None,
        limit: int | None = None,
        descending: bool = False,
        cursor: str | None = None,
    ) -> Page:
        bounds = Range.of(pk, first=first, last=last, index=index, limit=limit, cursor=cursor)
        if bounds.empty:
            return Page([])
        arguments: dict[str, Any] = {"TableName": self._name, "ScanIndexForward": not descending}
        # An index cannot be read consistently; DynamoDB refuses to be asked.
        arguments |= {"IndexName": index} if index else {"ConsistentRead": True}
        if limit is not None:
            arguments["Limit"] = limit
        if bounds.start:
            arguments["ExclusiveStartKey"] = {name: {"S": value} for name, value in bounds.start.items()}
        answer = self._request("Query", "read", **arguments, **key_condition(bounds))
        place = answer.get("LastEvaluatedKey")
        return Page(
            [item_from_wire(item) for item in answer["Items"]],
            cursor_of(item_from_wire(place)) if place else None,
        )

    def query_all(self, pk: str, *, first: str = "", last: str = "\uffff") -> list[Item]:
        return all_pages(self, pk, first=first, last=last)

    def partitions(self, index: str) -> Iterator[str]:
        name = INDEXES[index][0]
        start: dict[str, Any] = {}
        last: str | None = None
        while True:
            answer = self._request("Scan", "read", TableName=self._name, IndexName=index, **start)
            for item in answer["Items"]:
                # What is in one partition comes in one go.
                if item[name]["S"] != last:
                    last = item[name]["S"]
                    yield last
            if not (place := answer.get("LastEvaluatedKey")):
                return
            start = {"ExclusiveStartKey": place}

    def write(self, operations: Sequence[Operation]) -> None:
        """See :meth:`turnkeeper.table.Table.write`.

        Raises:
            Unavailable: answers were lost until time ran out; the write may have been applied.
        """
        check_operations(operations)
        if not operations:
            return
        # One operation also goes as a transaction, which costs twice the write units of a PutItem: only a transaction
        # takes a token. A PutItem whose answer is lost would, sent again, fail on the condition that it made untrue
        # itself, and the caller would take its own success for somebody else's. The token is kept over all attempts:
        # the second one of a write that was applied is answered with success, and nothing is done.
        self._request(
            "TransactWriteItems",
            "once",
            TransactItems=[transaction_entry(operation, self._name) for operation in operations],
            ClientRequestToken=secrets.token_hex(16),
        )

    def update(self, operation: Update) -> Item:
        """See :meth:`turnkeeper.table.Table.update`.

        Raises:
            Unavailable: an answer was lost; the update may have been applied. One that only sets and removes is tried
                again before that, one that adds is not: it would count twice.
        """
        check_operation(operation)
        answer = self._request(
            "UpdateItem",
            "again" if operation.add else "once",
            TableName=self._name,
            ReturnValues="ALL_NEW",
            **update_arguments(operation),
        )
        return item_from_wire(answer["Attributes"])

    # ---- retries ----

    def _request(self, name: str, repeat: Repeat, **arguments: Any) -> Mapping[str, Any]:
        send = getattr(self._client, _METHODS[name])
        pauses = self._pauses()
        lost = False
        while True:
            if self._on_request:
                self._on_request(name)
            try:
                answer: Mapping[str, Any] = send(**arguments)
            except FAILURES as error:
                trouble = trouble_of(error, has_written=self._has_written)
                lost |= trouble == "unknown" and repeat != "read"
                failed: Exception = (
                    Unavailable(f"the table did not answer {name}; it may have been applied", retry_after_seconds=1)
                    if lost
                    else StoreBusy(f"the table was busy for {self._busy_seconds} s: {error}")
                )
                if lost and repeat == "again":
                    raise failed from error
                pauses.pause(failed, error)
            else:
                self._has_written |= repeat != "read"
                return answer

    def _pauses(self) -> Pauses:
        return Pauses(self._clock, self._ids, self._busy_seconds)


_METHODS = {
    "GetItem": "get_item",
    "BatchGetItem": "batch_get_item",
    "Query": "query",
    "Scan": "scan",
    "TransactWriteItems": "transact_write_items",
    "UpdateItem": "update_item",
}
