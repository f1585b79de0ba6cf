"""What is declared is used where it is declared for: what runs in an account carries nothing that only tests need."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from importlib.metadata import packages_distributions

import pytest

from tests.support.repository import REPOSITORY

PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())
RUNS = ("shared/src/turnkeeper", "functions", "fargate_worker")


def sources(*folders: str) -> Iterator[str]:
    for folder in folders:
        yield from (file.read_text() for file in (REPOSITORY / folder).rglob("*.py"))


def name_of(requirement: str) -> str:
    return re.split(r"[\[<>=]", requirement)[0]


def used(requirement: str, *folders: str) -> bool:
    """Whether these folders import the required package, or name a module of it in quotes, to import it by name."""
    name = name_of(requirement)
    modules = {
        module
        for module, packages in packages_distributions().items()
        if name in (package.lower().replace("_", "-") for package in packages)
    }
    assert modules, f"{name} is not installed"
    pattern = re.compile(rf"""(?:^\s*(?:import|from) |["'])(?:{"|".join(modules)})\b""", re.MULTILINE)
    return any(pattern.search(source) for source in sources(*folders))


@pytest.mark.parametrize("requirement", PROJECT["project"]["dependencies"])
def test_what_the_kit_depends_on_is_imported_by_what_runs(requirement: str) -> None:
    assert used(requirement, *RUNS)


@pytest.mark.parametrize("requirement", PROJECT["dependency-groups"]["samples"])
def test_what_the_samples_depend_on_is_imported_by_them_alone(requirement: str) -> None:
    assert used(requirement, "agents")
    assert not used(requirement, *RUNS)


def test_what_runs_is_locked_with_what_the_samples_need() -> None:
    locked = (REPOSITORY / "requirements" / "runtime.txt").read_text()
    for requirement in (*PROJECT["project"]["dependencies"], *PROJECT["dependency-groups"]["samples"]):
        name = re.escape(name_of(requirement))
        assert re.search(rf"^{name}(\[\w+\])?==", locked, re.MULTILINE), name
