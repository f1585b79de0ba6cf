"""Whether numbers, dates and identifiers of an answer come from somewhere."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal, InvalidOperation

from turnkeeper.core.scoring import Score
from turnkeeper.core.trajectory import Trajectory

_NAMES = (
    *("january", "february", "march", "april", "may", "june"),
    *("july", "august", "september", "october", "november", "december"),
)
_MONTHS = {form: number for number, name in enumerate(_NAMES, start=1) for form in (name, name[:3])} | {"sept": 9}
_MONTH = "|".join(sorted(_MONTHS, key=len, reverse=True))
_DATES = (
    re.compile(r"(?<!\d)(?P<y>\d{4})-(?P<m>\d{2})-(?P<d>\d{2})(?!\d)"),
    re.compile(rf"\b(?P<d>\d{{1,2}})(?:st|nd|rd|th)?\.? (?:of )?(?P<n>{_MONTH})\.?,? (?P<y>\d{{4}})\b", re.IGNORECASE),
    re.compile(rf"\b(?P<n>{_MONTH})\.? (?P<d>\d{{1,2}})(?:st|nd|rd|th)?,? (?P<y>\d{{4}})\b", re.IGNORECASE),
)
#: Letters and digits in one word, with hyphens, underscores and slashes inside: INV-1001, a3f9c2, order_77.
_IDENTIFIER = re.compile(r"\b(?=[\w/-]*\d)(?=[\w/-]*[A-Za-z])[A-Za-z0-9](?:[\w/-]*[A-Za-z0-9])?\b")
_NUMBER = re.compile(r"(?<![\w.])[-−]?\d{1,3}(?:[,'’ ]\d{3})+(?:\.\d+)?(?![\w])|(?<![\w.])[-−]?\d+(?:\.\d+)?(?![\w])")
#: 1st, 2x, 30s, 5MB, 10k: a number with a unit, no name of something.
_WITH_UNIT = re.compile(r"\d+(?:st|nd|rd|th|x|s|ms|min|h|d|k|m|b|kb|mb|gb|tb|px|pm|am)", re.IGNORECASE)


@dataclass(frozen=True)
class Grounded:
    """Every number, date and identifier of the answer stands in a tool's result, in the user's own words or in the
    prompt. Numbers up to ``small`` are passed over, since answers count and number things; so are those that are the
    sum or the difference of two that were seen. Scores the share as ``grounded``; nothing where the answer has none, or
    no tool was asked.
    """

    at_least: float = 1.0
    small: int = 12

    def score(self, trajectory: Trajectory) -> Iterator[Score]:
        if not any(call.outcome == "ok" for call in trajectory.calls):
            return
        claims = facts(trajectory.output_text)
        sources = "\n".join([trajectory.system, *trajectory.inputs, *_seen(trajectory)])
        known = facts(sources)
        numbers = {fact for fact in known if isinstance(fact, Decimal)}
        # Whole words of the sources besides, in case an identifier is written in a way that is none by its shape.
        words = sources.casefold()
        claims = {one for one in claims if not (isinstance(one, Decimal) and abs(one) <= self.small)}
        if not claims:
            return
        unknown = sorted(
            str(one)
            for one in claims
            if one not in known
            and not (isinstance(one, str) and one.casefold() in words)
            and not (isinstance(one, Decimal) and _is_computed(one, numbers))
        )
        reason = f"all {len(claims)} facts of the answer were seen"
        if unknown:
            reason = f"{len(unknown)} of {len(claims)} facts were seen nowhere: {', '.join(unknown[:5])}"
        good = len(claims) - len(unknown)
        yield Score.share("grounded", good, len(claims), reason, at_least=self.at_least, seq=trajectory.last_seq)


def facts(text: str) -> set[str | Decimal | date]:
    """The dates, identifiers and numbers in a text, each in one form however it is written."""
    found: set[str | Decimal | date] = set()
    for pattern in _DATES:
        for match in pattern.finditer(text):
            if (day := _date_of(match)) is not None:
                found.add(day)
        text = pattern.sub(" ", text)
    for match in _IDENTIFIER.finditer(text):
        if not _WITH_UNIT.fullmatch(match.group()):
            found.add(match.group().casefold())
    text = _IDENTIFIER.sub(" ", text)
    for match in _NUMBER.finditer(text):
        digits = re.sub(r"[,'’ ]", "", match.group()).replace("−", "-")
        try:
            found.add(abs(Decimal(digits)).normalize())
        except InvalidOperation:
            continue
    return found


def _date_of(match: re.Match[str]) -> date | None:
    parts = match.groupdict()
    month = int(parts["m"]) if parts.get("m") else _MONTHS[parts["n"].lower()]
    try:
        return date(int(parts["y"]), month, int(parts["d"]))
    except ValueError:
        return None


def _seen(trajectory: Trajectory) -> Sequence[str]:
    return [call.result for call in trajectory.calls]


def _is_computed(number: Decimal, known: set[Decimal]) -> bool:
    """The sum or difference of two numbers that were seen, or of all of them; and what rounding makes of one."""
    if any(number - one in known or number + one in known for one in known):
        return True
    places = max(0, -int(number.as_tuple().exponent))
    return any(round(one, places) == number for one in known)
