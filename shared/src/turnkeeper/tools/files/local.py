"""A local folder as a root. Opened part by part, each relative to the one before and without following a link.

A check of the whole path before it is opened can be overtaken by somebody who swaps a folder for a link in between.
Here the kernel refuses the link at the moment of opening.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from turnkeeper.core.tools import ToolDenied, ToolError
from turnkeeper.tools._common import shown
from turnkeeper.tools.files.source import MAX_ENTRIES, Entry, Listing, Piece

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_MAX_SCANNED = 20_000


class LocalSource:
    """Reads below a folder. The folder itself may be a link; that is its owner's choice."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def read(self, names: tuple[str, ...], offset: int, max_bytes: int) -> Piece | Listing:
        with self._opened(names) as (descriptor, status):
            if stat.S_ISDIR(status.st_mode):
                return _listing(descriptor)
            pieces = bytearray()
            os.lseek(descriptor, offset, os.SEEK_SET)
            while len(pieces) < max_bytes and (data := os.read(descriptor, min(1 << 20, max_bytes - len(pieces)))):
                pieces += data
            return Piece(bytes(pieces), status.st_size)

    def list(self, names: tuple[str, ...]) -> Listing:
        with self._opened(names) as (descriptor, status):
            if not stat.S_ISDIR(status.st_mode):
                raise ToolError(f"{shown('/'.join(names))} is a file, not a folder.")
            return _listing(descriptor)

    @contextlib.contextmanager
    def _opened(self, names: tuple[str, ...]) -> Iterator[tuple[int, os.stat_result]]:
        path = "/".join(names) or "."
        try:
            with contextlib.ExitStack() as stack:
                descriptor = _keep(stack, os.open(self._root, _FOLDER))
                for name in names[:-1]:
                    descriptor = _keep(stack, os.open(name, _FOLDER | os.O_NOFOLLOW, dir_fd=descriptor))
                if names:
                    descriptor = _keep(stack, _open_last(names[-1], descriptor, path))
                yield descriptor, os.fstat(descriptor)
        except OSError as error:
            if error.errno in (errno.ELOOP, errno.ENOTDIR, errno.EMLINK):
                # With O_DIRECTORY and O_NOFOLLOW together, a link answers as "not a directory".
                raise ToolDenied(
                    f"The path {shown(path)} goes through a symbolic link or a file. "
                    "Allowed are plain folders and files."
                ) from error
            if error.errno in (errno.ENOENT, errno.ENAMETOOLONG):
                raise ToolError(f"There is no {shown(path)}.") from error
            raise ToolError(f"{shown(path)} cannot be read.") from error


def _keep(stack: contextlib.ExitStack, descriptor: int) -> int:
    stack.callback(os.close, descriptor)
    return descriptor


def _open_last(name: str, folder: int, path: str) -> int:
    # Looked at first, since opening a device can already do something; and again after opening, since it may be
    # another.
    _check_kind(os.stat(name, dir_fd=folder, follow_symlinks=False), path)
    # NONBLOCK: a pipe without a writer would wait forever.
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
    descriptor = os.open(name, flags, dir_fd=folder)
    try:
        _check_kind(os.fstat(descriptor), path)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _check_kind(status: os.stat_result, path: str) -> None:
    if stat.S_ISLNK(status.st_mode):
        raise ToolDenied(f"{shown(path)} is a symbolic link. Allowed are plain folders and files.")
    if not stat.S_ISREG(status.st_mode) and not stat.S_ISDIR(status.st_mode):
        raise ToolDenied(f"{shown(path)} is a device, pipe or socket. Allowed are plain folders and files.")


def _listing(descriptor: int) -> Listing:
    with os.scandir(descriptor) as found:
        scanned = list(itertools.islice(found, _MAX_SCANNED))
        entries = [_entry(entry) for entry in sorted(scanned, key=lambda entry: entry.name)[:MAX_ENTRIES]]
    return Listing(entries, len(scanned) > MAX_ENTRIES)


def _entry(entry: os.DirEntry[str]) -> Entry:
    name = entry.name.encode("utf-8", "replace").decode()
    try:
        if entry.is_symlink():
            return Entry(name, "link")
        if entry.is_dir(follow_symlinks=False):
            return Entry(name, "folder")
        if entry.is_file(follow_symlinks=False):
            return Entry(name, "file", entry.stat(follow_symlinks=False).st_size)
    except OSError:
        pass  # gone in the meantime
    return Entry(name, "other")
