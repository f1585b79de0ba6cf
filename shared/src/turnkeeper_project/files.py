"""The files of a folder that are deployed: the same for whoever copies them and whoever looks whether they changed."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path


def files_below(path: Path) -> Iterator[Path]:
    """Every file in a folder, or the single file that `path` is. What Python follows is followed: links to files and to
    folders, but to none that holds the link, where there would be no end. Nothing that is hidden, or that Python has
    made; and nothing that is no file, as a link that leads nowhere, or a pipe, which is read for ever.
    """
    if path.is_file():
        yield path
    for folder, folders, names in os.walk(path, followlinks=True):
        here = Path(folder)
        folders[:] = [name for name in _visible(folders) if not _leads_back(here / name)]
        yield from (file for name in _visible(names) if (file := here / name).is_file())


def _leads_back(folder: Path) -> bool:
    """Whether it is a link to a folder that it stands in, by whichever links one has come there."""
    if not folder.is_symlink():
        return False
    there = folder.resolve()
    return any(there == around or there in around.parents for around in map(Path.resolve, folder.parents))


def _visible(names: Iterable[str]) -> list[str]:
    return [name for name in names if not name.startswith(".") and name != "__pycache__" and not _is_made(name)]


def _is_made(name: str) -> bool:
    return name.endswith((".pyc", ".egg-info"))
