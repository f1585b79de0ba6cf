"""``re.sub`` for patterns that begin with one of a few words: tried only where such a word stands.

Finding a word in a text is many times faster than trying a pattern at each of its places. What comes out is what
``pattern.sub`` gives.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Final

from turnkeeper.core.late import late

#: Below this many characters the pattern alone is faster.
_SHORT: Final = 32
_UPPER: Final = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_LOWER: Final = bytes.maketrans(_UPPER, _UPPER.lower())
#: What a pattern takes for i, s and k when it ignores case, beyond their capitals.
_OTHER_CASES: Final = (("İ", "i"), ("ı", "i"), ("ſ", "s"), ("\u212a", "k"))
_SIGNS: Final = (
    bytes(ord("x") if chr(sign).isalnum() or sign in b"_-+/" else ord(" ") for sign in range(128)) + b" " * 128
)


def late_pattern(regex: str, flags: int = 0) -> re.Pattern[str]:
    """A pattern behind a look for its words, which most processes meet no text for: compiled when one does."""
    return late(lambda: re.compile(regex, flags))


def lowered(text: str) -> str:
    """The text with ASCII's letters in lower case, as long as it was."""
    if text.isascii():
        return text.lower()
    for other, letter in _OTHER_CASES:
        text = text.replace(other, letter)
    return text.encode("utf-8", "surrogatepass").translate(_LOWER).decode("utf-8", "surrogatepass")


def sub(pattern: re.Pattern[str], replace: Callable[[re.Match[str]], str], text: str, words: Sequence[str]) -> str:
    """``pattern.sub(replace, text)``, where each match begins with one of these words, in any case."""
    if len(text) < _SHORT:
        return pattern.sub(replace, text)
    lower = lowered(text)
    places: set[int] = set()
    for word in words:
        place = lower.find(word)
        while place >= 0:
            places.add(place)
            place = lower.find(word, place + 1)
    pieces: list[str] = []
    end = 0
    for place in sorted(places):
        found = pattern.match(text, place) if place >= end else None
        if found:
            pieces += [text[end:place], replace(found)]
            end = found.end()
    return "".join([*pieces, text[end:]]) if pieces else text


def any_of(text: str, words: Sequence[str]) -> bool:
    """Whether one of the words stands in the text: as it is written, or in any case where it is in lower case."""
    lower = lowered(text)
    return any(word in text or word in lower for word in words)


_CARD_SIGNS: Final = bytes(
    ord("d") if sign in b"0123456789" or sign >= 0x80 else ord("s") if sign in b" -" else ord("x")
    for sign in range(256)
)


def card(text: str) -> bool:
    """Whether thirteen digits stand together, or twice four of them, in a text that is long enough for a card's number.
    Letters beyond ASCII may be digits too."""
    if len(text) < 13:
        return False
    signs = text.encode("utf-8", "surrogatepass").translate(_CARD_SIGNS)
    return b"ddddsdddd" in signs or b"d" * 13 in signs


def run(text: str, least: int) -> bool:
    """Whether so many letters and digits of ASCII, ``_``, ``-``, ``+`` or ``/`` stand together."""
    return len(text) >= least and b"x" * least in text.encode("utf-8", "surrogatepass").translate(_SIGNS)
