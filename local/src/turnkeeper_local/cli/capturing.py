"""`turnkeeper eval capture`: a session of a kit becomes a case of this project."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from turnkeeper.core.scoring import Score
from turnkeeper.evaluation import EVERY_TURN, evaluate
from turnkeeper_local.cli.errors import CliError, UsageError
from turnkeeper_local.cli.operator import Operator
from turnkeeper_local.cli.reached import operating
from turnkeeper_local.evals.capture import capture, file_name
from turnkeeper_local.evals.case import Inputs
from turnkeeper_local.evals.cases import CaseError, read
from turnkeeper_local.evals.play import Stage, Unplayable, play, quietly
from turnkeeper_local.evals.privacy import Privacy
from turnkeeper_project import Project, find_project

if TYPE_CHECKING:
    from rich.console import Console


@dataclass(frozen=True)
class CapturePlace:
    """Where sessions are read, and where cases go."""

    operator: Operator
    tenant_id: str
    project: Project


@dataclass(frozen=True)
class Told:
    """What became of a capture."""

    session_id: str
    name: str
    files: Sequence[Path]
    #: Scores that differ between the session and its replay: name, then, now.
    differences: Sequence[tuple[str, float | None, float | None]]
    problem: str | None = None

    @property
    def replays(self) -> bool:
        return not self.differences and self.problem is None

    def document(self) -> dict[str, Any]:
        return {
            "session_id": self.session_id,
            "case": self.name,
            "files": list(map(str, self.files)),
            "replays": self.replays,
            "problem": self.problem,
            "differences": [{"score": name, "session": was, "replay": now} for name, was, now in self.differences],
        }

    def show(self, console: Console) -> None:
        for path in self.files:
            console.print(f"wrote {path}", markup=False)
        if self.replays:
            console.print(f"{self.name!r} replays to the same scores; see that what it expects is what you want")
        if self.problem:
            console.print(f"it cannot be played as it is: {self.problem}", markup=False)
        for name, was, now in self.differences:
            console.print(f"{name}: {was} in the session, {now} in its replay", markup=False)


def connect_for_capture(stack: str | None, tenant: str | None) -> CapturePlace:
    place, operator = operating(stack)
    return CapturePlace(operator, place.tenant(tenant), find_project())


def capture_session(
    place: CapturePlace,
    session_id: str,
    *,
    turn: int | None = None,
    name: str | None = None,
    verdict: str | None = None,
    note: str | None = None,
    keep_tenant: bool = False,
) -> Told:
    """Write the case beside its agent, and play it.

    Raises:
        UsageError: the agent is not one of this project, or there is such a case already.
        CliError: the session cannot be captured.
    """
    transcript, spec = place.operator.transcript(place.tenant_id, session_id)
    agent = transcript.head.agent
    folder = place.project.agents / agent
    if not (folder / "agent.py").exists():
        raise UsageError(f"agent {agent} is none of this project's agents/", code="agent_not_found")
    stage = Stage.of(place.project.root)
    try:
        made = capture(
            transcript,
            spec,
            Privacy.of(place.project.root, _secret_names(stage, agent)),
            turn=turn,
            name=name,
            verdict=verdict,
            note=note,
            keep_tenant=keep_tenant,
        )
        path = folder / "evals" / file_name(made.name)
        written = made.write(path)
    except FileExistsError as error:
        raise UsageError(f"{error} is there already", code="case_exists", hint="name the case with --name") from error
    except ValueError as error:
        raise CliError(str(error), code="not_captured") from error
    try:
        [case] = read(path, agent).dataset.cases
        differences = _differences(made.scores, _replayed(stage, agent, case.inputs))
        return Told(session_id, made.name, written, differences)
    except (CaseError, Unplayable) as error:
        return Told(session_id, made.name, written, (), str(error))


def _secret_names(stage: Stage, agent: str) -> set[str]:
    """Arguments that the agent's tools declare as secret. Raises CliError: nobody can say, so nothing is written."""
    if agent not in stage.catalog.agents:
        why = stage.catalog.broken.get(agent, "it is not there")
        raise CliError(
            f"agent {agent} cannot be loaded, so its secret arguments are not known: {why}", code="not_captured"
        )
    return {name for tool in stage.catalog.agents[agent].all_tools() for name in tool.secret_arguments}


def _replayed(stage: Stage, agent: str, inputs: Inputs) -> list[Score]:
    with quietly():
        return evaluate(EVERY_TURN, play(stage, agent, inputs))


def _differences(session: Sequence[Score], replay: Sequence[Score]) -> list[tuple[str, float | None, float | None]]:
    was, now = ({score.name: score.value for score in scores} for scores in (session, replay))
    names = dict.fromkeys([*was, *now])
    return [(name, was.get(name), now.get(name)) for name in names if was.get(name) != now.get(name)]
