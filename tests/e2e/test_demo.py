"""The demo as a user runs it: the command, its output, its exit code, and what it leaves behind."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.support.repository import REPOSITORY

pytestmark = [pytest.mark.stack, pytest.mark.timeout(300)]

COMMAND = [sys.executable, "-m", "turnkeeper_local.cli.main", "demo"]


def environment(home: Path, **more: str) -> dict[str, str]:
    """This machine's, without what would lead the demo to another kit or to a model that costs money."""
    kept = {
        name: value for name, value in os.environ.items() if not name.startswith(("ANTHROPIC_", "TURNKEEPER_", "AWS_"))
    }
    return {**kept, "TURNKEEPER_HOME": str(home), "COLUMNS": "160", **more}


def demo(home: Path, *options: str, **more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *options],
        check=False,
        capture_output=True,
        text=True,
        cwd=REPOSITORY,
        env=environment(home, **more),
        timeout=240,
    )


def left_running(home: Path) -> list[str]:
    """Command lines of processes that name the demo's folder."""
    lines = subprocess.run(["ps", "-eo", "args"], check=True, capture_output=True, text=True).stdout.splitlines()
    return [line for line in lines if str(home) in line]


def test_every_part_works_and_nothing_is_left(tmp_path: Path) -> None:
    done = demo(tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    # One more where `make sdk` has put the Claude Agent SDK.
    assert re.search(r"\b([67]) of \1 parts worked", done.stdout), done.stdout
    assert done.stdout.count("✓ ") > 20
    assert "✗ " not in done.stdout
    for told in (
        "handed off mid-task",
        "the worker finished it",
        "the second delivery started nothing",
        "402 cost_cap_exceeded",
        "records are intact",
    ):
        assert told in done.stdout, told
    assert list(tmp_path.iterdir()) == []
    assert left_running(tmp_path) == []


@pytest.mark.long
def test_a_part_that_does_not_work_is_a_failure(tmp_path: Path) -> None:
    done = demo(tmp_path, "--json", TURNKEEPER_MODEL_URL="http://127.0.0.1:9")
    document = json.loads(done.stdout)
    assert (done.returncode, document["ok"]) == (1, False)
    first, *others = document["parts"]
    assert "provider_error" in first["failure"]
    assert others
    assert not any(part["ok"] for part in others)
    assert [entry.name for entry in tmp_path.iterdir()] == ["demo-logs"]
    assert left_running(tmp_path) == []


@pytest.mark.long
def test_one_that_is_ended_takes_its_kit_along(tmp_path: Path) -> None:
    with subprocess.Popen(
        COMMAND, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=REPOSITORY, env=environment(tmp_path)
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith("2. "):
                break
        time.sleep(1)
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGTERM
    assert left_running(tmp_path) == []
    assert not (tmp_path / "local.json").exists()
