"""What is encoded in a text: base64, base32, hexadecimal, bits, escapes, percent signs.

A run of the signs that an encoding is made of is looked for in the text with one byte for each character's kind, which
costs next to nothing; a text without one has nothing to decode. Every run is decoded, however many stand before it: a
list of hashes hides nothing.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable, Iterable, Iterator
from typing import Final
from urllib.parse import unquote

_BITS = re.compile(r"(?<![01])[01]{8}(?: ?[01]{8}){7,1000}")
#: The first one is spelled out, here as below: ``re`` looks for what a pattern begins with a good deal faster.
_ESCAPES = re.compile(
    r"\\(?:u[0-9a-fA-F]{4}(?:\\u[0-9a-fA-F]{4}){3,1999}|x[0-9a-fA-F]{2}(?:\\x[0-9a-fA-F]{2}){7,3999})"
)
_PERCENT = re.compile(r"[^\s]{0,200}(?:%[0-9A-Fa-f]{2}[^\s%]{0,60}){3,500}")
_PERCENTS = re.compile(r"%[0-9A-Fa-f]{2}[^\s%]{0,60}%[0-9A-Fa-f]{2}[^\s%]{0,60}%[0-9A-Fa-f]{2}")
_PERCENT_LEAD: Final = 200

_UPPER: Final = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_DIGITS: Final = b"0123456789"


def decoded(text: str) -> Iterator[tuple[str, str]]:
    """The name of each encoding that something readable stands in, and what that is."""
    data = text.encode("utf-8", "surrogatepass")
    later = b"" if text.isascii() else bytes(range(0x80, 0xC0))
    runs = list(_runs(data.translate(_BASE64, later), 20))
    # The signs of these two are of those of base64, in longer runs.
    long = any(end - start >= 32 for start, end in runs)
    encodings: tuple[tuple[str, Iterable[str], Callable[[str], bytes]], ...] = (
        ("base64", _cut(text, runs), _base64),
        ("base32", _cut(text, _runs(data.translate(_BASE32, later), 32)) if long else (), _base32),
        ("hex", _pairs(text, _runs(data.translate(_HEX, later), 32)) if long else (), bytes.fromhex),
        ("binary", _bits(text, _runs(data.translate(_ZEROS, later), 64)), _from_bits),
        ("escapes", _escapes(text), lambda s: s.encode("ascii").decode("unicode_escape").encode("utf-8", "replace")),
        ("percent encoding", _percents(text), lambda s: unquote(s).encode("utf-8", "replace")),
    )
    for name, candidates, decode in encodings:
        found = [readable for candidate in candidates if (readable := _readable(candidate, decode))]
        if found:
            yield name, "\n".join(found)


def _signs(signs: bytes) -> bytes:
    return bytes(ord("x") if sign in signs else ord(" ") for sign in range(256))


_BASE64: Final = _signs(_UPPER + _UPPER.lower() + _DIGITS + b"+/_-")
_BASE32: Final = _signs(_UPPER + b"234567")
_HEX: Final = _signs(_DIGITS + b"abcdefABCDEF")
_ZEROS: Final = _signs(b"01 ")
_MAX_RUN: Final = 8000


def _runs(signs: bytes, least: int) -> Iterator[tuple[int, int]]:
    shortest = b"x" * least
    start = signs.find(shortest)
    while start >= 0:
        end = signs.find(b" ", start + least)
        end = len(signs) if end < 0 else end
        yield start, end
        start = signs.find(shortest, end)


def _cut(text: str, runs: Iterable[tuple[int, int]]) -> Iterator[str]:
    for start, end in runs:
        yield text[start : min(end, start + _MAX_RUN)]


def _pairs(text: str, runs: Iterable[tuple[int, int]]) -> Iterator[str]:
    for start, end in runs:
        if (end - start) % 2 == 0 and end - start <= _MAX_RUN:
            yield text[start:end]


def _bits(text: str, runs: Iterable[tuple[int, int]]) -> Iterator[str]:
    for start, end in runs:
        yield from (found[0] for found in _BITS.finditer(text, start, end))


def _escapes(text: str) -> Iterator[str]:
    if "\\u" in text or "\\x" in text:
        yield from (found[0] for found in _ESCAPES.finditer(text))


def _percents(text: str) -> Iterator[str]:
    """With what stands before them up to a blank: the words that the percent signs are between."""
    if text.count("%") < 3:
        return
    end = 0
    while found := _PERCENTS.search(text, end):
        lead = text[max(end, found.start() - _PERCENT_LEAD) : found.start()]
        word = lead.split()[-1] if lead and not lead[-1].isspace() else ""
        whole = _PERCENT.match(text, found.start() - len(word))
        assert whole
        yield whole[0]
        end = whole.end()


def _base64(text: str) -> bytes:
    if "-" in text or "_" in text:
        text = text.replace("-", "+").replace("_", "/")
    return binascii.a2b_base64(text[:-1] if len(text) % 4 == 1 else text + "=" * (-len(text) % 4))


def _base32(text: str) -> bytes:
    return base64.b32decode(text + "=" * (-len(text) % 8))


def _from_bits(text: str) -> bytes:
    bits = text.replace(" ", "")
    return bytes(int(bits[place : place + 8], 2) for place in range(0, len(bits), 8))


_CONTROLS: Final = bytes({*range(32), 127} - set(b"\r\n\t"))


def _readable(raw: str, decode: Callable[[str], bytes]) -> str:
    try:
        data = decode(raw)
    except ValueError:
        return ""
    if len(data) - len(data.translate(None, _CONTROLS)) > 0.05 * len(data):
        return ""
    # Most of what is no text gets here, where an exception would cost more than all before it.
    text = data.decode("utf-8", "ignore")
    if len(text.encode()) != len(data):
        return ""
    seen = sum(sign.isprintable() or sign in "\r\n\t" for sign in text)
    return text if seen >= 0.95 * len(text) else ""
