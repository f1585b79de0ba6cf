"""Contents that an input names by address: where they stand, what they may be, and how they are kept.

An address that works today may not tomorrow, and a conversation that names it would be refused from then on. So what is
behind it is fetched once, and stands in the transcript from the beginning. Beside it, as ``fetched``, is where it came
from; that is the kit's own and is not sent.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import Literal, NamedTuple

from turnkeeper.core.transcript import Block

FETCHED = "fetched"

Kind = Literal["image", "document"]

#: What each kind of content may have at most. An image becomes 5 MiB in base64, which is what the API takes; a text
#: costs up to a token a byte.
MAX_IMAGE_BYTES = 3_932_160
MAX_PDF_BYTES = 8 * 1024 * 1024
MAX_TEXT_BYTES = 1024 * 1024
#: Of all contents of an input. A request has room for 32 MB, base64 takes a third more, and the conversation goes on.
MAX_TOTAL_BYTES = 10 * 1024 * 1024
#: Different ones, in an input; as many images as the API takes in a request.
MAX_ADDRESSES = 100

#: What servers say of files that they know nothing about.
_UNNAMED = frozenset({"", "application/octet-stream", "binary/octet-stream"})
_PDF = frozenset({"application/pdf", "application/x-pdf"})


class Unusable(ValueError):
    """A content that the model API would not take, or that is larger than what is kept."""


class Download(NamedTuple):
    """What stood behind an address."""

    #: In lower case, as the server says; empty where it does not.
    content_type: str
    data: bytes
    #: The codec that reads it as text, where it is one.
    codec: str = "utf-8"


class Named(NamedTuple):
    """A block that names a content by its address, and where in the input it stands."""

    kind: Kind
    url: str
    where: str


def named(content: Sequence[Block]) -> list[Named]:
    """All contents of an input that stand there by their address only, in order."""
    found: list[Named] = []

    def note(each: Named, block: Block) -> Block:
        found.append(each)
        return block

    exchanged(content, note)
    return found


def exchanged(content: Sequence[Block], other: Callable[[Named, Block], Block]) -> tuple[Block, ...]:
    """The blocks, with what ``other`` makes of each that names a content by its address."""
    return tuple(_exchanged(block, f"body.input[{index}]", other) for index, block in enumerate(content))


def _exchanged(block: Block, where: str, other: Callable[[Named, Block], Block]) -> Block:
    source = block.get("source")
    if block.get("type") not in {"image", "document"} or not isinstance(source, dict):
        return block
    if source.get("type") == "url":
        return other(Named(block["type"], source["url"], f"{where}.source.url"), block)
    if source.get("type") == "content" and isinstance(parts := source.get("content"), list):
        inner = [_exchanged(part, f"{where}.source.content[{index}]", other) for index, part in enumerate(parts)]
        return {**block, "source": {**source, "content": inner}}
    return block


# ---- what it may be ----


def most_bytes(kind: Kind, content_type: str) -> int:
    """How many bytes a content may have by what the server says that it is; 0 where it cannot be one of this kind."""
    if kind == "image":
        return MAX_IMAGE_BYTES if content_type in _UNNAMED or content_type.startswith("image/") else 0
    if content_type in _PDF or content_type in _UNNAMED:
        return MAX_PDF_BYTES
    return MAX_TEXT_BYTES if _is_text(content_type) else 0


def kept(each: Named, block: Block, download: Download) -> Block:
    """The block with the content itself. What it is has to be what both the server and its first bytes say.

    Raises:
        Unusable: it is not what such a block can hold.
    """
    data, content_type = download.data, download.content_type
    found = _by_its_bytes(data)
    if not most_bytes(each.kind, content_type):
        raise Unusable(f"its media type is {content_type[:60]!r}; {_ALLOWED[each.kind]}")
    if each.kind == "image":
        if found is None or found == "application/pdf":
            raise Unusable(f"it is no image that the model API takes; {_ALLOWED['image']}")
        source = _base64(found, data)
    elif found == "application/pdf" and not _is_text(content_type):
        source = _base64(found, data)
    elif found is None and (content_type == "" or _is_text(content_type)):
        source = {"type": "text", "media_type": "text/plain", "data": _text(download)}
    else:
        raise Unusable(f"it is neither a PDF nor a text; {_ALLOWED['document']}")
    origin = {"from": each.url, "sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}
    return {**block, "source": source, FETCHED: origin}


_ALLOWED: Mapping[Kind, str] = {
    "image": "an image is image/jpeg, image/png, image/gif or image/webp",
    "document": "a document is application/pdf or text",
}


def _text(download: Download) -> str:
    text = download.data.decode(download.codec, "replace").removeprefix("\ufeff")
    if "\0" in text:
        raise Unusable(f"it is neither a PDF nor a text; {_ALLOWED['document']}")
    if len(download.data) > MAX_TEXT_BYTES:
        raise Unusable(f"a text has at most {MAX_TEXT_BYTES} bytes")
    if not text.strip():
        raise Unusable("it is empty")
    return text


def _is_text(content_type: str) -> bool:
    return content_type.startswith("text/") or content_type in {"application/json", "application/xml"}


def _by_its_bytes(data: bytes) -> str | None:
    """The media type of an image or a PDF; ``None`` for everything else."""
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return "image/png"
    if data.startswith(b"\xff\xd8\xff"):
        return "image/jpeg"
    if data.startswith((b"GIF87a", b"GIF89a")):
        return "image/gif"
    if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        return "image/webp"
    return "application/pdf" if data[:64].lstrip().startswith(b"%PDF-") else None


def _base64(media_type: str, data: bytes) -> Block:
    return {"type": "base64", "media_type": media_type, "data": base64.b64encode(data).decode()}


# ---- telling of it ----


def without_data(content: Sequence[Block]) -> list[Block]:
    """The blocks for people and events: files that the kit fetched without their bytes, which are megabytes that say
    nothing. Texts stay."""
    return [_without_data(block) for block in content]


def _without_data(block: Block) -> Block:
    source = block.get("source")
    if not isinstance(source, dict):
        return block
    if FETCHED in block and source.get("type") == "base64":
        return {**block, "source": {name: value for name, value in source.items() if name != "data"}}
    if source.get("type") == "content" and isinstance(parts := source.get("content"), list):
        return {**block, "source": {**source, "content": without_data(parts)}}
    return block
