"""Seeing a text as a model might: without disguise, and with what it hides brought to light.

:func:`views` gives the plain reading of a text and then every other reading that differs: invisible letters made
visible, look-alike letters, spaced letters, digits for letters, and what is encoded in it. All bounded, all linear.
"""

from __future__ import annotations

import base64
import binascii
import codecs
import html
import re
import unicodedata
from collections.abc import Callable, Iterator
from typing import Final, NamedTuple
from urllib.parse import unquote

#: Longer inputs are examined up to here. A result is limited before it is shown to the model; check what is shown.
MAX_CHARS: Final = 400_000
_MAX_DECODED: Final = 20_000
_MAX_CANDIDATES: Final = 40
#: Whole-text transformations are tried on texts up to this size only.
_MAX_TRANSFORMED: Final = 100_000

_INVISIBLE = re.compile(
    "[\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e\u2060-\u206f"
    "\u3164\ufe00-\ufe0f\ufeff\uffa0\U000e0000-\U000e0fff]"
)
_ACCENTS = re.compile("[\u0300-\u036f]")
_TAGS = re.compile("[\U000e0020-\U000e007e]{4,}")
_VARIATION_BYTES = re.compile("[\ufe00-\ufe0f\U000e0100-\U000e01ef]{8,}")
_SPLIT_WORDS = re.compile("(?i)[a-z](?:[\u00ad\u200b-\u200f\u2060-\u2064\ufeff]{1,4}[a-z]){3}")
_OVERRIDES = re.compile("[\u202d\u202e]")
_FOREIGN_IN_LATIN = re.compile("[a-z][\u0370-\u052f\u0531-\u0587]|[\u0370-\u052f\u0531-\u0587][a-z]", re.IGNORECASE)
_LOOK_ALIKES: Final = str.maketrans(
    "авсԁеһіјӏкмоорԛгѕтυхуԝοαεικνρτηꜱɪ",
    "abcdehijlkmooрqrstuxywoaeiknptnsi".replace("р", "p"),
)
_SPACED = re.compile(r"(?<![^\W_])(?:[^\W_][ .*_-]){4,200}[^\W_](?![^\W_])")
_LEET: Final = str.maketrans("013457@$!|", "oieastasil")
_LEET_WORD = re.compile(
    r"(?<![\w#$.,%-])(?=[0-9@$!|]{0,8}[a-z])(?=[a-z]{0,12}[013457@$!|])[a-z013457@$!|]{3,20}(?![\w.,%]\d)"
)

_BASE64 = re.compile(r"(?<![A-Za-z0-9+/_-])[A-Za-z0-9+/_-]{20,8000}={0,2}")
_BASE32 = re.compile(r"(?<![A-Z2-7])[A-Z2-7]{32,8000}={0,6}")
_HEX = re.compile(r"(?<![0-9A-Fa-f])(?:[0-9A-Fa-f]{2}){16,4000}(?![0-9A-Fa-f])")
_BITS = re.compile(r"(?<![01])[01]{8}(?: ?[01]{8}){7,1000}")
_ESCAPES = re.compile(r"(?:\\u[0-9a-fA-F]{4}){4,2000}|(?:\\x[0-9a-fA-F]{2}){8,4000}")
_PERCENT = re.compile(r"[^\s]{0,200}(?:%[0-9A-Fa-f]{2}[^\s%]{0,60}){3,500}")
_ENTITIES = re.compile(r"(?:&#x?[0-9A-Fa-f]{2,6};[^&]{0,3}){6}")

_UNSEEN = re.compile(
    r"<(?:[a-z][a-z0-9]{0,10})\s[^<>]{0,400}(?:display\s{0,2}:\s{0,2}none|visibility\s{0,2}:\s{0,2}hidden|opacity\s{0,2}:\s{0,2}0(?![.\d])"
    r"|font-size\s{0,2}:\s{0,2}[01](?:px|pt|em)?(?![.\d])|color\s{0,2}:\s{0,2}(?:white|#fff(?:fff)?\b|transparent)|text-indent\s{0,2}:\s{0,2}-\d"
    r"|\bhidden\b|aria-hidden)[^<>]{0,400}>([^<]{1,4000})",
    re.IGNORECASE,
)


class View(NamedTuple):
    """One reading of a text, folded: lower case, without accents and invisible signs."""

    #: Empty for the plain reading, else how the text was hidden.
    disguise: str
    text: str


def fold(text: str) -> str:
    """NFKC, lower case, no accents, no invisible signs, single blanks; line ends stay."""
    text = _INVISIBLE.sub("", unicodedata.normalize("NFKC", text))
    if not text.isascii():
        text = unicodedata.normalize("NFC", strip_accents(text)).replace("’", "'").replace("ı", "i")
    return re.sub(r"[^\S\n]+", " ", text.casefold())


def strip_accents(text: str) -> str:
    return _ACCENTS.sub("", unicodedata.normalize("NFD", text))


