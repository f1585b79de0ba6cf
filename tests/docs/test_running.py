"""What how-tos tell a reader to run is run, in order, against one kit on this machine."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.running_kit import running_kit
from tests.support.snippets import ROOT, blocks, pages

pytestmark = pytest.mark.stack

#: One block for one page that has them: the script of all blocks marked `<!-- run: kit -->`.
SCRIPTS = {
    page: "\n".join(block.text for block in blocks(page) if block.run == "kit")
    for page in pages()
    if any(block.run == "kit" for block in blocks(page))
}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("docs") / "kit"
    with running_kit(folder):
        yield folder


@pytest.mark.parametrize("page", SCRIPTS, ids=lambda page: page.stem)
def test_a_page_s_commands_work(page: Path, home: Path) -> None:
    program = Path(sys.executable).parent
    ran = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", SCRIPTS[page]],
        cwd=ROOT,
        env={**os.environ, "PATH": f"{program}:{os.environ['PATH']}", "TURNKEEPER_HOME": str(home)},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert ran.returncode == 0, f"{ran.stdout}\n{ran.stderr}"
