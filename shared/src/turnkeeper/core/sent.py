"""A message as it is sent, which many requests of a conversation have in common: its bytes are made once."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from itertools import islice
from operator import is_
from typing import Any

from pydantic_core import to_json

from turnkeeper.core.canonical import is_plain

_ENCODER = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False)
#: So many messages of a conversation's beginning have their JSON in one piece.
_RUN = 16


class Sent(dict[str, Any]):
    """``{"role": ..., "content": [...]}``, and its JSON. Nobody changes it: requests share it."""

    __slots__ = ("_beginning", "_blocks", "_json")

    def __init__(self, role: str, content: Sequence[Mapping[str, Any]], blocks: list[bytes] | None = None) -> None:
        super().__init__(role=role, content=content)
        self._blocks = blocks
        self._json: bytes | None = None
        self._beginning: tuple[tuple[Sent, ...], tuple[bytes, ...]] = (), ()

    @property
    def blocks(self) -> list[bytes]:
        """Each block of the content as JSON."""
        made = self._blocks
        if made is None:
            made = self._blocks = [json_bytes(block) for block in self["content"]]
        return made

    @property
    def json(self) -> bytes:
        made = self._json
        if made is None:
            made = self._json = b'{"role":"%b","content":[%b]}' % (self["role"].encode(), b",".join(self.blocks))
            # Whoever marks it does so before: what is sent as it is has left the end of the conversation.
            self._blocks = None
        return made

    def beginning(self, values: Sequence[Any]) -> tuple[int, tuple[bytes, ...]]:
        """How many messages of a list that this one begins have their JSON in large pieces, and those pieces. They are
        kept with it, for as long as it is the same messages that stand behind it."""
        behind, pieces = self._beginning
        if len(behind) >= len(values) or not all(map(is_, behind, islice(values, 1, None))):
            behind, pieces = (), ()
        taken = known = _RUN * len(pieces)
        # The end of a conversation has no large piece: marks move there from request to request.
        while taken + 2 * _RUN <= len(values) and {*map(type, run := values[taken : taken + _RUN])} == {Sent}:
            pieces = (*pieces, b"".join([part for message in run for part in (message.json, b",")]))
            taken += _RUN
        if taken != known:
            self._beginning = tuple(values[1:taken]), pieces
            for message in values[known:taken]:
                message._json = None  # Each is kept once.
        return taken, pieces

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
    with suppress(ValueError, RecursionError):  # half a character, or nested deep: `json` knows what to do
        if is_plain(value):
            return to_json(value)
    return _ENCODER.encode(value).encode()


def list_json(values: Sequence[Any]) -> bytes:
    """A list of messages, or of whatever else is JSON."""
    return b"".join(list_pieces(values))


def list_pieces(values: Sequence[Any]) -> list[bytes]:
    """The same in pieces, to be copied once with what stands around it."""
    taken, pieces = values[0].beginning(values) if values and type(values[0]) is Sent else (0, ())
    # Of the rest, nearly all have theirs: they are taken without the property's call.
    ends = [(each._json or each.json) if type(each) is Sent else json_bytes(each) for each in values[taken:]]
    return [b"[", *pieces, b",".join(ends), b"]"]
