"""Numbers, dates, times and identifiers in a text, in whatever form they are written."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import date
from decimal import Decimal

Reading = str | Decimal | date

_NAMES = (
    *("january", "february", "march", "april", "may", "june"),
    *("july", "august", "september", "october", "november", "december"),
)
_MONTHS = {form: number for number, name in enumerate(_NAMES, start=1) for form in (name, name[:3])} | {"sept": 9}
_MONTH = "|".join(sorted(_MONTHS, key=len, reverse=True))
#: Without a year only with a capital: "you may 5 times" is no date.
_CAPITAL = "|".join(form.capitalize() for form in sorted(_MONTHS, key=len, reverse=True))
_TH = r"(?:st|nd|rd|th)?"
_SIGN = r"(?<![\w.,])[-−]?"
_GROUPED = r"\d{1,3}(?:[,'’ ]\d{3})+(?:\.\d+)?|\d{1,2}(?:,\d{2})+,\d{3}(?:\.\d+)?"
_SCALES = {
    **dict.fromkeys(("k", "thousand"), 3),
    **dict.fromkeys(("m", "mn", "mio", "million"), 6),
    **dict.fromkeys(("b", "bn", "billion"), 9),
    "trillion": 12,
}
_SCALE = "|".join(sorted(_SCALES, key=len, reverse=True))
_UNITS = "st|nd|rd|th|x|s|ms|min|h|d|kb|mb|gb|tb|px|pm|am|kg|g|mg|km|cm|mm|ml|l"
_CURRENCY = "USD|EUR|GBP|CHF|JPY"
_MONEY = rf"(?P<money>[$€£¥]|\b(?:{_CURRENCY}) ?)?"
#: Right after a currency's letters the number begins without a gap.
_SIGN_AFTER_MONEY = r"(?:(?<![\w.])|(?<=USD|EUR|GBP|CHF|JPY))[-−]?"


@dataclass(frozen=True)
class Fact:
    """What is written, and what it may stand for: 05/03/2026 is one of two days."""

    text: str
    readings: frozenset[Reading]
    #: A bare whole number, as those are that count things.
    counts: bool = False


def facts_in(text: str) -> Iterator[Fact]:
    """Each as often as it is written; what is part of one is none of its own."""
    text = re.sub(r"(?<=\d)[\u00a0\u2009\u202f](?=\d)", " ", text)
    for pattern, read in _KINDS:
        for match in pattern.finditer(text):
            if readings := read(match):
                yield Fact(match.group().strip(), frozenset(readings), counts=_counts(match))
        text = pattern.sub(" ", text)


def _counts(match: re.Match[str]) -> bool:
    parts = match.groupdict()
    whole = "number" in parts and re.fullmatch(r"[-−]?\d+", parts["number"]) is not None
    return whole and not (parts.get("money") or parts.get("percent") or parts.get("scale") or parts.get("after"))


def _day(year: str, month: str | int, day: str) -> list[date]:
    try:
        return [date(int(year), int(month), int(day))]
    except ValueError:
        return []


def _named(match: re.Match[str]) -> list[Reading]:
    return [*_day(match["y"], _MONTHS[match["n"].lower()], match["d"])]


def _without_year(match: re.Match[str]) -> list[Reading]:
    month, day = _MONTHS[match["n"].lower()], int(match["d"])
    return [f"--{month:02d}-{day:02d}"] if 1 <= day <= 31 else []


def _by_numbers(match: re.Match[str]) -> list[Reading]:
    first, second, year = match["a"], match["b"], match["y"]
    return [*_day(year, first, second), *_day(year, second, first)]


def _time(match: re.Match[str]) -> list[Reading]:
    half = (match["half"] or "").lower()
    hour = int(match["h"]) % 12 + (12 if half == "pm" else 0) if half else int(match["h"])
    return [f"{hour:02d}:{match['m']}"] if hour < 24 else []


def _dotted(match: re.Match[str]) -> list[Reading]:
    """A version or an address; or a number, with dots between its thousands."""
    text = match.group().lower().removeprefix("v")
    if re.fullmatch(r"\d{1,3}(?:\.\d{3})+", text):
        return [text, _decimal(text.replace(".", ""))]
    return [text]


def _comma(match: re.Match[str]) -> list[Reading]:
    whole, _, part = match.group().partition(",")
    return [_decimal(f"{whole.replace('.', '')}.{part}"), *map(_decimal, (whole.replace(".", ""), part))]


def _number(match: re.Match[str]) -> list[Reading]:
    number = _decimal(match["number"])
    if scale := match["scale"]:
        # With the places that it was given, so that 1.2 million is what 1,234,567 may be rounded to.
        scaled = number.scaleb(_SCALES[scale.lower()])
        return [scaled, number] if len(scale) == 1 else [scaled]
    return [number, (number / 100).normalize()] if match["percent"] else [number]


def _decimal(digits: str) -> Decimal:
    number = abs(Decimal(re.sub(r"[,'’ ]", "", digits).replace("−", "-"))).normalize()
    return number if int(number.as_tuple().exponent) <= 0 or number.adjusted() > 25 else number.quantize(Decimal(1))


#: In this order: what one takes is gone for those behind it.
_KINDS: tuple[tuple[re.Pattern[str], Callable[[re.Match[str]], list[Reading]]], ...] = (
    (
        re.compile(r"(?<!\d)(?P<y>\d{4})-(?P<m>\d{2})-(?P<d>\d{2})(?!\d)"),
        lambda match: [*_day(match["y"], match["m"], match["d"])],
    ),
    (re.compile(rf"\b(?P<d>\d{{1,2}}){_TH}\.? (?:of )?(?P<n>{_MONTH})\.?,? (?P<y>\d{{4}})\b", re.IGNORECASE), _named),
    (re.compile(rf"\b(?P<n>{_MONTH})\.? (?P<d>\d{{1,2}}){_TH},? (?P<y>\d{{4}})\b", re.IGNORECASE), _named),
    (re.compile(r"(?<![\d/.])(?P<a>\d{1,2})[/.](?P<b>\d{1,2})[/.](?P<y>\d{4})(?![\d/])"), _by_numbers),
    (re.compile(rf"\b(?P<d>\d{{1,2}}){_TH}\.? (?:of )?(?P<n>{_CAPITAL})\b"), _without_year),
    (re.compile(rf"\b(?P<n>{_CAPITAL})\.? (?P<d>\d{{1,2}}){_TH}\b"), _without_year),
    (re.compile(r"(?<![\d:.])(?P<h>\d{1,2}):(?P<m>[0-5]\d)(?::\d{2}(?:\.\d+)?)?(?:\s?(?P<half>[ap]m)\b)?(?![\d:])",
                re.IGNORECASE), _time),
    (re.compile(r"(?<![\w.-])\+\d[\d ()/-]{6,18}\d\b"), lambda match: ["+" + re.sub(r"\D", "", match.group())]),
    (re.compile(r"\b(?:24/7|50/50)\b"), lambda _: []),
    (re.compile(r"(?<![\w.])[vV]?\d+(?:\.\d+){2,}(?![\w.]*\w|,\d)"), _dotted),
    (re.compile(rf"{_SIGN}\d{{1,3}}(?:\.\d{{3}})*,\d{{1,2}}(?![\w,])"), _comma),
    (re.compile(rf"{_SIGN}\d+(?:\.\d+)?[eE][+-]?\d+(?!\w)"),
     lambda match: [_decimal(match.group()), match.group().casefold()]),
    # Letters and digits in one word, with hyphens, underscores and slashes inside: INV-1001, a3f9c2, order_77. None are
    # 5kg, USD49 and 1.25bn. Looked for within bounds: a page of hyphens must not keep a scorer busy.
    (
        re.compile(
            rf"(?<!\d\.)\b(?!\d+(?:{_UNITS}|{_SCALE})(?![\w/-]))(?!(?:{_CURRENCY})\d+(?![\w/-]))"
            r"(?=[\w/-]{0,120}\d)(?=[\w/-]{0,120}[A-Za-z])[A-Za-z0-9](?:[\w/-]*[A-Za-z0-9])?\b",
            re.IGNORECASE,
        ),
        lambda match: [match.group().casefold()],
    ),
    (
        re.compile(
            rf"{_MONEY}(?P<number>{_SIGN_AFTER_MONEY}(?:{_GROUPED}|\d+(?:\.\d+)?))"
            rf"(?:(?P<percent> ?%| percent\b)| ?(?P<scale>{_SCALE})\b|(?: ?(?P<after>[$€£¥]|(?:{_CURRENCY})\b))"
            rf"|(?:{_UNITS})\b|(?!\w))",
            re.IGNORECASE,
        ),
        _number,
    ),
)  # fmt: skip
