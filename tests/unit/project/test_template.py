"""What `turnkeeper init` writes is a repository that works as it is."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import typer
import yaml

from tests.support.repository import REPOSITORY
from turnkeeper.core.policy import Policy
from turnkeeper.runtime.catalog import load_agents
from turnkeeper_infra import stages
from turnkeeper_project import kit_version
from turnkeeper_project.locking import lock_problems
from turnkeeper_project.template import TemplateError, write_project


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write_project(tmp_path / "my-agents", "greeter").root


def test_its_agent_its_policy_and_its_lock_fit_together(root: Path) -> None:
    catalog = load_agents([root / "agents"])
    assert catalog.broken == {}
    [agent] = catalog.agents.values()
    assert agent.name == "greeter"
    policy = Policy.model_validate(tomllib.loads((root / "policy.toml").read_text()))
    [tool] = agent.tools
    assert tool.scopes <= set(policy.roles["user"].scopes)
    from turnkeeper_project import Project

    assert lock_problems(Project(root)) == []


def test_its_own_tests_pass_and_its_code_is_as_clean_as_the_kits(root: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"],
        cwd=root,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    assert "3 passed" in done.stdout
    ruff = Path(sys.executable).parent / "ruff"
    checked = subprocess.run(
        [ruff, "check", "--line-length", "120", "--isolated", str(root)], capture_output=True, text=True, check=False
    )
    assert checked.returncode == 0, checked.stdout


def test_its_evals_pass_on_the_real_engine(root: Path) -> None:
    program = "from turnkeeper_local.cli.main import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", program, "eval", "run"], cwd=root, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_word_is_filled_in_and_the_kit_is_pinned(root: Path) -> None:
    texts = {file: file.read_text() for file in root.rglob("*") if file.is_file() and ".turnkeeper" not in file.parts}
    assert len(texts) >= 13
    assert [
        file for file, text in texts.items() if "__AGENT__" in text or "__NAME__" in text or "__STACK__" in text
    ] == []
    project = tomllib.loads((root / "pyproject.toml").read_text())["project"]
    assert project["dependencies"] == [f"turnkeeper[infra]=={kit_version()}"]
    ignored = (root / ".gitignore").read_text().split()
    assert {".turnkeeper/", "secrets.local.toml", ".venv/", "cdk.out/"} <= set(ignored)


def test_its_stages_are_checked_as_any_and_production_asks_who_may_call(root: Path) -> None:
    dev = stages.Config.of(stages.read(root / "stages" / "dev.toml"))
    assert (dev.name, dev.stage) == ("MyAgentsDev", "dev")
    with pytest.raises(stages.ConfigError, match="identity is not chosen"):
        stages.Config.of(stages.read(root / "stages" / "prod.toml"))


def test_its_workflow_calls_commands_that_there_are_and_keeps_no_key(root: Path) -> None:
    from turnkeeper_local.cli.main import app

    text = (root / ".github" / "workflows" / "turnkeeper.yml").read_text()
    jobs = yaml.safe_load(text)["jobs"]
    assert set(jobs) == {"test", "plan", "deploy"}
    lines = [
        line.strip() for job in jobs.values() for step in job["steps"] for line in step.get("run", "").splitlines()
    ]
    called = {line.split()[1] for line in lines if line.split()[:1] and line.split()[0].endswith("turnkeeper")}
    program = typer.main.get_command(app)
    assert isinstance(program, typer.core.TyperGroup)
    assert {"lock", "check", "synth", "eval", "diff", "deploy"} <= called <= set(program.commands)
    assert "secrets." not in text
    assert "pull_request_target" not in text


@pytest.mark.parametrize("name", ["3agents", "a b", "-x", "ä"])
def test_a_name_that_cannot_be_one_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(TemplateError, match="cannot be the name of a repository"):
        write_project(tmp_path / name)


@pytest.mark.parametrize("agent", ["Greeter", "my-agent", "class", "_x"])
def test_an_agent_that_is_no_module_is_refused(tmp_path: Path, agent: str) -> None:
    with pytest.raises(TemplateError, match="cannot be the name of an agent"):
        write_project(tmp_path / "fine", agent)
    assert not (tmp_path / "fine").exists()


def test_a_folder_that_holds_something_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "note.txt").write_text("mine")
    with pytest.raises(TemplateError, match="is not empty"):
        write_project(tmp_path / "there")
    assert [file.name for file in (tmp_path / "there").iterdir()] == ["note.txt"]


def test_the_cdk_is_asked_to_behave_as_in_the_kits_own_repository() -> None:
    template = (REPOSITORY / "shared/src/turnkeeper_project/template/cdk.json").read_text()
    assert template.replace('"python -m', '".venv/bin/python -m') == (REPOSITORY / "cdk.json").read_text()
