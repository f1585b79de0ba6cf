"""What a root must be able to do, whatever it is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

MAX_ENTRIES = 1000


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of a file: at most as many bytes as were asked for, from the offset on."""

    data: bytes
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Entry:
    name: str
    type: Literal["file", "folder", "link", "other"]
    size_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class Listing:
    entries: list[Entry]
    truncated: bool


class Source(Protocol):
    def read(self, names: tuple[str, ...], offset: int, max_bytes: int) -> Piece | Listing:
        """The file, or the listing where the names lead to a folder.

        Raises:
            ToolDenied: the names lead to something that is not a plain file or folder below the root.
            ToolError: there is nothing there, or it cannot be read.
        """

    def list(self, names: tuple[str, ...]) -> Listing:
        """What is in a folder, in the order of the names. Raises as ``read`` does."""
