"""The tutorial is followed to the letter, in an empty folder: its files are written, its commands run, in order."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.snippets import ROOT, blocks

#: A minute by itself; five times that where others take the processors.
pytestmark = [pytest.mark.stack, pytest.mark.long, pytest.mark.timeout(600)]

TUTORIAL = ROOT / "docs/tutorial.md"
#: What `lock` installs would land in the environment that runs this test, which has all of it.
PRELUDE = """\
turnkeeper() {
    if [ "$1" = lock ]; then set -- "$@" --no-install; fi
    command turnkeeper "$@"
}
"""


def script() -> str:
    """One program for bash. A file that the page shows is put where its first line says."""
    parts = [PRELUDE]
    for number, block in enumerate(blocks(TUTORIAL)):
        if block.file is not None:
            end = f"END_OF_FILE_{number}"
            parts.append(f"mkdir -p {Path(block.file).parent}\ncat > {block.file} <<'{end}'\n{block.text}{end}")
        elif block.run == "project":
            parts.append(block.text)
    return "\n".join(parts)


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path
    project = tmp_path / "travel"
    if project.is_dir():
        subprocess.run([_program("turnkeeper"), "down"], cwd=project, env=_environment(), check=False, timeout=60)


def test_the_tutorial_works_as_it_is_written(folder: Path) -> None:
    ran = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script()],
        cwd=folder,
        env=_environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=570,
    )
    assert ran.returncode == 0, f"{ran.stdout}\n{ran.stderr}"
    assert "\nairportsdata==" in (folder / "travel/requirements.lock").read_text()
    assert "In Switzerland." in ran.stdout


def _environment() -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("TURNKEEPER_", "ANTHROPIC_"))}
    shared = {name: os.environ[name] for name in ("TURNKEEPER_CACHE",) if name in os.environ}
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    return {**kept, **shared, "PATH": path, "TURNKEEPER_PORT": "0"}


def _program(name: str) -> str:
    found = shutil.which(name, path=str(Path(sys.executable).parent))
    assert found is not None
    return found
