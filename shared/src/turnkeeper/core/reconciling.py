"""The ledger held against what the provider says was used and what it costs, day by day and model by model.

The provider counts by days of UTC, and by when it answered. A call that may be in either of two days (begun before a
midnight, answered after it) is in the bounds of both. An ``in_doubt`` call may have cost anything up to its amount, on
any day that it may have reached the provider. So each day and model has bounds, and the two sides agree where what the
provider says lies within them.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

from turnkeeper.core.errors import UnpricedModel
from turnkeeper.core.money import NANO
from turnkeeper.core.spending import LedgerCall, Tally
from turnkeeper.core.usage import Usage

#: A call that nobody saw the end of was at the provider this long at most.
_LONGEST_CALL = timedelta(minutes=20)
#: Money that the provider names no model for, such as that of web searches.
NO_MODEL = "(no model)"
#: An amount is exact to half a unit of its last place, and to half a cent at worst.
_HALF_A_CENT = Decimal("0.005") * NANO


@dataclass(frozen=True, slots=True)
class Used:
    """Tokens of a model on a day, of one kind of calls, as the provider counted them."""

    day: str
    model: str
    usage: Usage
    #: Of the tokens that were written to the cache, those that are kept for an hour.
    written_for_an_hour: int = 0
    searches: int = 0
    #: Of calls with more than 200,000 tokens of input.
    long_context: bool = False
    service_tier: str = "standard"
    inference_geo: str | None = None
    speed: str | None = None


@dataclass(frozen=True, slots=True)
class Charged:
    """Dollars for a day, and a model where it is a model's, as the provider charges them."""

    day: str
    model: str | None
    usd: Decimal

    @property
    def nanousd(self) -> Decimal:
        return self.usd * NANO

    @property
    def blur(self) -> Decimal:
        """By how much the amount may be rounded, in nano-dollars."""
        exponent = self.usd.as_tuple().exponent
        return min(_HALF_A_CENT, Decimal(5).scaleb(int(exponent) - 1) * NANO)


@dataclass(frozen=True, slots=True)
class Report:
    """What the provider says. The days are those that it tells of, also where there was nothing."""

    used: tuple[Used, ...] = ()
    charged: tuple[Charged, ...] = ()
    used_days: frozenset[str] = frozenset()
    charged_days: frozenset[str] = frozenset()

    @property
    def days(self) -> frozenset[str]:
        return self.used_days | self.charged_days

    def within(self, first: str, last: str) -> Report:
        """Of these days, both included."""

        def of(days: Iterable[str]) -> frozenset[str]:
            return frozenset(day for day in days if first <= day <= last)

        return Report(
            tuple(each for each in self.used if first <= each.day <= last),
            tuple(each for each in self.charged if first <= each.day <= last),
            of(self.used_days),
            of(self.charged_days),
        )


@dataclass(slots=True)
class Line:
    """One day and model, both sides. Money in nano-dollars."""

    day: str
    model: str
    ledger: Tally = field(default_factory=Tally)
    #: What the provider may have charged, by what the ledger knows.
    low: int = 0
    high: int = 0
    tokens: Usage | None = None
    charged: Decimal | None = None
    blur: Decimal = Decimal(0)
    #: The provider tells tokens, and nobody here can price them.
    unpriced: bool = False
    #: ``None``: the day is only judged as a whole, because the provider names no model for some of its money.
    agrees: bool | None = None

    @property
    def difference(self) -> Decimal:
        """What the provider charges beyond what was settled."""
        return (self.charged or Decimal(0)) - self.ledger.settled_nanousd

    def within(self) -> bool:
        charged = self.charged or Decimal(0)
        return not self.unpriced and self.low - self.blur <= charged <= self.high + self.blur

    def take(self, other: Line) -> None:
        self.ledger.merge(other.ledger)
        self.low += other.low
        self.high += other.high
        self.take_charged(other)

    def take_charged(self, other: Line) -> None:
        self.blur += other.blur
        self.unpriced |= other.unpriced
        if other.tokens is not None:
            self.tokens = (self.tokens or Usage()) + other.tokens
        if other.charged is not None:
            self.charged = (self.charged or Decimal(0)) + other.charged


@dataclass
class Reconciliation:
    lines: list[Line]
    total: Line
    #: Calls whose cost nobody knows for certain, by when they were made.
    in_doubt: list[LedgerCall]

    @property
    def agrees(self) -> bool:
        return self.total.agrees is True and all(line.agrees is not False for line in self.lines)


