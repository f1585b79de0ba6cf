"""A table that fails when it is told to: crashes, lost answers, contention."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

from turnkeeper.table import Item, Key, Operation, Page, Table, Update

T = TypeVar("T")


class Crash(BaseException):
    """The process dies here. Not an Exception, so that nothing which handles errors can survive it."""


@dataclass(frozen=True, slots=True)
class Call:
    """One call of the table: the port's method and its argument (key, keys, partition, operations or update)."""

    method: Literal["get", "batch_get", "query", "query_all", "partitions", "write", "update"]
    argument: Any

    @property
    def writes(self) -> bool:
        return self.method in {"write", "update"}


#: May raise. Before: nothing was written, so Crash, StoreBusy or ConditionFailed are honest. After: it was written and
#: the answer is lost, so Crash or Unavailable are.
Fault = Callable[[Literal["before", "after"], Call], None]


class FaultyTable:
    """Asks ``fault`` before and after each call of another table."""

    def __init__(self, table: Table, fault: Fault) -> None:
        self.table = table
        self.fault = fault

    def get(self, key: Key) -> Item | None:
        return self._around(Call("get", key), lambda: self.table.get(key))

    def batch_get(self, keys: Sequence[Key]) -> list[Item]:
        return self._around(Call("batch_get", keys), lambda: self.table.batch_get(keys))

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
        def query() -> Page:
            return self.table.query(
                pk, first=first, last=last, index=index, limit=limit, descending=descending, cursor=cursor
            )

        return self._around(Call("query", pk), query)

    def query_all(self, pk: str, *, first: str = "", last: str = "\uffff") -> list[Item]:
        return self._around(Call("query_all", pk), lambda: self.table.query_all(pk, first=first, last=last))

    def partitions(self, index: str) -> Iterator[str]:
        return self._around(Call("partitions", index), lambda: self.table.partitions(index))

    def write(self, operations: Sequence[Operation]) -> None:
        self._around(Call("write", operations), lambda: self.table.write(operations))

    def update(self, operation: Update) -> Item:
        return self._around(Call("update", operation), lambda: self.table.update(operation))

    def _around(self, call: Call, run: Callable[[], T]) -> T:
        self.fault("before", call)
        answer = run()
        self.fault("after", call)
        return answer
