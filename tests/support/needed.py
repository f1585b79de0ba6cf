"""Programs of the machine that some tests need: without one they are skipped, but never where it has to be there."""

from __future__ import annotations

import os

import pytest

#: Names of programs that have to be there, as ``.ci/run`` says.
REQUIRES = "TURNKEEPER_TEST_REQUIRES"


def needed(what: str, found: object) -> None:
    """Skip the test at hand unless ``what`` was found; fail it where the environment says that it has to be there."""
    if found:
        return
    if what in os.environ.get(REQUIRES, "").split():
        pytest.fail(f"{what} is not on this machine, and {REQUIRES} names it")
    pytest.skip(f"{what} is not on this machine: install it with the system's package manager to run this test")
