"""An AWS emulator for tests: one of their own, gone when they are done.

    from tests.support.emulator import ministack

    with ministack() as endpoint_url: ...

Tests that can share one take the fixture `emulator` (an endpoint URL; one emulator a pytest-xdist worker) and make
tables, queues and buckets with names of their own.
"""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tests.support.repository import REPOSITORY
from turnkeeper_local.kit.home import Home
from turnkeeper_local.kit.ministack import start_ministack
from turnkeeper_project import Project


@contextlib.contextmanager
def ministack() -> Iterator[str]:
    """Run an emulator on a free loopback port and yield its endpoint URL; any credentials will do."""
    with tempfile.TemporaryDirectory(prefix="turnkeeper-emulator-", ignore_cleanup_errors=True) as folder:
        emulator = start_ministack(Home(Path(folder)), Project(REPOSITORY), first_port=0)
        try:
            yield emulator.endpoint_url
        finally:
            emulator.process.end(grace_seconds=1)
