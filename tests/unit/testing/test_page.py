"""docs/testing.md: a project made of its snippets, whose tests pass."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.repository import CACHE, REPOSITORY

PAGE = (REPOSITORY / "docs" / "testing.md").read_text()
SNIPPET = re.compile(r"^```(python|toml)\n# (\S+)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
PYTEST = ("pytest", "-q", "-p", "pytest_turnkeeper", "-p", "no:cacheprovider")
OTHER = """
import sys

def test_it():
    assert "pytest_turnkeeper" in sys.modules
    assert not {"turnkeeper", "pydantic", "turnkeeper_project"} & set(sys.modules)
"""
ENVIRONMENT = {
    "PATH": os.environ["PATH"],
    "PYTHONPATH": str(REPOSITORY / "shared" / "src"),
    "PYTHONDONTWRITEBYTECODE": "1",
}


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("project")
    for _, name, text in SNIPPET.findall(PAGE):
        file = root / name
        assert not file.exists(), f"{name} stands twice"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return root


def run(project: Path, *command: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", *command],
        cwd=project,
        env={**ENVIRONMENT, "PYTHONPATH": f"{ENVIRONMENT['PYTHONPATH']}:{project}"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_every_snippet_names_its_file() -> None:
    assert len(SNIPPET.findall(PAGE)) == PAGE.count("```python") + PAGE.count("```toml") > 8


def test_the_tests_of_the_page_pass(project: Path) -> None:
    tests = len(re.findall(r"^def test_", PAGE, re.MULTILINE))
    told = run(
        project, "pytest", "-q", "-p", "pytest_turnkeeper", "-p", "no:cacheprovider", "--strict-markers", "tests"
    )
    assert f"{tests} passed" in told


@pytest.mark.long
def test_a_type_checker_reads_them(project: Path) -> None:
    names = [str(file.relative_to(project)) for file in sorted(project.rglob("*.py"))]
    cache = CACHE / "mypy-of-the-page"  # What it found out about the kit and its libraries holds for the next run.
    run(project, "mypy", "--strict", "--explicit-package-bases", f"--cache-dir={cache}", *names)


def test_who_does_not_use_the_plugin_does_not_pay_for_it(tmp_path: Path) -> None:
    (tmp_path / "test_other.py").write_text(OTHER)
    assert "1 passed" in run(tmp_path, *PYTEST, "-p", "no:hypothesispytest", "-p", "no:langsmith_plugin")
