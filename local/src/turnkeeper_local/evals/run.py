"""Running cases, many at once."""

from __future__ import annotations

import asyncio
import functools
import os
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from copy import copy
from datetime import UTC, datetime
from importlib.metadata import version

from pydantic_evals.reporting import EvaluationReport, ReportCase

from turnkeeper.core.trajectory import Trajectory
from turnkeeper_local.evals.case import About, CaseSet, Inputs, OneCase
from turnkeeper_local.evals.cases import Suite
from turnkeeper_local.evals.judged import STAGE
from turnkeeper_local.evals.play import Stage, Unplayable, play, quietly
from turnkeeper_local.evals.results import CaseResult, Results, Run, Verdict

Report = EvaluationReport[Inputs, Trajectory, About]
Progress = Callable[[int, int], None]


def chosen(suite: Suite, *, filters: Sequence[str] = (), tags: Sequence[str] = (), live: bool = False) -> list[OneCase]:
    """The cases of a suite that have one of the words in their name, and one of the tags, where any are given. An
    evaluator that a case names takes the place of the same one of its file."""

    def wanted(case: OneCase) -> bool:
        named = not filters or any(word in f"{suite.agent}/{case.name}" for word in filters)
        tagged = not tags or bool(set(tags) & set(case.metadata.tags if case.metadata else ()))
        return named and tagged and (case.inputs.live or not live)

    found = [copy(case) for case in suite.dataset.cases if wanted(case)]
    for case in found:
        kinds = {type(one) for one in case.evaluators}
        case.evaluators = [*case.evaluators, *(one for one in suite.dataset.evaluators if type(one) not in kinds)]
    return found


def run(
    stage: Stage,
    suites: Iterable[Suite],
    *,
    filters: Sequence[str] = (),
    tags: Sequence[str] = (),
    repeat: int = 1,
    at_once: int | None = None,
    progress: Progress = lambda _done, _total: None,
) -> Results:
    """Play and score the chosen cases. Never raises for what a case does: that is a result."""
    live = stage.live is not None
    parts = [(suite, chosen(suite, filters=filters, tags=tags, live=live)) for suite in suites]
    total = repeat * sum(len(cases) for _, cases in parts)
    at_once = at_once or (4 if live else os.cpu_count() or 2)
    results = Results(
        turnkeeper=version("turnkeeper"),
        at=datetime.now(UTC).isoformat(timespec="seconds"),
        model="live" if live else "scripted",
    )
    done = 0

    def tick() -> None:
        nonlocal done
        done += 1
        progress(done, total)

    STAGE.set(stage)
    with quietly(), ThreadPoolExecutor(at_once, thread_name_prefix="case") as pool:
        for suite, cases in parts:
            if cases:
                report = asyncio.run(_evaluate(stage, suite, cases, repeat, pool, tick))
                results.cases.extend(_results(suite, report))
    return results


async def _evaluate(
    stage: Stage, suite: Suite, cases: list[OneCase], repeat: int, pool: ThreadPoolExecutor, tick: Callable[[], None]
) -> Report:
    dataset = CaseSet(name=suite.agent, cases=cases)

    async def task(inputs: Inputs) -> Trajectory:
        try:
            return await asyncio.get_running_loop().run_in_executor(
                pool, functools.partial(play, stage, suite.agent, inputs)
            )
        finally:
            tick()

    return await dataset.evaluate(task, name=suite.agent, progress=False, repeat=repeat)


def _results(suite: Suite, report: Report) -> list[CaseResult]:
    """By case, in the order of the file."""
    runs: dict[str, list[Run]] = defaultdict(list)
    for case in report.cases:
        runs[case.source_case_name or case.name].append(_run(case))
    for failure in report.failures:
        known = (
            failure.error_stacktrace.rstrip()
            .rpartition("\n")[2]
            .startswith(f"{Unplayable.__module__}.{Unplayable.__name__}")
        )
        text = failure.error_message.removeprefix(f"{Unplayable.__name__}: ")
        runs[failure.source_case_name or failure.name].append(Run(error=text if known else failure.error_stacktrace))
    tags = {case.name: list(case.metadata.tags) if case.metadata else [] for case in suite.dataset.cases}
    return [
        CaseResult(agent=suite.agent, case=name, file=str(suite.path), tags=tags[name], runs=runs[name])
        for name in tags
        if name is not None and name in runs
    ]


def _run(case: ReportCase[Inputs, Trajectory, About]) -> Run:
    played = case.output
    verdicts = [
        Verdict(name=name, value=float(result.value), passed=result.value, reason=result.reason or "")
        for name, result in case.assertions.items()
    ]
    verdicts += [
        Verdict(name=name, value=float(result.value), reason=result.reason or "")
        for name, result in case.scores.items()
    ]
    failures = [f"{failure.name}: {failure.error_message}" for failure in case.evaluator_failures]
    broken = [f"{verdict.name}: {verdict.reason}" for verdict in verdicts if _is_broken(verdict)]
    return Run(
        verdicts=verdicts,
        error="; ".join([*failures, *broken]) or None,
        version=played.version,
        cost_nanousd=played.cost_nanousd,
        steps=len(played.steps),
        busy_ms=played.busy_ms,
        stop=played.stop.reason if played.stop else None,
        story=list(story(played)),
    )


def _is_broken(verdict: Verdict) -> bool:
    """What stands for an evaluator that failed is a measure of nothing; a check of a user's may be called like it."""
    return verdict.name.endswith("_failed") and verdict.passed is None and verdict.value == 0


def story(played: Trajectory) -> Iterable[str]:
    """What happened, one line a step."""
    said = dict(zip(played.input_seqs, played.inputs, strict=True))
    for step in played.steps:
        for seq in [seq for seq in said if seq < step.seq]:
            yield f"{seq:>4} user: {_short(said.pop(seq))}"
        yield f"{step.seq:>4} agent: {_short(step.text)}".rstrip()
        for call in step.calls:
            told = f": {_short(call.result)}" if call.outcome in ("error", "denied") else ""
            yield f"       {call.tool} {call.outcome or 'unanswered'}{told}"
    if played.stop:
        yield f"     {played.status}: {played.stop.reason}"


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= 160 else f"{line[:159]}…"
