"""Evaluators of tool calls: that they could be made at all, and that they were those that a case asks for."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from turnkeeper.core.breakers import call_hash
from turnkeeper.core.scoring import Score
from turnkeeper.core.trajectory import Call, Trajectory
from turnkeeper.evaluation.schema import misfit

Mode = Literal["exact", "in_order", "any_order", "subset"]


@dataclass(frozen=True)
class ToolCallsValid:
    """Every call names a tool that exists and that the session was granted, with arguments that fit its schema.

    A name that no tool ever had is a hallucinated one. Scores the share of valid calls as ``tool_calls_valid``; nothing
    where no call was made.
    """

    at_least: float = 1.0

    def score(self, trajectory: Trajectory) -> Iterator[Score]:
        problems = [(call, problem) for call in trajectory.calls if (problem := _problem(call, trajectory))]
        total = len(trajectory.calls)
        if not total:
            return
        reason = f"all {total} calls could be made"
        if problems:
            reason = f"{len(problems)} of {total} calls could not be made; the first: {problems[0][1]}"
        seq = problems[0][0].seq if problems else None
        good = total - len(problems)
        yield Score.share("tool_calls_valid", good, total, reason, at_least=self.at_least, seq=seq)


def _problem(call: Call, trajectory: Trajectory) -> str | None:
    definition = trajectory.tools.get(call.tool)
    if definition is None:
        return f"there is no tool {call.tool!r}"
    if call.tool not in trajectory.granted_tools:
        return f"{call.tool} was not granted to this session"
    if call.raw_input is not None:
        return f"the arguments of {call.tool} are no JSON object"
    if definition.input_schema is None:
        return None
    wrong = misfit(definition.input_schema, dict(call.arguments), whole="the arguments")
    return None if wrong is None else f"{call.tool}: {wrong}"


@dataclass(frozen=True)
class ExpectedCall:
    """A call as a case describes it. Arguments that are not named may be anything; a value ``{"matches": "PATTERN"}``
    takes any text that the regular expression matches as a whole."""

    tool: str
    arguments: Mapping[str, Any] = field(default_factory=dict)
    #: ``ok`` and the like, where it matters what came of it.
    outcome: str | None = None

    def fits(self, call: Call) -> bool:
        return (
            call.tool == self.tool
            and self.outcome in (None, call.outcome)
            and all(name in call.arguments and _same(call.arguments[name], v) for name, v in self.arguments.items())
        )

    def __str__(self) -> str:
        return f"{self.tool}({', '.join(f'{name}={value!r}' for name, value in self.arguments.items())})"


def _same(made: Any, wanted: Any) -> bool:
    if isinstance(wanted, Mapping) and wanted.keys() == {"matches"}:
        return isinstance(made, str) and re.fullmatch(str(wanted["matches"]), made, re.DOTALL) is not None
    # As the breakers see it: neither the order of keys nor 1.0 for 1 makes another call.
    return call_hash("", {"value": made}) == call_hash("", {"value": wanted})


@dataclass(frozen=True)
class CallsMatch:
    """The calls are those that are expected: ``exact`` (these and no others, in this order), ``in_order`` (these in
    this order, others between them), ``any_order`` (these, and others, in whatever order), ``subset`` (nothing but
    these, not necessarily all of them). Scores the share that is as expected as ``calls_match``.
    """

    calls: Sequence[ExpectedCall | Mapping[str, Any] | str]
    mode: Mode = "in_order"

    def __post_init__(self) -> None:
        if self.mode not in get_args(Mode):
            raise ValueError(f"mode is one of {', '.join(get_args(Mode))}, not {self.mode!r}")
        for call in self.calls:
            _expected(call)

    def score(self, trajectory: Trajectory) -> Iterator[Score]:
        expected = [_expected(call) for call in self.calls]
        made = trajectory.calls
        told = " → ".join(call.tool for call in made) or "none"
        if self.mode == "subset":
            yield _nothing_else(expected, made)
            return
        missing = _missing(expected, made, ordered=self.mode != "any_order")
        extra = len(made) - len(expected) if self.mode == "exact" and not missing else 0
        total = max(len(expected) + extra, 1)
        reason = f"as expected: {told}"
        if missing:
            reason = f"not made{' in its place' if self.mode != 'any_order' else ''}: {missing[0]}; made were: {told}"
        elif extra:
            reason = f"{extra} calls more than expected: {told}"
        seq = (made[-1].seq if made else None) if missing or extra else None
        yield Score.share("calls_match", total - len(missing) - extra, total, reason, seq=seq)


def _nothing_else(expected: Sequence[ExpectedCall], made: Sequence[Call]) -> Score:
    strange = [call for call in made if not any(one.fits(call) for one in expected)]
    if not strange:
        return Score.check("calls_match", True, "nothing else was called")
    reason = f"a call that is not among the expected: {strange[0].tool}"
    return Score.share("calls_match", len(made) - len(strange), len(made), reason, seq=strange[0].seq)


def _expected(call: ExpectedCall | Mapping[str, Any] | str) -> ExpectedCall:
    match call:
        case ExpectedCall():
            return call
        case str():
            return ExpectedCall(call)
        case _:
            return ExpectedCall(**call)


def _missing(expected: Sequence[ExpectedCall], made: Sequence[Call], *, ordered: bool) -> list[ExpectedCall]:
    """The expected calls that no made call stands for; each made call stands for one at most."""
    missing: list[ExpectedCall] = []
    left = list(made)
    for one in expected:
        found = next((index for index, call in enumerate(left) if one.fits(call)), None)
        if found is None:
            missing.append(one)
        elif ordered:
            left = left[found + 1 :]
        else:
            del left[found]
    return missing


@dataclass(frozen=True)
class ForbiddenCalls:
    """None of these tools was run. A call that was denied does no harm, but counts as an attempt: ``attempts=True``
    forbids that too."""

    tools: Sequence[str]
    attempts: bool = False

    def score(self, trajectory: Trajectory) -> Iterator[Score]:
        made = [call for call in trajectory.calls if call.tool in self.tools]
        if not self.attempts:
            made = [call for call in made if call.outcome not in ("denied", "error")]
        reason = f"{made[0].tool} was called: {made[0].outcome}" if made else f"not called: {', '.join(self.tools)}"
        yield Score.check("forbidden_calls", not made, reason, made[0].seq if made else None)
