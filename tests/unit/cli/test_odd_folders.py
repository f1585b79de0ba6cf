"""Folders that are none, where a command looks for its kit and its project: told by name, never a traceback."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.unit.cli.conftest import Cli
from turnkeeper_local.kit import KitError
from turnkeeper_local.kit.environments import ensure_lambda_dependencies
from turnkeeper_project import Project

COMMANDS = [("up",), ("down",), ("status",), ("doctor",), ("sessions",), ("logs",), ("agents",), ("check",)]


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_a_working_directory_that_is_gone(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: tuple[str, ...]
) -> None:
    for name in ("TURNKEEPER_HOME", "TURNKEEPER_PROJECT"):
        monkeypatch.delenv(name, raising=False)
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    told = json.loads(cli(*command, "--json").stdout)
    assert "working directory is gone" in told["error"]["detail"]


@pytest.mark.parametrize("command", [("up",), ("down",), ("sessions",)], ids=" ".join)
@pytest.mark.parametrize("kind", ["a file", "below a file", "a loop", "a name that is too long"])
def test_a_state_folder_that_can_be_none(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, command: tuple[str, ...]
) -> None:
    file, loop = tmp_path / "file", tmp_path / "loop"
    file.write_text("mine")
    loop.symlink_to(loop)
    home = {"a file": file, "below a file": file / "x", "a loop": loop}.get(kind, tmp_path / ("n" * 300))
    monkeypatch.setenv("TURNKEEPER_HOME", str(home))
    told = cli(*command)
    assert told.exit_code == 1
    assert command == ("sessions",) or home.name in told.stderr.replace("\n", "")
    assert file.read_text() == "mine"


def test_a_folder_that_nothing_can_be_imported_from_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The front door did not answer, since it found no module."""
    monkeypatch.delenv("TURNKEEPER_CACHE", raising=False)
    with pytest.raises(KitError, match="TURNKEEPER_CACHE"):
        ensure_lambda_dependencies(Project(tmp_path / "a:b"), tmp_path)
