"""A message as it is sent, which many requests of a conversation have in common: its bytes are made once."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

_ENCODER = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False)


class Sent(dict[str, Any]):
    """``{"role": ..., "content": [...]}``, and its JSON. Nobody changes it: requests share it."""

    __slots__ = ("_blocks", "_json")

    def __init__(self, role: str, content: Sequence[Mapping[str, Any]], blocks: list[bytes] | None = None) -> None:
        super().__init__(role=role, content=content)
        self._blocks = blocks
        self._json: bytes | None = None

    @property
    def blocks(self) -> list[bytes]:
        """Each block of the content as JSON."""
        if self._blocks is None:
            self._blocks = [json_bytes(block) for block in self["content"]]
        return self._blocks

    @property
    def json(self) -> bytes:
        if self._json is None:
            self._json = b'{"role":"%b","content":[%b]}' % (self["role"].encode(), b",".join(self.blocks))
            # Whoever marks it does so before: what is sent as it is has left the end of the conversation.
            self._blocks = None
        return self._json

    def marked(self, at: int, marker: Mapping[str, Any]) -> Sent:
        """The same with these fields more in one block, which has none of them."""
        content, blocks = list(self["content"]), list(self.blocks)
        content[at] = {**content[at], **marker}
        blocks[at] = b"%b,%b" % (blocks[at][:-1], json_bytes(marker)[1:])
        return Sent(self["role"], content, blocks)


def json_bytes(value: Any) -> bytes:
    """As the API's own clients write it.

    Raises:
        ValueError: a number that JSON has no word for, or half a character.
    """
    return _ENCODER.encode(value).encode()


def list_json(values: Sequence[Any]) -> bytes:
    """A list of messages, or of whatever else is JSON."""
    return b"".join(list_pieces(values))


def list_pieces(values: Sequence[Any]) -> list[bytes]:
    """The same in pieces: a long conversation is copied once, with what stands around it."""
    pieces = [b","] * (2 * len(values))
    # Of a long conversation nearly all have theirs: they are taken without the property's call.
    pieces[1::2] = [(value._json or value.json) if type(value) is Sent else json_bytes(value) for value in values]
    return [b"[", *pieces[1:], b"]"]
