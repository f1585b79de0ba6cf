"""What tests of every kind can ask for."""

from __future__ import annotations

import gc
import sys
from collections.abc import Generator, Iterator
from functools import cache
from typing import Any

import hypothesis
import pytest
from botocore.loaders import JSONFileLoader

from tests.support import postgresql as servers
from tests.support import side_by_side
from tests.support.emulator import ministack
from tests.support.repository import CACHE, REPOSITORY
from turnkeeper.adapters.aws import _Files

# Where `make sdk` has put what most people do without: tests that need it ask for it by importorskip.
if (REPOSITORY / ".turnkeeper" / "agent-sdk").is_dir():
    sys.path.append(str(REPOSITORY / ".turnkeeper" / "agent-sdk"))

#: As it is for whoever has the package installed.
pytest_plugins = ["pytest_turnkeeper"]

# How long an example takes says more about what else the machine does than about the code.
hypothesis.settings.register_profile("turnkeeper", deadline=None)
hypothesis.settings.load_profile("turnkeeper")


def pytest_configure(config: pytest.Config) -> None:
    side_by_side.give_way(config)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=side_by_side.place_in_queue)


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """What is imported and collected stays: a third of that work was looking through it for garbage."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    return side_by_side.FromBothEnds(config, log) if config.getvalue("dist") == "loadscope" else None


@pytest.fixture(scope="session", autouse=True)
def _no_real_credentials() -> Iterator[None]:
    """The emulator takes any; an account must never be reached from a test."""
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("AWS_ACCESS_KEY_ID", "test")
        environment.setenv("AWS_SECRET_ACCESS_KEY", "test")
        environment.delenv("AWS_SESSION_TOKEN", raising=False)
        environment.delenv("AWS_PROFILE", raising=False)
        # Projects that tests make share what takes a while to make: the emulator's environment, bundles, assemblies.
        environment.setenv("TURNKEEPER_CACHE", str(CACHE))
        yield


@pytest.fixture(scope="session", autouse=True)
def _models_of_services_are_read_once() -> Iterator[None]:
    """Each session of botocore reads them for itself, which takes longer than all else that makes a client."""
    with pytest.MonkeyPatch.context() as patched:
        for loader in (JSONFileLoader, _Files):
            read = cache(loader().load_file)
            patched.setattr(loader, "load_file", lambda _, path, read=read: read(path))
        yield


@pytest.fixture(scope="session")
def emulator() -> Iterator[str]:
    """The endpoint URL of an AWS emulator, shared by the tests of this process."""
    with ministack() as endpoint_url:
        yield endpoint_url


@pytest.fixture(scope="session")
def postgresql() -> Iterator[servers.Server]:
    """A PostgreSQL server, shared by the tests of this process."""
    with servers.needed_server() as server:
        yield server
