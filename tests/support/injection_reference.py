"""The injection check as it is defined: every rule's pattern, and every reading's, run over the whole text.

``injection_patterns.json`` holds the patterns as they were before the check looked for their words. What the kit's
check finds has to be what this one finds, in any text. Who changes what a rule means, on purpose, changes both.
"""

from __future__ import annotations

import base64
import codecs
import html
import json
import re
import unicodedata
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final
from urllib.parse import unquote

from turnkeeper.adapters.injection import detector as kit
from turnkeeper.adapters.injection import text as readings
from turnkeeper.adapters.injection.decoding import _from_bits
from turnkeeper.core.suspicion import FLAG_AT, MAX_REASONS, Finding

_DATA: Final = json.loads(Path(__file__).with_name("injection_patterns.json").read_text(encoding="utf-8"))
_RULES: Final = [(topic, weight, re.compile(pattern, re.MULTILINE)) for topic, weight, pattern in _DATA["rules"]]
_STRONG: Final = [rule for rule in _RULES if rule[0] in {"override", "prompt leak"} and rule[1] >= FLAG_AT]
_ABOUT: Final = re.compile(_DATA["about"])
_VIEWS: Final = {
    name: re.compile(pattern, re.IGNORECASE if ignore_case else 0)
    for name, (pattern, ignore_case) in _DATA["views"].items()
}
_ACCENTS: Final = re.compile("[\u0300-\u036f]")
_SPECULATIVE: Final = {"rot13", "reversed", "digits for letters"}
_LOOK_ALIKES: Final = str.maketrans("авсԁеһіјӏкмоорԛгѕтυхуԝοαεικνρτηꜱɪ", "abcdehijlkmoopqrstuxywoaeiknptnsi")
_LEET: Final = str.maketrans("013457@$!|", "oieastasil")


def fold(text: str) -> str:
    text = readings._INVISIBLE.sub("", unicodedata.normalize("NFKC", text))
    if not text.isascii():
        text = (
            unicodedata.normalize("NFC", _ACCENTS.sub("", unicodedata.normalize("NFD", text)))
            .translate(readings._DRESSED)
            .replace("’", "'")
            .replace("ı", "i")
        )
    return re.sub(r"[^\S\n]+", " ", text.casefold().replace("&nbsp;", " "))


def check(text: str) -> Finding | None:
    if not text.strip():
        return None
    best = 0
    reasons: dict[str, int] = {}
    for name, weight in _marks(text):
        best = max(best, weight)
        reasons[name] = weight
    plain = 0
    for disguise, view in _views(text):
        score, topics = _score(disguise, view)
        if not disguise:
            plain = best = max(best, score)
        elif score > plain or (score and disguise not in _SPECULATIVE):
            if disguise in _SPECULATIVE and score < FLAG_AT:
                continue
            score += 250
            topics = {**topics, f"hidden: {disguise}": score}
        best = max(best, score)
        for topic, weight in topics.items():
            reasons[topic] = max(weight, reasons.get(topic, 0))
    if best < FLAG_AT:
        return None
    strongest = sorted(reasons, key=lambda name: (-reasons[name], name))
    return Finding(score=min(1000, best), reasons=tuple(strongest[:MAX_REASONS]))


def _score(disguise: str, text: str) -> tuple[int, dict[str, int]]:
    about = _ABOUT.search(text) is not None
    hits: list[tuple[int, str, int]] = []
    for topic, weight, pattern in _STRONG if disguise in _SPECULATIVE else _RULES:
        found = pattern.search(text)
        while found:
            counts = kit._weight(weight, text, found.start(), found.end(), about)
            hits.append((found.start(), topic, counts))
            found = pattern.search(text, found.end() if counts < weight else max(found.end(), found.start() + 200))
    hits.sort()
    best: tuple[int, dict[str, int]] = (0, {})
    for first, hit in enumerate(hits):
        topics: dict[str, int] = {}
        for start, topic, weight in hits[first:]:
            if start - hit[0] > 800:
                break
            topics[topic] = max(weight, topics.get(topic, 0))
        score = kit._together(topics.values())
        if score > best[0]:
            best = (score, topics)
    return best


def _marks(text: str) -> Iterator[tuple[str, int]]:
    tags = list(_VIEWS["tags"].finditer(text))
    if any(len(fold(readings._from_tags(f[0])).strip()) >= 4 and not readings._flag(text, f) for f in tags):
        yield "text in invisible tag characters", 600
    if _VIEWS["variation_bytes"].search(text):
        yield "bytes in variation selectors", 500
    if not text.isascii() and _VIEWS["split_words"].search(text):
        yield "words split by invisible characters", 300
    if _VIEWS["overrides"].search(text):
        yield "text direction overridden", 300


def _views(text: str) -> Iterator[tuple[str, str]]:
    plain = fold(text)
    yield "", plain
    tags = "".join(readings._from_tags(found[0]) for found in _VIEWS["tags"].finditer(text))
    unseen = "\n".join(found[1] for found in _VIEWS["unseen"].finditer(text))
    hidden = (
        ("invisible tag characters", tags),
        ("an HTML comment", readings._comments(text)),
        ("an element that is not shown", unseen),
        *_encoded(text),
    )
    for name, brought_to_light in hidden:
        if brought_to_light:
            yield name, fold(brought_to_light)
    if not plain.isascii() and _VIEWS["foreign_in_latin"].search(plain):
        yield "look-alike letters", plain.translate(_LOOK_ALIKES)
    spaced = _VIEWS["spaced"].sub(lambda found: re.sub(r"[ .*_-]", "", found[0]), plain)
    if spaced != plain:
        yield "spaced letters", spaced
    if len(_VIEWS["leet_word"].findall(plain)) >= 2:
        yield "digits for letters", plain.translate(_LEET)
    if len(plain) > 20:
        yield "rot13", codecs.encode(plain, "rot13")
        yield "reversed", plain[::-1]
    if _VIEWS["entities"].search(text):
        yield "character references", fold(html.unescape(text))


def _encoded(text: str) -> Iterator[tuple[str, str]]:
    decoders: dict[str, tuple[str, Callable[[str], Any]]] = {
        "base64": ("base64", _base64),
        "base32": ("base32", lambda s: base64.b32decode(s.rstrip("=") + "=" * (-len(s.rstrip("=")) % 8))),
        "hex": ("hex", bytes.fromhex),
        "bits": ("binary", _from_bits),
        "escapes": ("escapes", lambda s: s.encode("ascii").decode("unicode_escape").encode("utf-8", "replace")),
        "percent": ("percent encoding", lambda s: unquote(s).encode("utf-8", "replace")),
    }
    for view, (name, decode) in decoders.items():
        found = [readable for run in _VIEWS[view].finditer(text) if (readable := _readable(run[0], decode))]
        if found:
            yield name, "\n".join(found)


def _base64(text: str) -> bytes:
    plain = text.rstrip("=").replace("-", "+").replace("_", "/")
    return base64.b64decode(plain[: len(plain) - (len(plain) % 4 == 1)] + "=" * (-len(plain) % 4), validate=True)


def _readable(raw: str, decode: Callable[[str], Any]) -> str:
    try:
        text: str = decode(raw).decode("utf-8")
    except ValueError:
        return ""
    seen = sum(sign.isprintable() or sign in "\r\n\t" for sign in text)
    return text if seen >= 0.95 * len(text) else ""
