"""Where state is kept: one table, and contents too large for it. What the store may rely on: ordering, retries,
idempotency.

Both have adapters for AWS and for databases, and fakes in ``turnkeeper.testing``; all pass the same conformance suite.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, Protocol

from turnkeeper.core.errors import TurnkeeperError

Item = dict[str, Any]


class Key(NamedTuple):
    pk: str
    sk: str


Operator = Literal["=", "<>", "<", "<=", ">", ">=", "exists", "absent"]


class Cond(NamedTuple):
    """A condition on one top-level attribute of the item that an operation names. A comparison with an attribute
    that is not there is false."""

    attribute: str
    op: Operator
    value: Any = None


class AnyOf(NamedTuple):
    """Holds where at least one of the conditions holds."""

    conditions: tuple[Cond, ...]


Condition = Cond | AnyOf

#: The item itself is there, or is not.
EXISTS = Cond("pk", "exists")
ABSENT = Cond("pk", "absent")


@dataclass(frozen=True, slots=True)
class Put:
    key: Key
    item: Mapping[str, Any]
    conditions: tuple[Condition, ...] = ()


@dataclass(frozen=True, slots=True)
class Update:
    """Change attributes of an item; makes the item where it is not there (unless a condition forbids it).

    ``add`` counts from 0 where the attribute is missing. All three name top-level attributes; none twice.
    """

    key: Key
    set: Mapping[str, Any] = field(default_factory=dict)
    add: Mapping[str, int] = field(default_factory=dict)
    remove: tuple[str, ...] = ()
    conditions: tuple[Condition, ...] = ()


@dataclass(frozen=True, slots=True)
class Check:
    key: Key
    conditions: tuple[Condition, ...]


Operation = Put | Update | Check


class Page(NamedTuple):
    items: list[Item]
    #: Hand it back to read on; ``None`` at the end.
    cursor: str | None = None


class ConditionFailed(TurnkeeperError):
    """Nothing was written. ``failures`` maps the index of each operation whose condition failed to the item as it
    stood (``None`` where there was none)."""

    code = "condition_failed"

    def __init__(self, failures: Mapping[int, Item | None]) -> None:
        super().__init__(f"{len(failures)} conditions failed")
        self.failures = dict(failures)


class StoreBusy(TurnkeeperError):
    """Nothing was written: conflicts or throttling outlasted the adapter's own retries."""

    code = "unavailable"
    status = 503
    retryable = True


class Table(Protocol):
    """One table: string keys ``pk`` and ``sk``, items of JSON values (no floats; bytes allowed), four indexes.

    Indexes project keys only and may lag: ``by_user`` (user_key, created_key), ``by_tenant`` (tenant_key,
    created_key), ``by_status`` (status_key, created_key), ``due`` (due_shard, due_at). Everything else reads its own
    writes.
    """

    def get(self, key: Key) -> Item | None: ...

    def batch_get(self, keys: Sequence[Key]) -> list[Item]:
        """The items that are there, in the order of the keys; any number of keys."""

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
        """Items of one partition with ``first <= sort key <= last``, by sort key. One page: at most ``limit`` items or
        1 MB. With ``index``, ``pk``, ``first`` and ``last`` are the index's, and items hold keys only."""

    def query_all(self, pk: str, *, first: str = "", last: str = "\uffff") -> list[Item]:
        """All pages of :meth:`query`."""

    def partitions(self, index: str) -> Iterator[str]:
        """The partitions of an index, each at least once. Reads all of it: for operators. No function's role may."""

    def write(self, operations: Sequence[Operation]) -> None:
        """All or nothing; at most 100 operations on distinct items. A lost answer is retried with the same token, so
        that it is applied once.

        Raises:
            ConditionFailed: nothing was written.
            StoreBusy: nothing was written; later it may be.
            Unavailable: answers were lost until time ran out; it may have been written.
        """

    def update(self, operation: Update) -> Item:
        """One update, and the item as it is after it. Not made safe against lost answers: the caller must be able to
        see from its condition whether it was itself.

        Raises:
            ConditionFailed: nothing was written.
            StoreBusy: nothing was written.
            Unavailable: the answer was lost; it may have been written.
        """


class Blobs(Protocol):
    """Contents too large for an item, under keys that hold their hash. Raises Unavailable in an outage."""

    def put(self, key: str, data: bytes) -> None:
        """Idempotent: the same key always holds the same bytes."""

    def get(self, key: str) -> bytes:
        """Raises KeyError where there is none."""

    def delete_prefix(self, prefix: str) -> int:
        """Delete all below a prefix; how many."""
