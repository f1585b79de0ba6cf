"""What is declared is used where it is declared for: what runs in an account carries nothing that only tests need."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from functools import cache
from importlib.metadata import packages_distributions

import pytest

from tests.support.repository import REPOSITORY
from turnkeeper_project import Project, kit_source
from turnkeeper_project.locking import lock_problems
from turnkeeper_project.measuring import layer_of
from turnkeeper_project.requirements import read_lock, read_wanted, requirement_files

PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())
RUNS = ("shared/src/turnkeeper", "functions", "fargate_worker")
RESTS = ("local/src", "shared/src/turnkeeper_project")
SAMPLES = Project(REPOSITORY)

_distributions = cache(packages_distributions)


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
        for module, packages in _distributions().items()
        if name in (package.lower().replace("_", "-") for package in packages)
    }
    assert modules, f"{name} is not installed"
    pattern = re.compile(rf"""(?:^\s*(?:import|from) |["'])(?:{"|".join(modules)})\b""", re.MULTILINE)
    return any(pattern.search(source) for source in sources(*folders))


RUNTIME = [line for line in kit_source().needs.read_text().splitlines() if line and not line.startswith("#")]


@pytest.mark.parametrize("requirement", RUNTIME)
def test_what_the_kit_depends_on_is_imported_by_what_runs(requirement: str) -> None:
    assert used(requirement, *RUNS)


def test_what_is_installed_begins_with_what_runs_and_goes_on_with_the_command_line() -> None:
    dependencies = PROJECT["project"]["dependencies"]
    assert dependencies[: len(RUNTIME)] == RUNTIME
    rest = dependencies[len(RUNTIME) :]
    assert len(rest) >= 5
    programs = {"uv"}  # called, never imported
    assert [one for one in rest if name_of(one) not in programs and not used(one, *RESTS)] == []


def test_the_cdk_is_an_extra_that_nothing_else_asks_for() -> None:
    assert {name_of(one) for one in PROJECT["project"]["optional-dependencies"]["infra"]} == {
        *("aws-cdk-lib", "cdk-nag", "constructs")
    }
    assert not {"aws-cdk-lib", "constructs"} & {pin.name for pin in read_lock(kit_source().requirements)}


def test_what_the_samples_depend_on_is_imported_by_them_alone() -> None:
    wanted = [one for file in requirement_files(SAMPLES) for one in read_wanted(file, SAMPLES.root)]
    assert wanted
    for one in wanted:
        assert used(one.name, "agents")
        assert not used(one.name, *RUNS)


def test_the_locks_hold_what_is_asked_for_and_the_kits_no_more() -> None:
    assert lock_problems(SAMPLES) == []
    locked = {pin.name for pin in read_lock(kit_source().requirements)}
    assert {name_of(one) for one in RUNTIME} <= locked
    assert locked < {pin.name for pin in read_lock(SAMPLES.lock)}
    assert layer_of(kit_source().requirements) is not None


def test_what_the_tests_run_with_is_what_runs() -> None:
    """The environment of the clone holds every package in the version that is deployed."""
    installed = {(pin.name, pin.version) for pin in read_lock(REPOSITORY / "requirements" / "dev.txt")}
    assert {(pin.name, pin.version) for pin in read_lock(SAMPLES.lock)} <= installed
