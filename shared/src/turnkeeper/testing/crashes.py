"""Where a runner dies: at one write of a run, or at every write of a scenario, one after the other."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Protocol, TypeVar

from turnkeeper.testing.fakes import Execution
from turnkeeper.testing.faulty_table import Call, Crash
from turnkeeper.testing.runs import Run, once_twice, outcome_of

When = Literal["before", "after"]
BOTH: tuple[When, ...] = ("before", "after")


@dataclass
class CrashPoint:
    """Counts the writes of runners, and lets one of them be the last."""

    #: From 1; ``None``: nobody dies.
    at: int | None = None
    #: ``before``: nothing of it was written; ``after``: all of it was, and the runner never heard.
    when: When = "after"
    #: Only what runners write is counted: not what takes an input in, not the sweep.
    counting: bool = False
    #: That were made.
    writes: int = 0

    def __call__(self, when: When, call: Call) -> None:
        if not (self.counting and call.writes):
            return
        # Of a write that is refused nobody hears afterwards: only what was written counts.
        self.writes += when == "after"
        if self.at is not None and when == self.when and self.writes == self.at - (when == "before"):
            self.at = None
            raise Crash(f"the runner dies {when} a write, after {self.writes}")


class Crashes(Protocol):
    """Where a scenario is played: a workbench."""

    @property
    def writes(self) -> int: ...

    @property
    def executions(self) -> list[Execution]: ...

    def crash_at(self, write: int, when: When = "after") -> None: ...


B = TypeVar("B", bound=Crashes)


@dataclass(frozen=True, slots=True)
class Crashed:
    """A scenario with a crash in it, after it was recovered from."""

    write: int
    when: When
    run: Run


def no_check(run: Run) -> None:
    """Nothing more than what is checked anyway."""


def everywhere(
    fresh: Callable[[], B],
    scenario: Callable[[B], Run],
    check: Callable[[Run], None] = no_check,
) -> list[Crashed]:
    """Play the scenario, then again with a crash before and after each write of its runners.

    Raises:
        AssertionError: one of them ends otherwise than without a crash (status, stop reason, last words), leaves
            something behind (:meth:`Run.assert_settled`), runs a call of a ``once`` tool twice, or fails ``check``.
    """
    calm = fresh()
    expected = outcome_of(run := scenario(calm))
    check(run)
    assert calm.writes, "the scenario ran nothing"
    crashed: list[Crashed] = []
    for write in range(1, calm.writes + 1):
        for when in BOTH:
            bench = fresh()
            bench.crash_at(write, when)
            where = f"with a crash {when} write {write} of {calm.writes}"
            try:
                run = scenario(bench)
                run.assert_settled()
                assert outcome_of(run) == expected, f"ends as {outcome_of(run)}, not as {expected}"
                twice = once_twice(bench.executions)
                assert not twice, f"run twice: {', '.join(twice)}"
                check(run)
            except AssertionError as error:
                raise AssertionError(f"{where}: {error}") from error
            crashed.append(Crashed(write, when, run))
    return crashed
