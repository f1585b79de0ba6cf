"""What stands between worker and program: whatever the program begins, it ends with its runner."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from turnkeeper.sdk.leash import Leash, Workspace, launcher_in

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")

#: Begins a process in a session of its own, whose parent then is gone, and goes on.
PROGRAM = """#!/bin/sh
setsid sh -c 'echo $$ > {folder}/far; sleep 60' &
echo $$ > {folder}/near
env > {folder}/environment
echo "$@"
read line
exit 7
"""


@pytest.fixture
def place(tmp_path: Path) -> Path:
    program = tmp_path / "program"
    program.write_text(PROGRAM.format(folder=tmp_path))
    program.chmod(0o755)
    return tmp_path


@pytest.fixture
def leash(place: Path) -> Iterator[Leash]:
    leash = Leash(place / "leash")
    yield leash
    leash.cut()


def start(place: Path, leash: Leash) -> subprocess.Popen[str]:
    environment = {
        **os.environ,
        "TURNKEEPER_LEASH": str(leash.path),
        "TURNKEEPER_PROGRAM": str(place / "program"),
        "TURNKEEPER_USER": "",
        "TURNKEEPER_FOLDERS": "",
        "AWS_SECRET_ACCESS_KEY": "",
        "TOLD": "yes",
    }
    return subprocess.Popen(
        [launcher_in(place), "--flag", "two words"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
    )


def pids(place: Path) -> list[int]:
    until = time.monotonic() + 20
    files = [place / "near", place / "far", place / "environment"]
    while not all(file.exists() and file.read_text().strip() for file in files):
        assert time.monotonic() < until
        time.sleep(0.02)
    return [int(file.read_text()) for file in files[:2]]


def gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


def all_gone(found: list[int]) -> bool:
    until = time.monotonic() + 20
    while not all(map(gone, found)):
        if time.monotonic() > until:
            return False
        time.sleep(0.02)
    return True


def test_it_hands_on_arguments_streams_and_the_exit_code_and_no_blank_variables(place: Path, leash: Leash) -> None:
    process = start(place, leash)
    found = pids(place)
    output, _ = process.communicate("a line\n", timeout=30)
    assert (output, process.returncode) == ("--flag two words\n", 7)
    environment = (place / "environment").read_text()
    assert "TOLD=yes" in environment
    assert "AWS_SECRET_ACCESS_KEY" not in environment
    assert "TURNKEEPER_" not in environment
    assert all_gone(found), "what it left behind is ended too"


def test_all_of_it_ends_when_the_leash_is_cut(place: Path, leash: Leash) -> None:
    process = start(place, leash)
    found = pids(place)
    leash.cut()
    assert all_gone(found)
    process.communicate(timeout=30)


def test_all_of_it_ends_when_the_launcher_is_told_to(place: Path, leash: Leash) -> None:
    process = start(place, leash)
    found = pids(place)
    process.send_signal(signal.SIGTERM)
    assert all_gone(found)
    process.communicate(timeout=30)


def test_all_of_it_ends_when_the_worker_is_killed(place: Path) -> None:
    code = (
        "import sys, pathlib; sys.path[:0] = sys.argv[2:]\n"
        "from tests.unit.sdk.test_launcher import *\n"
        "place = pathlib.Path(sys.argv[1]); leash = Leash(place / 'leash'); start(place, leash).wait()"
    )
    worker = subprocess.Popen([sys.executable, "-c", code, place, *filter(None, sys.path)])
    found = pids(place)
    worker.kill()
    worker.wait()
    assert all_gone(found)


def test_the_folders_of_sessions_never_meet(tmp_path: Path) -> None:
    names = [("a", "b/c"), ("a/b", "c"), ("..", ".."), ("a", "b")]
    works = {Workspace(tmp_path, *name).work for name in names}
    assert len(works) == len(names)
    assert all(work.resolve().is_relative_to(tmp_path.resolve()) for work in works)
