"""The gate over a table in memory: one call at a time, by a clock that goes on only when somebody waits."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from tests.support.money import Books, Till, policy
from turnkeeper.core.errors import CostCapExceeded
from turnkeeper.core.policy import Policy
from turnkeeper.core.session import Head
from turnkeeper.runtime.store.holders import Want
from turnkeeper.testing.clock import ManualClock, SeededIds
from turnkeeper.testing.memory_blobs import MemoryBlobs
from turnkeeper.testing.memory_table import MemoryTable


def at(*parts: int) -> datetime:
    return datetime(*parts, tzinfo=UTC)  # type: ignore[misc, arg-type]


class Waiting(ManualClock):
    """Does something whenever somebody waits."""

    on_sleep: Callable[[], None] | None = None
    slept: int = 0

    def sleep(self, seconds: float) -> None:
        super().sleep(seconds)
        self.slept += 1
        if self.on_sleep:
            self.on_sleep()


class Gate(Till):
    def __init__(self, plans: Policy, start: datetime | None = None, *, compact: bool = True) -> None:
        self.requests: list[str] = []
        self.memory = MemoryTable(on_request=self.requests.append)
        self.waiting = Waiting(start) if start else Waiting()
        super().__init__(self.memory, MemoryBlobs(), plans, self.waiting, SeededIds(), compact=compact)

    def session(self, name: str = "s", user: str = "ann", **limits: Any) -> Head:
        head = self.new_head(name, user, **limits)
        self.open(head)
        return head

    def books(self) -> Books:
        return Books.of(self.memory.snapshot())


def capped(**caps: int | None) -> Gate:
    return Gate(policy(plan=caps))


def refused(gate: Gate, head: Head, want: Want, **more: Any) -> dict[str, Any]:
    with pytest.raises(CostCapExceeded) as caught:
        gate.admit(head, want, **more)
    return caught.value.data
