"""Seeing a text as a model might: without disguise, and with what it hides brought to light.

:func:`views` gives the plain reading of a text and then every other reading that differs: invisible letters made
visible, look-alike letters, spaced letters, digits for letters, and what is encoded in it (``decoding``). All bounded,
all linear. Most texts hide nothing, so each reading begins with a test that costs next to nothing: whether the text has
the signs that it is made from. Where that is a question of letters next to each other, it is asked of a form of the
text with one byte for each letter's kind (:func:`kinds`).
"""

from __future__ import annotations

import functools
import html
import itertools
import re
import unicodedata
from collections.abc import Callable, Iterator, Mapping
from typing import Final

from turnkeeper.adapters.injection.decoding import decoded
from turnkeeper.adapters.injection.matcher import words_of
from turnkeeper.adapters.near import lowered

#: Longer inputs are examined up to here. A result is limited before it is shown to the model; check what is shown.
MAX_CHARS: Final = 400_000
_MAX_DECODED: Final = 20_000
#: Whole-text transformations are tried on texts up to this size only.
_MAX_TRANSFORMED: Final = 100_000

_INVISIBLE = re.compile(
    "[\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e\u2060-\u206f"
    "\u3164\ufe00-\ufe0f\ufeff\uffa0\U000e0000-\U000e0fff]"
)
_ACCENTS = re.compile("[\u0300-\u036f]")
#: All letters that have one, and others; and letters in another dress.
_MAY_HAVE_ACCENTS = re.compile(
    "[\u00c0-\u02af\u0300-\u052f\u1d00-\u1d22\u1e00-\u1fff\u2190-\u22ff\ua730\ua731\U0001f150-\U0001f1ff]"
)
#: Small capitals, and what NFKC leaves of letters in circles, in squares and of flags.
_DRESSED: Final = {
    **dict(zip(map(ord, "ᴀʙᴄᴅᴇꜰɢʜɪᴊᴋʟᴍɴᴏᴘʀꜱᴛᴜᴠᴡʏᴢ"), "abcdefghijklmnoprstuvwyz", strict=True)),
    **{start + place: chr(97 + place) for start in (0x1F150, 0x1F170, 0x1F1E6) for place in range(26)},
}
#: Two, since ``re`` is slow with letters of both planes in one set.
_ANY_DRESSED: Final = (
    re.compile(f"[{''.join(chr(letter) for letter in _DRESSED if letter < 0x10000)}]"),
    re.compile("[\U0001f150-\U0001f1ff]"),
)
#: What NFKC makes of the signs that alone call for it in most texts: one by one, these take a tenth of its time.
_COMMON_SIGNS: Final = [
    (sign, unicodedata.normalize("NFKC", sign)) for sign in "\u00a0…\u3000，！？：；（）／％～．０１２３４５６７８９"
]
#: The blanks that NFKC leaves, but for the usual one and the line end.
_BLANKS: Final = "\t\r\x0b\x0c\x1c\x1d\x1e\x1f\x85\u1680\u2028\u2029"
_SEVERAL_BLANKS = re.compile("  +")
_TAGS = re.compile("[\U000e0020-\U000e007e]{4,}")
_VARIATION_BYTES = re.compile("[\ufe00-\ufe0f\U000e0100-\U000e01ef]{8,}")
_SPLIT_WORDS = re.compile("(?i)[a-z](?:[\u00ad\u200b-\u200f\u2060-\u2064\ufeff]{1,4}[a-z]){3}")
_OVERRIDES = re.compile("[\u202d\u202e]")
_LOOK_ALIKES: Final = tuple(
    zip("авсԁеһіјӏкмоорԛгѕтυхуԝοαεικνρτηꜱɪ", "abcdehijlkmooрqrstuxywoaeiknptnsi".replace("р", "p"), strict=True)
)
_SPACED = re.compile(r"(?<![^\W_])(?:[^\W_][ .*_-]){4,200}[^\W_](?![^\W_])")
_ALTERNATING = re.compile(rb"(?:as)+a")
_LEET: Final = bytes.maketrans(b"013457@$!|", b"oieastasil")
_LEET_WORD = re.compile(
    r"(?<![\w#$.,%-])(?=[0-9@$!|]{0,8}[a-z])(?=[a-z]{0,12}[013457@$!|])[a-z013457@$!|]{3,20}(?![\w.,%]\d)"
)
_LOWER: Final = b"abcdefghijklmnopqrstuvwxyz"
_ROT13: Final = bytes.maketrans(_LOWER, _LOWER[13:] + _LOWER[:13])
_ENTITIES = re.compile(r"&#x?[0-9A-Fa-f]{2,6};[^&]{0,3}(?:&#x?[0-9A-Fa-f]{2,6};[^&]{0,3}){5}")

