"""Fixtures for tests that call the front door of a kit in memory."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from functions.api.app import FrontDoor
from tests.support.http import Caller
from tests.support.kit import MemoryKit
from turnkeeper.runtime.world import Allowance


@pytest.fixture
def kit() -> Iterator[MemoryKit]:
    # Nobody wants to wait for money in flight in a test.
    allowance = Allowance(runner="lambda", turn_seconds=840, hard_seconds=890, contention_seconds=0.2)
    kit = MemoryKit(allowance=allowance)
    yield kit
    kit.join()


@pytest.fixture
def ann(kit: MemoryKit) -> Caller:
    """Ann of acme, an ordinary user."""
    return Caller(FrontDoor(kit))
