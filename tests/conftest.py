"""What tests of every kind can ask for."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from local.kit import LocalKit
from tests.emulator import ministack
from tests.kit import running_kit


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What takes long and mostly waits comes first, so that the many small ones fill the gaps at the end."""
    items.sort(key=lambda item: "e2e" not in item.path.parts and "simulation" not in item.path.parts)


@pytest.fixture(scope="session")
def emulator() -> Iterator[str]:
    """The endpoint URL of an AWS emulator, shared by the tests of this process."""
    with ministack() as endpoint_url:
        yield endpoint_url


@pytest.fixture(scope="session")
def kit(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalKit]:
    """The whole kit with its default settings, shared by the tests of this process."""
    with running_kit(tmp_path_factory.mktemp("kit")) as kit:
        yield kit
