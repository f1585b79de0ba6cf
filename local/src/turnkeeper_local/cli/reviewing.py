"""`turnkeeper eval review`: one session after another, with a person's word on each."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path

import typer
from rich.text import Text

from turnkeeper.core.errors import TurnkeeperError
from turnkeeper.core.money import format_usd
from turnkeeper.core.trajectory import trajectory_of
from turnkeeper_local.cli.capturing import CapturePlace, capture_session
from turnkeeper_local.cli.errors import CliError
from turnkeeper_local.cli.output import Output
from turnkeeper_local.evals.run import story

_KEYS = {"g": "good", "b": "bad", "s": "skip", "q": "quit"}


def review_sessions(out: Output, place: CapturePlace, *, count: int, below: float | None) -> None:
    """Show each session that was not looked at before, ask for a verdict and a note, and capture those that are to be
    cases. What was said is kept in the project, line by line, so that a break loses nothing."""
    notes = place.project.root / ".turnkeeper" / "reviews.jsonl"
    seen = {(one["tenant_id"], one["session_id"]) for one in _lines(notes)}
    operator, tenant_id = place.operator, place.tenant_id
    found = operator.newest(tenant_id) if below is None else operator.worst(tenant_id, below=below)
    reviewed = 0
    for session_id in islice((one for one in found if (tenant_id, one) not in seen), count):
        if not _show(out, place, session_id):
            continue
        verdict = _asked()
        if verdict == "quit":
            break
        if verdict != "skip":
            note = typer.prompt("note", default="", show_default=False)
            made = None
            try:
                if typer.confirm("make it a case?"):
                    made = _captured(out, place, session_id, verdict, note)
            finally:
                _keep(notes, tenant_id, session_id, verdict, note, made)
        reviewed += 1
    out.console.print(f"{reviewed} looked at; notes are in {notes}", markup=False)


def _show(out: Output, place: CapturePlace, session_id: str) -> bool:
    """Whether there is something to look at."""
    try:
        transcript, spec = place.operator.transcript(place.tenant_id, session_id)
    except TurnkeeperError as error:
        out.note(f"{session_id}: {error}")
        return False
    head = transcript.head
    if head.status == "erased":
        return False
    console = out.console
    console.rule(f"{session_id}  {head.agent}  {head.status}")
    cost = format_usd(head.account.cost_nanousd)
    console.print(Text(f"{head.created_at}  {head.steps} steps  {cost} USD  version {(head.version or '-')[:8]}"))
    for made in place.operator.assessments(place.tenant_id, session_id):
        for score in made.scores:
            style = "red" if score.passed is False else "green" if score.passed else "dim"
            console.print(Text.assemble((f"  {score.name} {score.value:.2f}", style), f"  {score.reason}"))
    for line in story(trajectory_of(head, transcript.entries, spec, transcript.plan)):
        console.print(Text(line))
    return True


def _asked() -> str:
    while True:
        key = typer.prompt("[g]ood, [b]ad, [s]kip or [q]uit").strip().lower()[:1]
        if key in _KEYS:
            return _KEYS[key]


def _captured(out: Output, place: CapturePlace, session_id: str, verdict: str, note: str) -> str | None:
    try:
        told = capture_session(place, session_id, verdict=verdict, note=note or None)
    except CliError as error:
        out.tell(error)
        return None
    told.show(out.console)
    return told.name


def _lines(path: Path) -> Iterator[dict[str, str]]:
    """Without one that was cut off while it was written."""
    if path.exists():
        for line in path.read_text().splitlines():
            with suppress(ValueError):
                yield json.loads(line)


def _keep(path: Path, tenant_id: str, session_id: str, verdict: str, note: str, case: str | None) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    said = {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "tenant_id": tenant_id,
        "session_id": session_id,
        "verdict": verdict,
        "note": note,
        "case": case,
    }
    behind_a_cut_one = path.exists() and not path.read_text().endswith("\n")
    with path.open("a") as file:
        file.write("\n" * behind_a_cut_one + json.dumps(said) + "\n")