_HIDING: Final = (
    r"display\s{0,2}:\s{0,2}none|visibility\s{0,2}:\s{0,2}hidden|opacity\s{0,2}:\s{0,2}0(?![.\d])"
    r"|font-size\s{0,2}:\s{0,2}[01](?:px|pt|em)?(?![.\d])|color\s{0,2}:\s{0,2}(?:white|#fff(?:fff)?\b|transparent)|text-indent\s{0,2}:\s{0,2}-\d"
)
_UNSEEN = re.compile(
    rf"<(?:[a-z][a-z0-9]{{0,10}})\s[^<>]{{0,400}}(?:{_HIDING}|\bhidden\b|aria-hidden)[^<>]{{0,400}}>([^<]{{1,4000}})",
    re.IGNORECASE,
)
#: One of these stands in each of those tags, so far at most behind its beginning, and begins what hides.
_UNSEEN_WORDS: Final = ("display", "visibility", "opacity", "font-size", "color", "text-indent", "hidden")
_HIDES = re.compile(f"{_HIDING}|hidden", re.IGNORECASE)
_UNSEEN_REACH: Final = 1 + 11 + 1 + 400


def _table(**groups: bytes) -> bytes:
    """Each byte's kind, by the kinds' letters. What is of no group is a blank."""
    table = bytearray(b" " * 256)
    for kind, members in groups.items():
        for member in members:
            table[member] = ord(kind)
    return bytes(table)


_LATER_BYTES: Final = bytes(range(0x80, 0xC0))
_OTHER_SCRIPTS: Final = bytes(range(0xC0, 0x100))
#: (a)lphanumeric, or of another script, and what (s)eparates spaced letters.
_SPACED_KINDS: Final = _table(a=_LOWER + _LOWER.upper() + b"0123456789" + _OTHER_SCRIPTS, s=b" .*_-")
#: (l)atin, and what begins a letter of Greek, Cyrillic or Armenian in UTF-8: U+0340 to U+05BF.
_MIXED_KINDS: Final = _table(l=_LOWER + _LOWER.upper(), g=bytes(range(0xCD, 0xD7)))
#: (l)etter and (d)igit, or a sign that is taken for a letter.
_LEET_KINDS: Final = _table(l=_LOWER, d=b"0123456789@$!|")
_FOREIGN_IN_LATIN = re.compile("[a-z][\u0370-\u052f\u0531-\u0587]|[\u0370-\u052f\u0531-\u0587][a-z]", re.IGNORECASE)


class View:
    """One reading of a text, made when it is asked for and folded: lower case, without accents and invisible signs."""

    def __init__(self, disguise: str, read: Callable[[], str], holds: Callable[[], bool] = lambda: True) -> None:
        #: Empty for the plain reading, else how the text was hidden.
        self.disguise = disguise
        self._read = read
        #: Asked where something was found in this reading: whether the text can really be read so.
        self.holds = holds

    @functools.cached_property
    def text(self) -> str:
        return self._read()

    @functools.cached_property
    def words(self) -> str:
        """The text's words, as patterns' literals are looked for in it."""
        return words_of(self.text)


def any_invisible(text: str) -> bool:
    """Whether signs that are not seen stand in the text."""
    return not text.isascii() and _INVISIBLE.search(text) is not None


def fold(text: str, *, invisible: bool = True) -> str:
    """NFKC, lower case, no accents, no invisible signs, single blanks (``&nbsp;`` is one); line ends stay.

    ``invisible`` where such signs may be in it.
    """
    if not text.isascii():
        if not unicodedata.is_normalized("NFKC", text):
            for sign, plain in _COMMON_SIGNS:
                text = text.replace(sign, plain)
            text = unicodedata.normalize("NFKC", text)
        text, removed = _INVISIBLE.subn("", text) if invisible else (text, 0)
        if removed or _MAY_HAVE_ACCENTS.search(text):
            text = without_accents(text)
            if any(letters.search(text) for letters in _ANY_DRESSED):
                text = text.translate(_DRESSED)
        text = text.replace("’", "'").replace("ı", "i")
    text = text.casefold().replace("&nbsp;", " ")
    for blank in _BLANKS:
        if blank in text:
            text = text.replace(blank, " ")
    return _SEVERAL_BLANKS.sub(" ", text) if "  " in text else text


def without_accents(text: str) -> str:
    """In NFC, so that letters are one sign again that are so in their script: ``プ``, ``지``, ``أ``."""
    return unicodedata.normalize("NFC", _ACCENTS.sub("", unicodedata.normalize("NFD", text)))


