"""The load as a command, short: all kinds of traffic while workers die, and everything held at the end."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.load.invariants import INVARIANTS
from tests.support.repository import REPOSITORY

pytestmark = [pytest.mark.stack, pytest.mark.long]


@pytest.mark.timeout(600)
def test_a_short_soak_with_kills(tmp_path: Path) -> None:
    file = tmp_path / "soak.json"
    options = ["--minutes", "0.65", "--kill-every", "6", "--seed", "13", "--report", file]
    done = subprocess.run(
        [sys.executable, "-m", "tests.load", *options], check=False, capture_output=True, text=True, cwd=REPOSITORY
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    report = json.loads(file.read_text())
    assert set(report["invariants"].values()) == {"held"}
    assert len(report["invariants"]) == len(INVARIANTS)
    assert report["kills"] >= 2
    assert report["sessions"] >= 5
    assert {curve["process"] for curve in report["curves"]} >= {"worker", "observer", "turn"}
    assert "everything held" in done.stdout
