"""`turnkeeper eval compare`: two runs of cases, or two versions in use, side by side."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from turnkeeper.runtime.store.scores import MILLI, Sums
from turnkeeper_local.cli.errors import UsageError
from turnkeeper_local.evals.results import Results

if TYPE_CHECKING:
    from rich.console import Console

#: Of a normal distribution: 95 % of it.
_Z = 1.96


@dataclass(frozen=True)
class Measure:
    """A mean with its 95 % interval, of so many. Where nobody knows how far the values spread it has no interval."""

    mean: float
    low: float | None
    high: float | None
    count: int

    @classmethod
    def of_share(cls, good: int, count: int) -> Measure:
        """Wilson's interval: right for few, and for shares near 0 and 1."""
        share = good / count
        middle = (share + _Z**2 / (2 * count)) / (1 + _Z**2 / count)
        half = _Z / (1 + _Z**2 / count) * math.sqrt(share * (1 - share) / count + _Z**2 / (4 * count**2))
        return cls(share, max(0.0, middle - half), min(1.0, middle + half), count)

    @classmethod
    def of_sums(cls, total: float, squares: float, count: int) -> Measure:
        mean = total / count
        if count == 1:
            return cls(mean, None, None, 1)
        variance = max(0.0, squares / count - mean**2) * count / (count - 1)
        half = _Z * math.sqrt(variance / count)
        return cls(mean, mean - half, mean + half, count)

    @classmethod
    def of_values(cls, values: Iterable[float]) -> Measure | None:
        found = list(values)
        return cls.of_sums(sum(found), sum(value**2 for value in found), len(found)) if found else None

    def differs_from(self, other: Measure) -> bool:
        """The intervals do not touch. Of two bare means nobody can say whether they differ by more than chance."""
        if self.low is None or self.high is None or other.low is None or other.high is None:
            return False
        return self.low > other.high or self.high < other.low


Side = Mapping[str, Measure]


@dataclass(frozen=True)
class Compared:
    names: tuple[str, str]
    sides: tuple[Side, Side]

    def document(self) -> dict[str, Any]:
        first, second = self.sides
        return {
            "a": self.names[0],
            "b": self.names[1],
            "measures": {
                name: {
                    "a": vars(first[name]) if name in first else None,
                    "b": vars(second[name]) if name in second else None,
                    "differs": name in first and name in second and first[name].differs_from(second[name]),
                }
                for name in dict.fromkeys([*first, *second])
            },
        }

    def show(self, console: Console) -> None:
        from rich.table import Table

        table = Table(box=None, pad_edge=False, header_style="dim")
        table.add_column("")
        for name in self.names:
            table.add_column(name, justify="right")
        table.add_column("")
        for name, both in self.document()["measures"].items():
            table.add_row(name, _told(both["a"]), _told(both["b"]), "differs" if both["differs"] else "")
        console.print(table)


def _told(measure: Mapping[str, Any] | None) -> str:
    if measure is None:
        return "-"
    if measure["low"] is None:
        return f"{measure['mean']:.3g} (of {measure['count']})"
    return f"{measure['mean']:.3g} ({measure['low']:.3g} to {measure['high']:.3g}, of {measure['count']})"


def compare_both(before: str, after: str, *, stack: str | None, days: int) -> Compared:
    """Two files of results, or two versions of an agent as ``AGENT@VERSION`` (the beginning of a version is enough).

    Raises:
        UsageError: it is neither, or nothing is known of it.
    """
    return Compared((before, after), (_side(before, stack, days), _side(after, stack, days)))


def _side(name: str, stack: str | None, days: int) -> Side:
    agent, at, version = name.rpartition("@")
    if at and not Path(name).exists():
        return _of_version(agent, version, stack, days)
    try:
        return of_results(Results.read(Path(name)))
    except (OSError, ValueError) as error:
        raise UsageError(f"{name} is neither a file of results nor AGENT@VERSION: {error}", code="usage") from error


def of_results(results: Results) -> dict[str, Measure]:
    """Checks by the share of runs that pass, measures, and what runs took."""
    runs = [run for case in results.cases for run in case.runs if run.error is None]
    verdicts = [verdict for run in runs for verdict in run.verdicts]
    side: dict[str, Measure] = {}
    for name in dict.fromkeys(verdict.name for verdict in verdicts):
        mine = [verdict for verdict in verdicts if verdict.name == name]
        checks = [verdict.passed for verdict in mine if verdict.passed is not None]
        measure = Measure.of_values(verdict.value for verdict in mine)
        if checks:
            side[name] = Measure.of_share(sum(checks), len(checks))
        elif measure is not None:
            side[name] = measure
    for name, values in (
        ("cost_usd", [run.cost_nanousd / 1e9 for run in runs]),
        ("steps", [float(run.steps) for run in runs]),
        ("busy_seconds", [run.busy_ms / 1000 for run in runs]),
    ):
        if (measure := Measure.of_values(values)) is not None:
            side[name] = measure
    return side


def _of_version(agent: str, version: str, stack: str | None, days: int) -> Side:
    from turnkeeper_local.cli.operator import connect
    from turnkeeper_local.cli.place import find

    now = datetime.now(UTC)
    found = connect(find(stack)).sums(agent, now - timedelta(days=days), now + timedelta(hours=1))
    known = [one for one in found if one.startswith(version)] if version else []
    if len(known) != 1:
        there = ", ".join(sorted(one[:12] for one in found)) or "none"
        what = "more than one version" if known else "no version"
        raise UsageError(f"{what} of {agent} begins with {version!r}; scored were: {there}", code="no_version")
    return of_sums(found[known[0]])


def of_sums(sums: Sums) -> dict[str, Measure]:
    """What an hour's sums tell of a version: measures by their mean, checks by the share of turns that pass."""
    side: dict[str, Measure] = {}
    for name, (count, total, squares, failed) in sums.scores.items():
        whole = total == (count - failed) * MILLI  # yes and no only
        side[name] = (
            Measure.of_share(count - failed, count)
            if whole
            else Measure.of_sums(total / MILLI, squares / MILLI**2, count)
        )
    if sums.turns:
        side["tripped"] = Measure.of_share(sums.trips, sums.turns)
        for name, total_of in (
            ("cost_usd", sums.cost_nanousd / 1e9),
            ("steps", float(sums.steps)),
            ("busy_seconds", sums.busy_ms / 1000),
        ):
            mean = total_of / sums.turns
            side[name] = Measure(mean, None, None, sums.turns)
    return side
