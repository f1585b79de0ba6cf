"""Whether numbers, dates and identifiers of an answer come from somewhere."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from decimal import Decimal

from turnkeeper.core.scoring import Score
from turnkeeper.core.trajectory import Trajectory
from turnkeeper.evaluation.facts import Fact, Reading, facts_in


@dataclass(frozen=True)
class Grounded:
    """Every number, date and identifier of the answer stands in a tool's result, in the user's own words or in the
    prompt, in whatever form. Bare whole numbers up to ``small`` are passed over, since answers count and number things;
    so are those that are the sum or the difference of two that were seen, or one of them rounded. Scores the share as
    ``grounded``; nothing where the answer has none, or no tool was asked.
    """

    at_least: float = 1.0
    small: int = 12

    def score(self, trajectory: Trajectory) -> Iterator[Score]:
        if not any(call.outcome == "ok" for call in trajectory.calls):
            return
        claims = {one.readings: one for one in facts_in(trajectory.output_text) if not self._is_small(one)}
        if not claims:
            return
        results = [call.result for call in trajectory.calls]
        known = _Known("\n".join([trajectory.system, *trajectory.inputs, *results]))
        unknown = sorted(claim.text for claim in claims.values() if not known.has(claim))
        reason = f"all {len(claims)} facts of the answer were seen"
        if unknown:
            reason = f"{len(unknown)} of {len(claims)} facts were seen nowhere: {', '.join(unknown[:5])}"
        good = len(claims) - len(unknown)
        yield Score.share("grounded", good, len(claims), reason, at_least=self.at_least, seq=trajectory.last_seq)

    def _is_small(self, fact: Fact) -> bool:
        return fact.counts and all(isinstance(one, Decimal) and one <= self.small for one in fact.readings)


class _Known:
    """What was seen."""

    def __init__(self, sources: str) -> None:
        self._readings: set[Reading] = {reading for fact in facts_in(sources) for reading in fact.readings}
        days = [one for one in self._readings if isinstance(one, date)]
        self._readings |= {f"--{day:%m-%d}" for day in days} | {Decimal(day.year).normalize() for day in days}
        self._readings |= {Decimal(run).normalize() for one in self._texts() for run in re.findall(r"\d{3,}", one)}
        self._numbers = {one for one in self._readings if isinstance(one, Decimal)}
        self._words = sources.casefold()
        self._in_cents = re.search(r"cents?\b|minor", self._words) is not None

    def _texts(self) -> list[str]:
        return [one for one in self._readings if isinstance(one, str) and not one.startswith("--")]

    def has(self, claim: Fact) -> bool:
        return any(one in self._readings or self._has(one) for one in claim.readings)

    def _has(self, reading: Reading) -> bool:
        if isinstance(reading, Decimal):
            return (
                self._is_computed(reading)
                or (self._in_cents and reading * 100 in self._numbers)
                or self._begins(reading)
            )
        # Whole words of the sources besides, in case an identifier is written in a way that is none by its shape.
        word = rf"(?<![a-z0-9]){re.escape(reading)}(?![a-z0-9])" if isinstance(reading, str) else None
        return word is not None and re.search(word, self._words) is not None

    def _begins(self, number: Decimal) -> bool:
        """The beginning of a version: 3.11 of 3.11.4."""
        text = f"{number:f}."
        return "." in text[:-1] and any(one.startswith(text) for one in self._texts())

    def _is_computed(self, number: Decimal) -> bool:
        """The sum or difference of two numbers that were seen, or of all of them; and what rounding makes of one."""
        if any(number - one in self._numbers or number + one in self._numbers for one in self._numbers):
            return True
        exponent = Decimal(1).scaleb(int(number.as_tuple().exponent))
        return any(
            one.adjusted() < 25 and one.quantize(exponent) == number for one in self._numbers if one >= number / 2
        )


def facts(text: str) -> set[Reading]:
    """All that the facts in a text may stand for."""
    return {reading for fact in facts_in(text) for reading in fact.readings}
