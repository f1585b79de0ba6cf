"""One strict reading of a path that the model sent: names below the root, and nothing else."""

from __future__ import annotations

import unicodedata
from urllib.parse import unquote

from turnkeeper.core.tools import ToolDenied
from turnkeeper.tools._common import shown

MAX_PATH_CHARS = 1024
_ALLOWED = "Allowed are paths below the root, written as folder/file, without .., \\ or a leading /."


def parts(path: str) -> tuple[str, ...]:
    """The names on the way from the root; none for the root itself.

    Percent encodings are not decoded for opening; but a path that would lead out if somebody decoded it is refused
    here, so that it cannot wait for a later layer that does.

    Raises:
        ToolDenied: the path leads out of the root, or might be read as leading out of it.
    """
    if len(path) > MAX_PATH_CHARS or not path.isprintable():
        raise ToolDenied(f"A path is at most {MAX_PATH_CHARS} printable characters. {_ALLOWED}")
    for form in _readings(path):
        if (
            form.startswith(("/", "~"))
            or "\\" in form
            or "\0" in form
            or "://" in form
            or any(name == ".." for name in form.split("/"))
        ):
            raise ToolDenied(f"The path {shown(path)} is not allowed. {_ALLOWED}")
    return tuple(name for name in path.split("/") if name not in ("", "."))


def _readings(path: str) -> list[str]:
    """The path as it is, and as somebody might read it who decodes percent signs or folds wide characters."""
    readings = [path]
    for _ in range(3):
        readings.append(unquote(readings[-1], errors="replace"))
    return [*readings, *(unicodedata.normalize("NFKC", reading) for reading in readings)]
