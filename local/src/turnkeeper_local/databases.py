"""Where a kit without AWS has its state, as one says it."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import quote

#: The variable that names it.
VARIABLE = "TURNKEEPER_DATABASE_URL"


def sqlite_url(file: Path) -> str:
    """The address of a file, whatever it is called."""
    return f"sqlite:///{quote(str(file))}"