def views(text: str) -> Iterator[View]:
    """The plain reading first, then the others that the text gives rise to."""
    text = text[:MAX_CHARS]
    plain = fold(text)
    yield View("", plain)
    yield from _hidden(text)
    yield from _disguised(text, plain)
    yield from _encoded(text)


def marks(text: str) -> Iterator[tuple[str, int]]:
    """Traces of hiding that count by themselves, with their weight."""
    text = text[:MAX_CHARS]
    if text.isascii():
        return
    if any(len(fold(_from_tags(found[0])).strip()) >= 4 and not _flag(text, found) for found in _TAGS.finditer(text)):
        yield "text in invisible tag characters", 600
    if _VARIATION_BYTES.search(text):
        yield "bytes in variation selectors", 500
    if _SPLIT_WORDS.search(text):
        yield "words split by invisible characters", 300
    if _OVERRIDES.search(text):
        yield "text direction overridden", 300


def _flag(text: str, found: re.Match[str]) -> bool:
    # The flags of Scotland and the like are a black flag followed by tags.
    return found.start() > 0 and text[found.start() - 1] == "\U0001f3f4" and len(found[0]) < 8


def _from_tags(text: str) -> str:
    return "".join(chr(ord(sign) - 0xE0000) for sign in text)


def _hidden(text: str) -> Iterator[View]:
    if not text.isascii():
        tags = "".join(_from_tags(found[0]) for found in _TAGS.finditer(text))
        if tags:
            yield View("invisible tag characters", fold(tags))
    if "<" in text:
        comments = _comments(text)
        if comments:
            yield View("an HTML comment", fold(comments))
        unseen = "\n".join(found[1] for found in _UNSEEN.finditer(text))
        if unseen:
            yield View("an element that is not shown", fold(unseen))


def _comments(text: str) -> str:
    # Not a pattern: many openings without an end would make one search far for each.
    found: list[str] = []
    start = text.find("<!--")
    while start >= 0:
        end = text.find("-->", start)
        if end < 0:
            found.append(text[start + 4 :][:_MAX_DECODED])
            break
        found.append(text[start + 4 : end])
        start = text.find("<!--", end)
    return "\n".join(found)


def _disguised(text: str, plain: str) -> Iterator[View]:
    if not plain.isascii() and _FOREIGN_IN_LATIN.search(plain):
        yield View("look-alike letters", plain.translate(_LOOK_ALIKES))
    spaced = _SPACED.sub(lambda found: re.sub(r"[ .*_-]", "", found[0]), plain)
    if spaced != plain:
        yield View("spaced letters", spaced)
    if len(_LEET_WORD.findall(plain[:_MAX_TRANSFORMED])) >= 2:
        yield View("digits for letters", plain[:_MAX_TRANSFORMED].translate(_LEET))
    if len(plain) <= _MAX_TRANSFORMED and len(plain) > 20:
        yield View("rot13", codecs.encode(plain, "rot13"))
        yield View("reversed", plain[::-1])
    if _ENTITIES.search(text):
        yield View("character references", fold(html.unescape(text[:_MAX_TRANSFORMED])))


def _encoded(text: str) -> Iterator[View]:
    decoders: tuple[tuple[str, re.Pattern[str], Callable[[str], bytes]], ...] = (
        ("base64", _BASE64, _base64),
        ("base32", _BASE32, lambda s: base64.b32decode(s.rstrip("=") + "=" * (-len(s.rstrip("=")) % 8))),
        ("hex", _HEX, bytes.fromhex),
        ("binary", _BITS, _bits),
        ("escapes", _ESCAPES, lambda s: s.encode("ascii").decode("unicode_escape").encode("utf-8", "replace")),
        ("percent encoding", _PERCENT, lambda s: unquote(s).encode("utf-8", "replace")),
    )
    for name, pattern, decode in decoders:
        found: list[str] = []
        for number, candidate in enumerate(pattern.finditer(text)):
            if number >= _MAX_CANDIDATES or sum(map(len, found)) > _MAX_DECODED:
                break
            readable = _readable(candidate[0], decode)
            if readable:
                found.append(readable)
        if found:
            yield View(name, fold("\n".join(found)))


def _base64(text: str) -> bytes:
    plain = text.rstrip("=").replace("-", "+").replace("_", "/")
    return base64.b64decode(plain[: len(plain) - (len(plain) % 4 == 1)] + "=" * (-len(plain) % 4), validate=True)


def _bits(text: str) -> bytes:
    bits = text.replace(" ", "")
    return bytes(int(bits[place : place + 8], 2) for place in range(0, len(bits), 8))


def _readable(raw: str, decode: Callable[[str], bytes]) -> str:
    try:
        text = decode(raw).decode("utf-8")
    except (binascii.Error, ValueError):
        return ""
    seen = sum(sign.isprintable() or sign in "\r\n\t" for sign in text)
    return text if seen >= 0.95 * len(text) else ""