def reconcile(
    report: Report, calls: Iterable[LedgerCall], price: Callable[[Used], Decimal], now: datetime
) -> Reconciliation:
    """Hold the calls against the report, on the days that it tells of. ``price`` says in nano-dollars what tokens cost
    where the provider does not; it raises UnpricedModel."""
    lines: dict[tuple[str, str], Line] = {}
    names: dict[str, str] = {}
    days = report.days

    def line(day: str, model: str) -> Line:
        # Shown by the name that was met first: the ledger's, where it has one.
        name = names.setdefault(family(model), model)
        return lines.setdefault((day, family(model)), Line(day, name))

    total = Line("all", "all")
    in_doubt = []
    for call in calls:
        possible = _days_of(call, now)
        inside = [day for day in possible if day in days]
        if not inside:
            continue
        most = call.spent_nanousd + call.reserved_nanousd
        certain = call.spent_nanousd - call.in_doubt_nanousd
        for day in inside:
            at = line(day, call.model)
            at.low += certain if len(possible) == 1 else 0
            at.high += most
            at.blur += 2  # Each call is rounded up.
        if possible[0] in days:
            line(possible[0], call.model).ledger.add(call)
            total.ledger.add(call)
        total.low += certain if len(inside) == len(possible) else 0
        total.high += most
        if call.state in {"in_doubt", "pending"}:
            in_doubt.append(call)
    _provider_side(report, line, price)
    for each in lines.values():
        total.take_charged(each)
    _judge(list(lines.values()))
    total.agrees = total.within()
    ordered = sorted(lines.values(), key=lambda each: (each.day, each.model))
    return Reconciliation(ordered, total, sorted(in_doubt, key=lambda call: call.at))


def _provider_side(report: Report, line: Callable[[str, str], Line], price: Callable[[Used], Decimal]) -> None:
    for used in report.used:
        at = line(used.day, used.model)
        at.tokens = (at.tokens or Usage()) + used.usage
        if used.day not in report.charged_days:
            try:
                at.charged = (at.charged or Decimal(0)) + price(used)
                at.blur += 1
            except UnpricedModel:
                at.unpriced = True
    for charged in report.charged:
        at = line(charged.day, charged.model or NO_MODEL)
        at.charged = (at.charged or Decimal(0)) + charged.nanousd
        at.blur += charged.blur


def _judge(lines: list[Line]) -> None:
    """Each day and model by itself; a day with money of no model as a whole."""
    by_day: dict[str, list[Line]] = defaultdict(list)
    for each in lines:
        by_day[each.day].append(each)
    for day, of_day in by_day.items():
        if not any(each.model == NO_MODEL for each in of_day):
            for each in of_day:
                each.agrees = each.within()
            continue
        whole = Line(day, NO_MODEL)
        for each in of_day:
            whole.take(each)
        for each in of_day:
            each.agrees = whole.within() if each.model == NO_MODEL else None


def _days_of(call: LedgerCall, now: datetime) -> list[str]:
    """The days of UTC that the provider may have counted it in, one or two."""
    began = datetime.fromisoformat(call.at)
    seen = datetime.fromisoformat(call.resolved_at) if call.resolved_at else now
    ended = max(began, min(seen, began + _LONGEST_CALL))
    return sorted({moment.astimezone(UTC).date().isoformat() for moment in (began, ended)})


_NOISE = re.compile(r"-20\d{6}|-v\d+(:\d+)?$|-latest|@.*$")


def family(model: str) -> str:
    """What is equal for all names of one model: ``claude-haiku-4-5``, ``claude-haiku-4-5-20251001``,
    ``Claude Haiku 4.5``, ``us.anthropic.claude-haiku-4-5-20251001-v1:0``."""
    if model == NO_MODEL:
        return model
    name = re.sub(r"[\s._]+", "-", model.strip().lower().rpartition("anthropic.")[2])
    parts = [part for part in _NOISE.sub("", name).split("-") if part]
    words = sorted(part for part in parts if not part.isdigit())
    numbers = [part for part in parts if part.isdigit()]
    # claude-sonnet-4 and claude-sonnet-4-0 are one.
    return "-".join([*words, *(numbers[:-1] if numbers[1:] == ["0"] else numbers)])


def span_of(report: Report) -> tuple[date, date]:
    """The first and the last day that it tells of."""
    return date.fromisoformat(min(report.days)), date.fromisoformat(max(report.days))
