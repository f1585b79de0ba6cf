"""Which files of a folder are deployed."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from turnkeeper_project.files import files_below


def names(folder: Path) -> list[str]:
    return sorted(file.relative_to(folder).as_posix() for file in files_below(folder))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("agents/lab/agent.py", "agents/lab/data/a.txt", "elsewhere/team/agent.py", "elsewhere/team/sub/b.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    return tmp_path / "agents"


def test_what_a_link_leads_to_is_deployed_as_it_is_found_by_python(folder: Path) -> None:
    (folder / "team").symlink_to("../elsewhere/team")
    (folder / "lab" / "b.txt").symlink_to("../../elsewhere/team/sub/b.txt")
    assert names(folder) == ["lab/agent.py", "lab/b.txt", "lab/data/a.txt", "team/agent.py", "team/sub/b.txt"]


def test_links_that_lead_back_have_an_end(folder: Path) -> None:
    other = folder.parent / "elsewhere" / "team"
    for link, to in (("lab/me", "."), ("lab/up", ".."), ("lab/root", "/"), ("lab/data/other", str(other))):
        (folder / link).symlink_to(to)
    (other / "sub" / "back").symlink_to(folder / "lab" / "data")
    assert names(folder) == ["lab/agent.py", "lab/data/a.txt", "lab/data/other/agent.py", "lab/data/other/sub/b.txt"]


def test_what_is_no_file_is_passed_over(folder: Path) -> None:
    (folder / "lab" / "gone").symlink_to("nowhere")
    os.mkfifo(folder / "lab" / "pipe")
    for name in (".hidden", "old.pyc", "__pycache__/x.txt", "lab.egg-info/PKG-INFO"):
        (folder / "lab" / name).parent.mkdir(exist_ok=True)
        (folder / "lab" / name).write_text("")
    assert names(folder) == ["lab/agent.py", "lab/data/a.txt"]
    assert names(folder / "lab" / "agent.py") == ["."]
