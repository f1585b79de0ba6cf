"""Kits for tests from outside: brought up once a process, with the agents of these tests."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator

import pytest

from tests.e2e.outside import Caller, Stack, running_stack
from tests.support.installation import environment_here
from tests.support.repository import REPOSITORY


@pytest.fixture(scope="module")
def model_url() -> Iterator[str]:
    """Of a stand-in in a process of its own, for processes that the tests start themselves."""
    command = [sys.executable, "-m", "turnkeeper_local.standin", "--port", "0"]
    process = subprocess.Popen(command, cwd=REPOSITORY, env=environment_here(), stdout=subprocess.PIPE)
    assert process.stdout is not None
    try:
        yield json.loads(process.stdout.readline())["base_url"]
    finally:
        process.kill()
        process.wait()


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """With the settings that a user gets."""
    with running_stack(tmp_path_factory.mktemp("stack")) as stack:
        yield stack


@pytest.fixture(scope="session")
def restless(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Lambda has little time, so that long turns move; leases are short, so that the dead are soon followed."""
    with running_stack(
        tmp_path_factory.mktemp("restless"), TURNKEEPER_TURN_SECONDS="6", TURNKEEPER_LEASE_SECONDS="5"
    ) as stack:
        yield stack


@pytest.fixture
def caller(stack: Stack) -> Caller:
    """An admin of a tenant of its own."""
    return stack.caller()
