"""The ``read_files`` tool."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from pydantic import Field

from turnkeeper.core.tools import Tool, ToolContext, ToolError
from turnkeeper.tools._common import Arguments, Deadline, cut, guarded, plain, positive, shown
from turnkeeper.tools.files.local import LocalSource
from turnkeeper.tools.files.paths import parts
from turnkeeper.tools.files.s3 import S3Source
from turnkeeper.tools.files.source import Listing, Piece, Source

_DESCRIPTION = (
    "Read a text file, or list a folder, below a fixed root. A file comes back as path, size_bytes, text and truncated "
    "(then next_offset says where to go on), a folder as entries. At most {max_bytes} bytes at a time. "
    "Start with the path '.'."
)
_TIMEOUT_SECONDS = 30.0


class ReadArguments(Arguments):
    path: str = Field(description="Path below the root, such as notes/today.md; '.' is the root.")
    list: bool = Field(default=False, description="List the folder at this path instead of reading a file.")
    offset: int = Field(default=0, ge=0, le=2**53, description="Byte to start at, to go on with a long file.")


def read_files(
    root: str | Path,
    max_bytes: int = 200_000,
    *,
    timeout_seconds: float = _TIMEOUT_SECONDS,
    name: str = "read_files",
    scopes: Iterable[str] = (),
    description: str | None = None,
) -> Tool:
    """A tool that reads text files below ``root``: a folder, or ``s3://bucket/prefix``. Effect ``read``.

    A relative folder is taken from the working directory of the process when the tool is made. Symbolic links below
    it are not followed, wherever they lead.

    The tool answers ``{"path", "size_bytes", "text", "truncated"}``, with ``next_offset`` where there is more, or
    ``{"path", "entries": [{"name", "type", "size_bytes"?}], "truncated"}``. It raises ToolDenied for what is not a
    plain file or folder below the root and ToolError for what is not there or is not text.

    Raises:
        ValueError: a root or limit that cannot be.
    """
    positive("max_bytes", max_bytes)
    source = _source(root)

    def run(ctx: ToolContext, arguments: ReadArguments) -> dict[str, Any]:
        names = parts(arguments.path)
        Deadline.of(ctx, timeout_seconds)
        path = "/".join(names) or "."
        found = source.list(names) if arguments.list else source.read(names, arguments.offset, max_bytes)
        if isinstance(found, Listing):
            return _listed(path, found, max_bytes)
        return _read(path, found, arguments.offset, max_bytes)

    return guarded(
        name=name,
        description=description or _DESCRIPTION.format(max_bytes=max_bytes),
        effect="read",
        arguments=ReadArguments,
        run=run,
        scopes=scopes,
        timeout_seconds=timeout_seconds,
    )


def _source(root: str | Path) -> Source:
    if isinstance(root, str) and root.startswith("s3://"):
        bucket, _, prefix = root.removeprefix("s3://").partition("/")
        if not bucket or ".." in prefix.split("/"):
            raise ValueError("an S3 root is s3://bucket/prefix")
        return S3Source(bucket, prefix)
    if not str(root) or "\0" in str(root) or (isinstance(root, str) and "://" in root):
        raise ValueError("a root is a folder or s3://bucket/prefix")
    return LocalSource(Path(root).absolute())


def _read(path: str, piece: Piece, offset: int, max_bytes: int) -> dict[str, Any]:
    data = piece.data
    truncated = offset + len(data) < piece.size_bytes
    text = _text(data, truncated)
    if text is None:
        raise ToolError(f"{shown(path)} is binary ({piece.size_bytes} bytes). Only text can be read.")
    kept, was_cut = cut(plain(text), max_bytes)
    answer: dict[str, Any] = {
        "path": path,
        "size_bytes": piece.size_bytes,
        "text": kept,
        "truncated": truncated or was_cut,
    }
    if truncated:
        # Not inside a character: what is left of one is read again with the next part.
        answer["next_offset"] = offset + len(data) - _unfinished(data)
    return answer


def _text(data: bytes, truncated: bool) -> str | None:
    """The bytes as text, or None where they are not. A few bytes that are not UTF-8 become U+FFFD."""
    if b"\0" in data or data.startswith((b"\x7fELF", b"%PDF-", b"PK\x03\x04", b"\x1f\x8b", b"\x89PNG")):
        return None
    if truncated:
        data = data[: len(data) - _unfinished(data)]
    text = data.decode("utf-8", "replace").removeprefix("\ufeff")
    return None if text.count("\N{REPLACEMENT CHARACTER}") > max(3, len(text) // 10) else text


def _unfinished(data: bytes) -> int:
    """How many bytes at the end belong to a character that is cut off."""
    for back in range(1, min(4, len(data)) + 1):
        byte = data[-back]
        if byte >= 0xC0:
            needed = 2 if byte < 0xE0 else 3 if byte < 0xF0 else 4
            return back if back < needed and len(data) > back else 0
        if byte < 0x80:
            return 0
    return 0


def _listed(path: str, listing: Listing, max_bytes: int) -> dict[str, Any]:
    entries: list[dict[str, Any]] = []
    used = 0
    for entry in listing.entries:
        item: dict[str, Any] = {"name": plain(entry.name), "type": entry.type}
        if entry.size_bytes is not None:
            item["size_bytes"] = entry.size_bytes
        used += len(json.dumps(item, ensure_ascii=False).encode("utf-8", "replace")) + 1
        if used > max_bytes:
            return {"path": path, "entries": entries, "truncated": True}
        entries.append(item)
    return {"path": path, "entries": entries, "truncated": listing.truncated}
