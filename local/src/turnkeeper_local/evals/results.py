"""What came of a run of cases: kept as JSON, held against an earlier one."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

Outcome = Literal["passed", "failed", "flaky", "error"]
#: A score may differ by this much from its baseline without being another.
TOLERANCE = 0.01


class _Document(BaseModel):
    model_config = ConfigDict(extra="ignore")


class Verdict(_Document):
    """One evaluator on one run of a case: a check has ``passed``, a measure has ``value``."""

    name: str
    value: float
    passed: bool | None = None
    reason: str = ""


class Run(_Document):
    """One run of a case."""

    verdicts: list[Verdict] = Field(default_factory=list)
    #: Why it could not be played, or an evaluator failed.
    error: str | None = None
    version: str | None = None
    cost_nanousd: int = 0
    steps: int = 0
    busy_ms: int = 0
    stop: str | None = None
    #: One line a step, for people who look at a failure.
    story: list[str] = Field(default_factory=list)

    @property
    def failed(self) -> list[Verdict]:
        return [verdict for verdict in self.verdicts if verdict.passed is False]

    @property
    def passed(self) -> bool:
        return self.error is None and not self.failed


class CaseResult(_Document):
    agent: str
    case: str
    file: str
    tags: list[str] = Field(default_factory=list)
    runs: list[Run]

    @property
    def name(self) -> str:
        return f"{self.agent}/{self.case}"

    @property
    def outcome(self) -> Outcome:
        """Flaky is what passes and fails; what fails each time is wrong."""
        passed = [run.passed for run in self.runs]
        if all(passed):
            return "passed"
        if any(passed):
            return "flaky"
        return "error" if any(run.error for run in self.runs) else "failed"

    @property
    def first_problem(self) -> str:
        for run in self.runs:
            if run.error:
                return run.error
            for verdict in run.failed:
                return f"{verdict.name}: {verdict.reason}"
        return ""


class Results(_Document):
    """A whole run."""

    turnkeeper: str
    at: str
    model: Literal["scripted", "live"] = "scripted"
    cases: list[CaseResult] = Field(default_factory=list)

    @property
    def ok(self) -> bool:
        return all(case.outcome == "passed" for case in self.cases)

    @classmethod
    def read(cls, path: Path) -> Results:
        """Raises OSError, ValueError."""
        return cls.model_validate_json(path.read_text())

    def write(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(self.model_dump_json(indent=1) + "\n")


@dataclass(frozen=True)
class Regression:
    """What is worse than it was: a check that fails where it passed, a measure that fell, a case that is gone, and
    what is new and fails."""

    case: str
    what: str
    why: str

    def __str__(self) -> str:
        return f"{self.case}: {self.what}: {self.why}"


def regressions(before: Results, now: Results, *, only: Iterable[str] | None = None) -> Iterator[Regression]:
    """Everything that is worse in ``now``. ``only`` names the cases that were to be run, where not all were."""
    found = {case.name: case for case in now.cases}
    wanted = None if only is None else set(only)
    for case in before.cases:
        if wanted is not None and case.name not in wanted:
            continue
        if case.name not in found:
            yield Regression(case.name, "the case", "is not there any more")
            continue
        yield from _worse(case, found[case.name])
    # A failure that no earlier run had is not a known one.
    known = {case.name for case in before.cases}
    for case in now.cases:
        if case.name not in known and case.outcome != "passed":
            yield Regression(case.name, "the case", f"is new, and does not pass: {case.first_problem}")


def _worse(before: CaseResult, now: CaseResult) -> Iterator[Regression]:
    errors = [run.error for run in now.runs if run.error]
    if errors and _broken(now) > _broken(before) + TOLERANCE:
        yield Regression(now.name, "the case", errors[0])
        return
    was, current = _shares(before), _shares(now)
    reasons = {verdict.name: verdict.reason for run in now.runs for verdict in run.verdicts if verdict.passed is False}
    for name, share in was.items():
        if name not in current:
            yield Regression(now.name, name, "is not scored any more")
        elif current[name] < share - TOLERANCE:
            yield Regression(now.name, name, reasons.get(name) or f"fell from {share:.2f} to {current[name]:.2f}")
    for name in sorted(reasons.keys() - was.keys()):
        yield Regression(now.name, name, f"is new, and fails: {reasons[name]}")


def _broken(case: CaseResult) -> float:
    """The share of runs that could not be played or judged."""
    return sum(run.error is not None for run in case.runs) / len(case.runs) if case.runs else 0.0


def _shares(case: CaseResult) -> dict[str, float]:
    """For checks the share of runs that pass, for measures the mean."""
    values: dict[str, list[float]] = defaultdict(list)
    for run in case.runs:
        for verdict in run.verdicts:
            values[verdict.name].append(float(verdict.passed) if verdict.passed is not None else verdict.value)
    return {name: sum(found) / len(found) for name, found in values.items()}
