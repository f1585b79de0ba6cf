"""The pytest plugin: a fixture ``turnkeeper`` with the project's agents in memory.

Whoever does not use it does not pay for it: nothing of the kit is imported before a test asks for the fixture. It is a
package of its own, since importing ``turnkeeper`` alone takes a tenth of a second.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from turnkeeper.testing import Workbench

MARKER = "turnkeeper(policy={...}, agents=[...]): what is deployed in this test, beside what the project says"


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", MARKER)


@pytest.fixture(scope="session")
def turnkeeper_root(pytestconfig: pytest.Config) -> Path:
    """The project: the folder with ``policy.toml`` at pytest's root directory or above it. Override this fixture to
    name another."""
    from turnkeeper_project import find_project

    return find_project(pytestconfig.rootpath).root


@pytest.fixture(scope="session")
def turnkeeper_deployed(turnkeeper_root: Path) -> Workbench:
    """The project's agents and policy, loaded once; ``fresh()`` of it is what each test is given."""
    from turnkeeper.adapters.injection import RuleDetector
    from turnkeeper.adapters.prices import BundledPrices
    from turnkeeper.testing import Workbench

    return Workbench.of_project(turnkeeper_root, detector=RuleDetector(), prices=BundledPrices())


@pytest.fixture
def turnkeeper(request: pytest.FixtureRequest, turnkeeper_deployed: Workbench) -> Iterator[Workbench]:
    """A kit in memory with the project's agents and policy, in which nothing has happened yet."""
    bench = turnkeeper_deployed.fresh()
    for mark in reversed(list(request.node.iter_markers("turnkeeper"))):
        changes: dict[str, Any] = dict(mark.kwargs)
        bench.override(**changes)
    yield bench
