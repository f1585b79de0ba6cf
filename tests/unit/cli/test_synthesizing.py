"""The stacks of a local kit, synthesized for whoever brings one up."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.support.repository import REPOSITORY
from turnkeeper_local.kit import Home, KitSettings
from turnkeeper_local.kit import deploy as deploying


def test_stacks_that_two_ask_for_at_once_are_synthesized_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    commands: list[list[str]] = []

    def cdk(_home: Home, _project: Path, command: list[str], _options: list[str], **_: Any) -> None:
        commands.append(command)
        (Path(command[-1]) / "manifest.json").write_text("{}")

    monkeypatch.setattr(deploying, "_cdk", cdk)
    monkeypatch.setenv("TURNKEEPER_CACHE", str(tmp_path))
    settings = KitSettings(first_port=0, project=REPOSITORY)
    with ThreadPoolExecutor(4) as pool:
        made = list(pool.map(lambda _: deploying.synthesize(Home(tmp_path / "home"), settings, tmp_path), range(4)))
    assert len(set(made)) == len(commands) == 1
    assert (made[0] / "manifest.json").exists()


def test_the_app_is_found_in_a_folder_with_any_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The CDK hands it to a shell."""
    environment = tmp_path / "my $HOME; it's"
    (environment / "bin").mkdir(parents=True)
    python = environment / "bin" / "python"
    python.write_text("#!/bin/sh\nexit 0\n")
    python.chmod(0o755)
    called: list[str] = []

    def cdk(_home: Home, _project: Path, command: list[str], _options: list[str], **_: Any) -> None:
        called.append(command[command.index("--app") + 1])

    monkeypatch.setattr(deploying, "_cdk", cdk)
    monkeypatch.setattr(sys, "executable", str(python))
    monkeypatch.setenv("TURNKEEPER_CACHE", str(tmp_path))
    deploying.synthesize(Home(tmp_path / "home"), KitSettings(first_port=0, project=REPOSITORY), tmp_path)
    assert subprocess.run(called[0], shell=True, check=False).returncode == 0
