"""What importing each agent costs. The turn runner imports all of them on a cold start, and runs one."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from turnkeeper_project.asking import Finding, NotAsked, run_module
from turnkeeper_project.place import Project

DEAR_MILLIS = 300
_SECONDS = 60


def import_costs(project: Project, folders: Iterable[Path] = ()) -> dict[Path, int]:
    """Milliseconds by `agent.py`, each measured in a fresh process that has imported what a runner has.

    One that cannot be imported has no cost.
    """
    files = [file for folder in (project.agents, *folders) for file in sorted(folder.glob("[!_.]*/agent.py"))]
    costs: dict[Path, int] = {}
    for file in files:
        try:
            costs[file] = int(run_module(["turnkeeper.preflight.cost", str(file.parent)], seconds=_SECONDS))
        except NotAsked:
            continue
    return costs


def dear(costs: dict[Path, int], root: Path) -> list[Finding]:
    """A warning for each agent that makes every cold start wait."""
    return [
        Finding(
            code="agent_import_cost",
            severity="warning",
            file=file.relative_to(root).as_posix() if file.is_relative_to(root) else str(file),
            line=None,
            text=f"importing agent {file.parent.name!r} takes {millis} ms, which every cold start waits for",
            hint="import what is large inside of the tool that needs it (agents/README.md, House rules)",
            agent=file.parent.name,
        )
        for file, millis in costs.items()
        if millis > DEAR_MILLIS
    ]
