"""A front door of a kit in memory, called as API Gateway calls the Lambda, and as a server calls the application."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from functions.api.app import FrontDoor
from functions.api.asgi import application
from tests.support.api import kit
from tests.support.asgi import served
from tests.support.http import Caller
from tests.support.kit import MemoryKit

__all__ = ["kit"]


@pytest.fixture(params=["lambda", "asgi"])
def ann(kit: MemoryKit, request: pytest.FixtureRequest) -> Iterator[Caller]:
    """Ann of acme, an ordinary user."""
    if request.param == "lambda":
        yield Caller(FrontDoor(kit))
        return
    with served(application(kit)) as door:
        yield Caller(door)
