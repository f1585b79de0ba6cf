"""What the commands of `turnkeeper eval` have in common."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from turnkeeper.core.money import parse_usd
from turnkeeper_local.cli.errors import CliError, UsageError
from turnkeeper_local.cli.looking import further_folders
from turnkeeper_local.cli.output import Output
from turnkeeper_local.evals.results import Regression, Results, regressions
from turnkeeper_project import find_project

if TYPE_CHECKING:
    from turnkeeper_local.evals.play import Stage


def play_all(
    out: Output,
    agent: str | None,
    *,
    filters: Sequence[str],
    tags: Sequence[str],
    repeat: int,
    at_once: int | None,
    budget: str | None,
) -> Results:
    """Run the chosen cases of the project, with a progress bar for people.

    Raises:
        UsageError: no such agent, or no case fits.
        CliError: a file of cases cannot be used, or there is no key for a live run.
    """
    try:
        from turnkeeper_local.evals.cases import CaseError, suites
    except ModuleNotFoundError as error:
        if not (error.name or "").startswith("pydantic_evals"):
            raise
        hint = "install it with `pip install 'turnkeeper[evals]'`"
        raise CliError("pydantic-evals is not installed", code="not_installed", hint=hint) from error
    from turnkeeper_local.evals.judged import judges_of, sessions_of
    from turnkeeper_local.evals.play import Stage
    from turnkeeper_local.evals.run import chosen, run

    project = find_project()
    more = tuple(further_folders())
    folders = (project.agents, *more)
    if agent is not None and not any((folder / agent / "agent.py").exists() for folder in folders):
        raise UsageError(f"there is no agent {agent}", code="agent_not_found")
    try:
        found = list(suites(folders, agent))
    except CaseError as error:
        raise CliError(str(error), code="invalid_cases") from error
    stage = Stage.of(project.root, more)
    if agent is None and (without := sorted({suite.agent for suite in found if stage.lacks_program(suite.agent)})):
        needed = "the Claude Agent SDK: `make sdk`, or turnkeeper[agent-sdk]"
        out.note(f"left out: {', '.join(without)}, for want of {needed}")
        found = [suite for suite in found if suite.agent not in without]
    cases = [case for suite in found for case in chosen(suite, filters=filters, tags=tags, live=budget is not None)]
    count = len(cases)
    if not count:
        where = f"agents/{agent or '*'}/evals/*.yaml"
        raise UsageError(f"no case of {where} fits", code="no_cases", hint="docs/evals.md says how to write one")
    if budget is not None:
        stage = _with_claude(stage, budget, sessions_of(cases) * repeat)
    elif judged := sum(map(judges_of, cases)):
        out.note(f"left out without --live: {judged} Judged, which ask a model")
    if out.as_json or not sys.stderr.isatty():
        return run(stage, found, filters=filters, tags=tags, repeat=repeat, at_once=at_once)
    from rich.progress import Progress

    with Progress(console=out.notes, transient=True) as bar:
        task = bar.add_task("cases", total=count * repeat)

        def progress(done: int, total: int) -> None:
            bar.update(task, completed=done, total=total)

        return run(stage, found, filters=filters, tags=tags, repeat=repeat, at_once=at_once, progress=progress)


def _with_claude(stage: Stage, budget: str, sessions: int) -> Stage:
    from turnkeeper_local.evals.live import NoClaude, with_claude

    try:
        return with_claude(stage, parse_usd(budget), sessions)
    except ValueError as error:
        raise UsageError(f"--budget: {error}", code="usage") from error
    except NoClaude as error:
        raise CliError(str(error), code="no_key") from error


def read_baseline(path: Path | None) -> Results | None:
    """Raises UsageError: it is none."""
    if path is None:
        return None
    try:
        return Results.read(path)
    except (OSError, ValueError) as error:
        hint = "`turnkeeper eval run --json F` makes one"
        raise UsageError(f"{path} is no baseline: {error}", code="invalid_baseline", hint=hint) from error


def judge(before: Results | None, results: Results, *, partial: bool) -> list[Regression]:
    """What is worse than in the baseline; where only some cases were to be run, of those."""
    if before is None:
        return []
    only = [case.name for case in results.cases] if partial else None
    return list(regressions(before, results, only=only))
