"""A front door of a kit in memory, and what its processes log."""

from __future__ import annotations

import io
import logging
import sys
from collections.abc import Iterator

import pytest

from tests.support.api import ann, kit
from turnkeeper.adapters import logs

__all__ = ["ann", "kit"]


@pytest.fixture
def logged() -> Iterator[io.StringIO]:
    """What a Lambda or the worker writes, by its own set-up."""
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    ours = ("turnkeeper", "turnkeeper_agents", "functions", "fargate_worker", "server")
    levels = {name: logging.getLogger(name).level for name in ours}
    stdout, sys.stdout = sys.stdout, io.StringIO()
    try:
        logs.set_up("DEBUG")
        yield sys.stdout
    finally:
        sys.stdout = stdout
        root.handlers[:] = before
        root.setLevel(level)
        for name, old in levels.items():
            logging.getLogger(name).setLevel(old)
