"""Results on a terminal."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from turnkeeper.core.money import format_usd
from turnkeeper_local.evals.results import CaseResult, Regression, Results

_STYLES = {"passed": "green", "failed": "red", "flaky": "yellow", "error": "red"}


def show(console: Console, results: Results, worse: Sequence[Regression]) -> None:
    """By agent a line; each case that did not pass, with why and with what happened; what is worse than it was."""
    console.print(_by_agent(results))
    for case in results.cases:
        if case.outcome != "passed":
            _tell(console, case)
    if worse:
        console.print(Text("worse than the baseline:", style="bold red"))
        for one in worse:
            console.print(Text(f"  {one}"))


def _by_agent(results: Results) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column("agent")
    for column in ("cases", "passed", "flaky", "failed", "steps", "cost"):
        table.add_column(column, justify="right")
    for agent in dict.fromkeys(case.agent for case in results.cases):
        cases = [case for case in results.cases if case.agent == agent]
        counts = [sum(case.outcome == outcome for case in cases) for outcome in ("passed", "flaky")]
        failed = len(cases) - sum(counts)
        steps = sum(run.steps for case in cases for run in case.runs)
        cost = format_usd(sum(run.cost_nanousd for case in cases for run in case.runs))
        table.add_row(agent, str(len(cases)), *map(str, counts), str(failed), str(steps), cost)
    return table


def _tell(console: Console, case: CaseResult) -> None:
    console.print(Text.assemble((case.outcome, _STYLES[case.outcome]), f"  {case.name}  ", (case.file, "dim")))
    worst = next(run for run in case.runs if not run.passed)
    if worst.error:
        console.print(Text(f"    {worst.error}"))
    for verdict in worst.failed:
        console.print(Text(f"    {verdict.name}: {verdict.reason}"))
    for line in worst.story:
        console.print(Text(f"      {line}", style="dim"))
