"""A team's own repository, made by `turnkeeper init` with the wheel alone, on the emulator.

Its agents, what they import and what they share run on Lambda and on the worker.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.support.installed import Installed, install_wheel
from tests.support.repository import CACHE, REPOSITORY

pytestmark = pytest.mark.stack

AGENT = '''
from turnkeeper import Agent, ToolContext, tool

from .._shared.money import dollars


@tool(effect="read", scopes={"orders:read"}, timeout_seconds=60)
def find_airport(ctx: ToolContext, code: str) -> str:
    """Find an airport by its IATA code."""
    import airportsdata

    return f"{airportsdata.load('IATA')[code]['city']} for {dollars(1234)} by {airportsdata.__file__}"


agent = Agent(name="NAME", model="claude-sonnet-5-5", system="You find airports.", tools=[find_airport],
              placement="PLACEMENT", done="end_turn")
'''


@dataclass
class Repository:
    root: Path
    installed: Installed
    environment: dict[str, str]

    def run(self, *arguments: str) -> Any:
        done = self.installed.run(*arguments, "--json", cwd=self.root, **self.environment)
        return json.loads(done.stdout)


def agent(name: str, placement: str) -> str:
    return AGENT.replace("NAME", name).replace("PLACEMENT", placement)


def lock_or_skip(repository: Repository) -> Any:
    """What `lock` told; it asks no network, so the package has to be known to uv on this machine."""
    try:
        return repository.run("lock", "--no-install")
    except AssertionError as refused:
        if "network was disabled" in str(refused):
            pytest.skip(
                "airportsdata, or what the kit runs with, is not in uv's cache on this machine: `make lock` once"
            )
        raise


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Repository]:
    """Up, with an agent of its own and one in a folder beside it; each imports a package and a shared module."""
    folder = tmp_path_factory.mktemp("project")
    installed = install_wheel(REPOSITORY, folder)
    installed.run("init", "airports", "--agent", "quick", cwd=folder)
    root, further = folder / "airports", folder / "further"
    (root / "node_modules").symlink_to(REPOSITORY / "node_modules")
    (root / "agents/quick/agent.py").write_text(agent("quick", "auto"))
    (root / "agents/quick/requirements.txt").write_text("airportsdata>=20250101\n")
    (further / "patient").mkdir(parents=True)
    (further / "patient/agent.py").write_text(agent("patient", "background"))
    (further / "_shared").mkdir()
    (further / "_shared/money.py").write_text("def dollars(cents):\n    return f'{cents} cents'\n")
    environment = {
        "TURNKEEPER_HOME": str(folder / "home"), "TURNKEEPER_PORT": "0", "TURNKEEPER_AGENTS": str(further),
        "TURNKEEPER_CACHE": str(CACHE),  # the emulator's own environment is made once for all tests
    }  # fmt: skip
    made = Repository(root, installed, environment)
    locked = lock_or_skip(made)
    assert "+ airportsdata" in "\n".join(locked["changes"])
    try:
        made.run("up")
        yield made
    finally:
        installed.run("down", cwd=root, **environment)


def ask(repository: Repository, name: str) -> str:
    """What came of one turn in which the model calls the tool, then says something."""
    answered = repository.run("run", name, '[[tool find_airport {"code": "ZRH"}]] [[say found]]')
    return json.dumps(repository.run("show", answered["session_id"]))


def test_a_turn_on_lambda_imports_what_is_locked_and_what_is_shared(repository: Repository) -> None:
    told = ask(repository, "quick")
    assert "Zurich for 12.34" in told
    assert "bundles/host-" in told


def test_a_job_on_the_worker_of_an_agent_in_a_further_folder_does_too(repository: Repository) -> None:
    """Its own `_shared` is another than that of the project."""
    told = ask(repository, "patient")
    assert "Zurich for 1234 cents" in told
    assert "bundles/host-" in told, "from the lock, whatever the environment holds that the kit was started from"
