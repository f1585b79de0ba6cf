"""A project follows the kit that is installed; what somebody has edited stays."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.support.release_record import FILE, record
from turnkeeper_project import Project, upgrading
from turnkeeper_project.template import write_project
from turnkeeper_project.upgrading import UpgradeError, changes_between, digest, upgrade_project, what_changes

WORKFLOW = ".github/workflows/turnkeeper.yml"


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    """Made by a version 0.1.9, whose cdk.json, workflow and settings were others."""
    project = write_project(tmp_path / "mine")
    old = json.loads(FILE.read_text())
    (project.root / "cdk.json").write_text("{}\n")
    (project.root / WORKFLOW).write_text("name: old\n")
    old["files"] = {"cdk.json": digest("{}\n"), "workflows/turnkeeper.yml": digest("name: old\n")}
    old["stages"] = [*(key for key in old["stages"] if key != "cors_origins"), "colour"]
    old["notes"] = ["of 0.1.9 itself"]
    releases = tmp_path / "releases"
    releases.mkdir()
    (releases / FILE.name).write_text(FILE.read_text())
    (releases / "0.1.9.json").write_text(json.dumps(old))
    monkeypatch.setattr(upgrading, "_RELEASES", releases)
    pyproject = project.root / "pyproject.toml"
    pyproject.write_text(pyproject.read_text().replace(f"=={FILE.stem}", "==0.1.9"))
    lock = project.lock.read_text()
    project.lock.write_text(lock.replace("pydantic==2.", "pydantic==1."))
    return project


def test_what_changes_is_said_and_nothing_is_touched(project: Project) -> None:
    before = {file: file.read_bytes() for file in project.root.rglob("*") if file.is_file()}
    found = what_changes(project)
    assert (found.old, found.new) == ("0.1.9", FILE.stem)
    assert found.settings["stages"] == {"added": ["cors_origins"], "removed": ["colour"]}
    assert found.notes == json.loads(FILE.read_text())["notes"] != []
    assert "Open sessions move with deployments" in found.changelog
    assert set(found.written) == {"cdk.json", WORKFLOW, "pyproject.toml", "requirements.lock"}
    assert found.beside == []
    assert {file: file.read_bytes() for file in project.root.rglob("*") if file.is_file()} == before


def test_pin_lock_and_what_nobody_edited_follow(project: Project) -> None:
    found = upgrade_project(project)
    assert any(line.startswith("pydantic 1.") for line in found.packages)
    assert f'"turnkeeper[infra]=={FILE.stem}"' in (project.root / "pyproject.toml").read_text()
    assert json.loads((project.root / "cdk.json").read_text())["app"]
    again = what_changes(project)
    assert (again.written, again.beside, again.changelog) == ([], [], "")


def test_what_somebody_edited_stays_and_the_new_one_is_beside_it(project: Project) -> None:
    (project.root / WORKFLOW).write_text("name: ours\n")
    found = upgrade_project(project)
    assert found.beside == [WORKFLOW]
    assert (project.root / WORKFLOW).read_text() == "name: ours\n"
    assert "turnkeeper deploy" in (project.root / f"{WORKFLOW}.new").read_text()


def test_where_the_lock_cannot_follow_nothing_does(project: Project) -> None:
    (project.root / "requirements.txt").write_text("pydantic<2\n")
    before = (project.root / "pyproject.toml").read_text()
    with pytest.raises(Exception, match=r"requirements\.txt:1 wants pydantic<2"):
        upgrade_project(project)
    assert (project.root / "pyproject.toml").read_text() == before
    assert (project.root / "cdk.json").read_text() == "{}\n"


@pytest.mark.parametrize(("pin", "said"), [("==99.0", "install what is pinned"), (">=0.1", "pins no version")])
def test_a_pin_that_cannot_be_followed_is_said(project: Project, pin: str, said: str) -> None:
    pyproject = project.root / "pyproject.toml"
    pyproject.write_text(pyproject.read_text().replace("==0.1.9", pin))
    with pytest.raises(UpgradeError, match=said):
        what_changes(project)


CHANGELOG = "# C\n\n## Unreleased\n\nu\n\n## [0.3.0] - 2026-11-01\n\nc\n\n## 0.2.0\n\nb\n\n## 0.1.0\n\na\n"


@pytest.mark.parametrize(
    ("old", "new", "sections"),
    [("0.1.0", "0.2.0", "b"), ("0.1.0", "0.3.0", "cb"), ("0.2.0", "0.4.0", "uc"), ("0.3.0", "0.3.0", "")],
)
def test_the_sections_between_two_versions(old: str, new: str, sections: str) -> None:
    text = changes_between(CHANGELOG, old, new)
    assert "".join(line for line in text.splitlines() if line in {"u", "c", "b", "a"}) == sections


def test_this_version_has_written_down_what_it_is() -> None:
    """`make docs` writes it; its notes are written by hand."""
    assert record() == json.loads(FILE.read_text())
