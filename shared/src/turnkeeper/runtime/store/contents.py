"""JSON values as attributes of an item, and back.

They are compressed where it pays. What would make an item larger than 64 KB goes to the blob store under its hash (a
claim check), and its hash is checked when it is read.
"""

from __future__ import annotations

import hashlib
import json
import zlib
from collections.abc import Mapping
from typing import Any

from turnkeeper.core.canonical import stored_json, without_surrogates
from turnkeeper.core.errors import TurnkeeperError
from turnkeeper.table import Blobs, Item

#: Room for the attributes beside the content, below the 64 KB that an item may have.
INLINE_BYTES = 60_000
_COMPRESS_FROM = 512
#: What one content may be, uncompressed. The largest input is 4 MB, and 64 results of a step bring less than this.
MAX_CONTENT_BYTES = 512 * 1024 * 1024


class Damaged(TurnkeeperError):
    """A stored content does not have the hash that it was stored with."""


class Lost(TurnkeeperError):
    """A stored content is gone from the blob store."""


def pack(value: Any, blobs: Blobs, prefix: str) -> Item:
    """The attributes that hold a JSON value: ``data`` inline, or ``blob`` as a claim check."""
    raw = stored_json(value)
    data = zlib.compress(raw, 6) if len(raw) >= _COMPRESS_FROM else raw
    if len(data) >= len(raw):
        data = raw
    if len(data) <= INLINE_BYTES:
        return {"data": data}
    digest = hashlib.sha256(data).hexdigest()
    key = f"{prefix}{digest}"
    blobs.put(key, data)
    return {"blob": key, "blob_sha256": digest, "blob_bytes": len(data)}


def unpack(item: Mapping[str, Any], blobs: Blobs) -> Any:
    """The JSON value; ``None`` where it was erased.

    Raises:
        Damaged: the blob is not what was stored.
        Lost: the blob is gone.
    """
    if "blob" in item:
        try:
            data = blobs.get(item["blob"])
        except KeyError as missing:
            raise Lost("a stored content is gone", key=item["blob"]) from missing
        if hashlib.sha256(data).hexdigest() != item["blob_sha256"]:
            raise Damaged("a stored content does not have its hash", key=item["blob"])
    elif "data" in item:
        data = item["data"]
    else:
        return None
    # A compressed stream begins with 0x78; JSON never does.
    raw = _inflated(data) if data[:1] == b"\x78" else data
    return json.loads(without_surrogates(raw.decode("utf-8", "surrogatepass")))


def _inflated(data: bytes) -> bytes:
    """Raises Damaged for more than anything that was stored can become: a few kilobytes must not fill the memory."""
    stream = zlib.decompressobj()
    raw = stream.decompress(data, MAX_CONTENT_BYTES)
    if not stream.eof:
        raise Damaged("a stored content is too large, or cut off")
    return raw
