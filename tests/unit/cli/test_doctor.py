"""What the doctor says about agents and policy."""

from __future__ import annotations

from pathlib import Path

import pytest

from turnkeeper_local.cli import doctor
from turnkeeper_project import Project

POLICY = """
default_plan = "one"
[plans.one]
task_usd = "1.00"
user_daily_usd = "1.00"
user_monthly_usd = "1.00"
tenant_monthly_usd = "1.00"
"""
AGENT = "from turnkeeper import Agent\nagent = Agent(name={name!r}, model={model!r}, system='s')\n"


@pytest.fixture
def clone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A clone with two agents."""
    for name, model in (("fine", "claude-sonnet-5-5"), ("old", "claude-3-opus-20240229")):
        folder = tmp_path / "agents" / name
        folder.mkdir(parents=True)
        (folder / "agent.py").write_text(AGENT.format(name=name, model=model))
    (tmp_path / "policy.toml").write_text(POLICY)
    monkeypatch.setattr(doctor, "find_project", lambda: Project(tmp_path))
    monkeypatch.setattr(doctor, "find_if_up", lambda _: None)
    monkeypatch.delenv("TURNKEEPER_AGENTS", raising=False)
    return tmp_path


def agents() -> doctor.Check:
    [check] = [check for check in doctor.examine(None) if check.name == "agents"]
    return check


def test_agents_that_are_sound(clone: Path) -> None:
    assert agents() == doctor.Check("agents", True, "fine, old")


def test_a_model_without_a_name_there(clone: Path) -> None:
    check = doctor._agents("bedrock")
    assert not check.ok and "agent 'old': Bedrock has no claude-3-opus-20240229" in check.detail


def test_an_agent_that_does_not_load_and_one_of_another_folder(
    clone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    more = tmp_path / "more" / "odd"
    more.mkdir(parents=True)
    (more / "agent.py").write_text("agent = 1\n")
    monkeypatch.setenv("TURNKEEPER_AGENTS", str(more.parent))
    check = agents()
    assert not check.ok and "agent 'odd' cannot be loaded" in check.detail
