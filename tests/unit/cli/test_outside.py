"""Commands that are called where there is no project."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from turnkeeper_local.cli import doctor
from turnkeeper_local.cli.main import app
from turnkeeper_local.kit import environments
from turnkeeper_project import KitSource, Project, place

COMMANDS = (
    "up", "down", "dev", "status", "doctor", "check", "agents", "logs", "sessions", "run a hi", "submit a hi",
    "show s", "watch s", "resume s", "cancel s", "erase s --yes", "rewind s", "fork s", "spend", "redrive",
    "dead list", "dead show i", "dead discard i", "tenant show t", "tenant pause t", "audit verify", "secrets list",
    "eval run", "rollout show a", "lock", "synth", "upgrade --check",
)  # fmt: skip


@pytest.fixture
def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with no project in it or above it, and a kit that is installed from a wheel."""
    for name in ("TURNKEEPER_PROJECT", "TURNKEEPER_HOME", "TURNKEEPER_STACK"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(place, "clone", lambda: None)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("command", COMMANDS)
def test_without_a_project_every_command_says_how_to_make_one(nowhere: Path, command: str) -> None:
    result = CliRunner().invoke(app, command.split())
    assert result.exit_code == 2, result.exception
    assert "turnkeeper init" in result.stderr
    assert "Traceback" not in result.output


def test_for_programs_it_is_a_document(nowhere: Path) -> None:
    result = CliRunner().invoke(app, ["status", "--json"])
    assert result.exit_code == 2
    assert json.loads(result.stdout)["error"]["code"] == "no_project"


@pytest.mark.parametrize("where", ["node_modules", ".turnkeeper/node/node_modules"])
def test_the_doctor_finds_the_cdk_where_deploying_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    monkeypatch.delenv("TURNKEEPER_CACHE", raising=False)
    monkeypatch.setattr(
        environments, "kit_source", lambda: KitSource(tmp_path / "kit", tmp_path / "kit" / "turnkeeper")
    )
    monkeypatch.setattr(doctor, "find_project", lambda: Project(tmp_path))
    assert (doctor._cdk().ok, doctor._cdk().detail.startswith("not there yet")) == (True, True)
    program = tmp_path / where / "aws-cdk" / "bin" / "cdk"
    program.parent.mkdir(parents=True)
    program.touch()
    assert doctor._cdk().detail == "installed"
    assert environments.ensure_cdk(Project(tmp_path)) == program