def kinds(text: str, table: bytes) -> bytes:
    """One byte for each character: its kind, by the first byte that it has in UTF-8."""
    return text.encode("utf-8", "surrogatepass").translate(table, b"" if text.isascii() else _LATER_BYTES)


def views(text: str, *, invisible: bool = True) -> Iterator[View]:
    """The plain reading first, then the others that the text gives rise to.

    ``invisible`` where such signs may be in it.
    """
    plain = fold(text, invisible=invisible)
    yield View("", lambda: plain)
    for name, brought_to_light in itertools.chain(_hidden(text, invisible), decoded(text)):
        yield View(name, functools.partial(fold, brought_to_light))
    yield from _disguised(text, plain)
    yield from _transformed(plain)


def marks(text: str) -> Iterator[tuple[str, int]]:
    """Traces of hiding that count by themselves, with their weight, in a text with invisible signs."""
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


def _hidden(text: str, invisible: bool) -> Iterator[tuple[str, str]]:
    if invisible:
        tags = "".join(_from_tags(found[0]) for found in _TAGS.finditer(text))
        if tags:
            yield "invisible tag characters", tags
    if "<" in text:
        comments = _comments(text)
        if comments:
            yield "an HTML comment", comments
        unseen = "\n".join(_unseen(text))
        if unseen:
            yield "an element that is not shown", unseen


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


def _unseen(text: str) -> Iterator[str]:
    """What stands in elements that are not shown: only tags with a word that may say so are looked at."""
    lower = lowered(text)
    tags = {
        lower.rfind("<", max(0, place - _UNSEEN_REACH), place)
        for word in _UNSEEN_WORDS
        for place in _all(lower, word)
        if _HIDES.match(text, place)
    }
    end = 0
    for tag in sorted(tags - {-1}):
        found = _UNSEEN.match(text, tag) if tag >= end else None
        if found:
            end = found.end()
            yield found[1]


def _all(text: str, word: str) -> Iterator[int]:
    place = text.find(word)
    while place >= 0:
        yield place
        place = text.find(word, place + 1)


def _disguised(text: str, plain: str) -> Iterator[View]:
    if not plain.isascii():
        mixed = kinds(plain, _MIXED_KINDS)
        if (b"lg" in mixed or b"gl" in mixed) and _FOREIGN_IN_LATIN.search(plain):
            yield View("look-alike letters", lambda: _in_latin(plain))
    spaced = _unspaced(plain)
    if spaced != plain:
        yield View("spaced letters", lambda: spaced)
    if "&#" in text and _ENTITIES.search(text):
        yield View("character references", lambda: fold(html.unescape(text[:_MAX_TRANSFORMED])))


def _in_latin(text: str) -> str:
    for foreign, letter in _LOOK_ALIKES:
        text = text.replace(foreign, letter)
    return text


def _transformed(plain: str) -> Iterator[View]:
    """Read out of every text, and so only worth looking at where something stands in them."""
    whole = len(plain) <= _MAX_TRANSFORMED
    start = plain if whole else plain[:_MAX_TRANSFORMED]
    leet = kinds(start, _LEET_KINDS)
    if leet.count(b"ld") + leet.count(b"dl") >= 2:
        yield View("digits for letters", lambda: _translated(start, _LEET), lambda: _has_leet_words(start))
    if whole and len(plain) > 20:
        for name, respelled in RESPELLED.items():
            yield View(name, functools.partial(respelled, plain))


def _translated(text: str, table: bytes) -> str:
    """``str.translate`` for ASCII only: many times faster where a text has other letters as well."""
    return text.encode("utf-8", "surrogatepass").translate(table).decode("utf-8", "surrogatepass")


#: Readings that spell each letter otherwise: what reads as a literal is what these make of the literal.
RESPELLED: Final[Mapping[str, Callable[[str], str]]] = {
    "rot13": lambda text: _translated(text, _ROT13),
    "reversed": lambda text: text[::-1],
}


def _unspaced(plain: str) -> str:
    """Spaced letters drawn together, looked for where letters and separators take turns."""
    alternating = kinds(plain, _SPACED_KINDS)
    pieces: list[str] = []
    last = 0
    start = alternating.find(b"asasasasa")
    while start >= 0:
        stretch = _ALTERNATING.match(alternating, start)
        assert stretch
        # With the sign behind it, on which it depends whether the last letter stands alone.
        for found in _SPACED.finditer(plain, start, stretch.end() + 1):
            pieces += [plain[last : found.start()], re.sub(r"[ .*_-]", "", found[0])]
            last = found.end()
        start = alternating.find(b"asasasasa", stretch.end())
    return "".join([*pieces, plain[last:]]) if pieces else plain


def _has_leet_words(plain: str) -> bool:
    words = _LEET_WORD.finditer(plain)
    return next(words, None) is not None and next(words, None) is not None
