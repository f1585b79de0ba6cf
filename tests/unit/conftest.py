from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support import command_line


@pytest.fixture(scope="session", autouse=True)
def _commands_are_built_once() -> Iterator[None]:
    """Typer's runner would build them anew for each call: nine tenths of what a test of a command took."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("typer.testing._get_command", command_line.tree)
        yield
