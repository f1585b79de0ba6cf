"""`eval review` and `eval capture` keep what a person said, whatever becomes of the case."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import typer

from tests.unit.evals.test_capture import session
from turnkeeper_local.cli import reviewing
from turnkeeper_local.cli.capturing import CapturePlace, capture_session
from turnkeeper_local.cli.output import Output
from turnkeeper_local.evals.script import Answer
from turnkeeper_project import Project


@pytest.fixture
def place(project: Path) -> CapturePlace:
    """A kit with one session."""
    transcript, spec = session(project, ["Hello."], [Answer(say="Hello.")])
    operator: Any = SimpleNamespace(
        transcript=lambda *_: (transcript, spec),
        newest=lambda _: iter([transcript.head.session_id]),
        assessments=lambda *_: [],
    )
    return CapturePlace(operator, "acme", Project(project))


def reviewed(place: CapturePlace) -> list[Any]:
    with Output(False) as out:
        reviewing.review_sessions(out, place, count=9, below=None)
    lines = (place.project.root / ".turnkeeper" / "reviews.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines if line.endswith("}")]


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(typer, "prompt", lambda text, **_: "a note" if text == "note" else "g")
    monkeypatch.setattr(typer, "confirm", lambda _: True)


def test_a_case_that_cannot_be_read_is_told_as_one_that_cannot_be_played(place: CapturePlace) -> None:
    (place.project.root / "agents" / "clerk" / "evals" / "evaluators.py").write_text("raise RuntimeError('not today')")
    told = capture_session(place, "ses_1", name="unread")
    assert (told.replays, "not today" in str(told.problem)) == (False, True)
    assert told.files[0].exists()


@pytest.mark.usefixtures("said")
def test_what_was_said_is_kept_also_where_no_case_comes_of_it(
    place: CapturePlace, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any, **__: Any) -> None:
        raise RuntimeError("the disk is full")

    monkeypatch.setattr(reviewing, "capture_session", broken)
    with pytest.raises(RuntimeError):
        reviewed(place)
    assert [(one["verdict"], one["note"], one["case"]) for one in reviewed(place)] == [("good", "a note", None)]


@pytest.mark.usefixtures("said")
def test_a_line_that_was_cut_off_stands_in_nobodys_way(place: CapturePlace) -> None:
    notes = place.project.root / ".turnkeeper" / "reviews.jsonl"
    notes.parent.mkdir()
    notes.write_text('{"at": "2026-03-')
    [line] = reviewed(place)
    assert line["case"].startswith("captured ")
