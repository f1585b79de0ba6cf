"""What a response body may cost: bytes after decompression, and the charsets that are read."""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterable, Iterator

from turnkeeper.core.tools import ToolError

#: Decoders that are linear and give text. Python's codec registry holds others (``punycode``, ``idna``,
#: ``unicode_escape``).
_CHARSETS = re.compile(
    r"utf-?8|utf-?16|utf-16(?:le|be)|us-ascii|iso-8859-(?:[1-9]|1[013-6])|latin1|windows-125[0-8]|koi8-[ru]"
    r"|shift_jis|euc-jp|euc-kr|gb2312|gbk|gb18030|big5"
)
ENCODINGS = "gzip, deflate"


def read(chunks: Iterable[bytes], content_encoding: str, max_bytes: int) -> tuple[bytes, bool]:
    """At most ``max_bytes`` of the decoded body, and whether there was more. Never holds much more than that.

    Raises:
        ToolError: an encoding that was not asked for, or data that is not in it.
    """
    encoding = content_encoding.strip().lower()
    if encoding in ("", "identity"):
        pieces = iter(chunks)
    elif encoding in ("gzip", "x-gzip"):
        pieces = _inflate(chunks, 31, max_bytes + 1)
    elif encoding == "deflate":
        pieces = _inflate(chunks, 15, max_bytes + 1)
    else:
        raise ToolError(f"The server sent a content encoding that was not asked for. Accepted: {ENCODINGS}.")
    taken = bytearray()
    for piece in pieces:
        taken += piece[: max_bytes + 1 - len(taken)]
        if len(taken) > max_bytes:
            return bytes(taken[:max_bytes]), True
    return bytes(taken), False


def _inflate(chunks: Iterable[bytes], window_bits: int, max_piece_bytes: int) -> Iterator[bytes]:
    inflater = zlib.decompressobj(window_bits)
    started = False
    try:
        for chunk in chunks:
            data = chunk
            while data:
                if inflater.eof:  # gzip allows one stream after the other
                    inflater = zlib.decompressobj(window_bits)
                try:
                    piece = inflater.decompress(data, max_piece_bytes)
                except zlib.error:
                    if started or window_bits != 15:
                        raise
                    # "deflate" means zlib's wrapper, and many servers send it bare.
                    window_bits = -15
                    inflater = zlib.decompressobj(window_bits)
                    piece = inflater.decompress(data, max_piece_bytes)
                started = True
                if piece:
                    yield piece
                data = inflater.unconsumed_tail or inflater.unused_data
    except zlib.error as error:
        raise ToolError("The body is not in the encoding that the server named.") from error


def text_of(data: bytes, charset: str | None) -> str:
    """The bytes as text; what cannot be read becomes U+FFFD, an unknown charset is read as UTF-8."""
    return data.decode(codec_of(charset), "replace").removeprefix("\ufeff")


def codec_of(charset: str | None) -> str:
    """The codec of a charset that a server names; UTF-8 where it is none of those that are read."""
    name = (charset or "utf-8").strip().strip("\"'").lower()
    return name if _CHARSETS.fullmatch(name) else "utf-8"


def looks_like_text(data: bytes) -> bool:
    """Whether a body without a content type may be taken as text: UTF-8 without control characters."""
    if any(byte < 0x20 and byte not in b"\t\n\r\f" for byte in data):
        return False
    try:
        data.decode("utf-8")
    except UnicodeDecodeError as error:
        # A character cut in two by the size limit is no reason.
        return error.start >= len(data) - 3
    return True
