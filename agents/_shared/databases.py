"""SQLite files that the sample agents build for themselves, in the temporary folder of the machine they run on.

Built when one is first asked for, not when an agent is loaded: the front door loads every agent and runs none.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import tempfile
from collections.abc import Callable
from pathlib import Path


def built(agent: str, name: str, fill: Callable[[sqlite3.Connection], None]) -> Path:
    """The agent's file of this name, filled where this machine does not have it yet.

    Complete or not there at all: it is built aside, and left alone where another process was faster.

    Raises:
        PermissionError: the agent's folder belongs to somebody else.
    """
    file = _folder(agent) / name
    if not file.exists():
        descriptor, draft = tempfile.mkstemp(suffix=".draft", dir=file.parent)
        os.close(descriptor)
        try:
            with contextlib.closing(sqlite3.connect(draft)) as connection:
                fill(connection)
                connection.commit()
            with contextlib.suppress(FileExistsError):
                os.link(draft, file)
        finally:
            Path(draft).unlink()
    return file


def _folder(agent: str) -> Path:
    """A folder that only this user can write to, though its name can be guessed."""
    folder = Path(tempfile.gettempdir()) / f"turnkeeper-{agent}-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    if folder.is_symlink() or folder.stat().st_uid != os.getuid():
        raise PermissionError(f"{folder} belongs to somebody else")
    return folder
