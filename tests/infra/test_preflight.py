"""What would fail in every turn is refused when the stacks are synthesized."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.infra.variants import IAM, Synthesize
from tests.support.trees import make_tree
from turnkeeper_infra.config import Config, ConfigError
from turnkeeper_infra.preflight import check_project

AGENT = """
from turnkeeper import Agent

print("hello")
agent = Agent(name="old", model="claude-3-opus-20240229", system="s")
"""
POLICY = """
default_plan = "one"
[plans.one]
task_usd = "1.00"
user_daily_usd = "1.00"
user_monthly_usd = "1.00"
tenant_monthly_usd = "1.00"
"""


def chosen(**settings: Any) -> Config:
    return Config.of({**IAM, **settings})


def put(root: Path, name: str, text: str) -> None:
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    (root / name).write_text(text)
    if not (root / "policy.toml").exists():
        (root / "policy.toml").write_text(POLICY)


def test_the_repository_as_it_is() -> None:
    for provider in ("anthropic", "bedrock"):
        assert check_project(chosen(model_provider=provider)) == []


def test_a_model_that_bedrock_has_no_name_for(tmp_path: Path) -> None:
    put(tmp_path, "agents/old/agent.py", AGENT)
    config = chosen(project=tmp_path, model_provider="bedrock")
    with pytest.raises(ConfigError, match="agent 'old': Bedrock has no claude-3-opus-20240229 in every region"):
        check_project(config)
    assert check_project(config.model_copy(update={"local": True})) == []
    assert check_project(config.model_copy(update={"model_provider": "anthropic"})) == []


def test_further_folders_are_those_of_the_project(tmp_path: Path) -> None:
    put(tmp_path, "more/old/agent.py", AGENT)
    with pytest.raises(ConfigError, match="agent 'old'"):
        check_project(chosen(project=tmp_path, model_provider="bedrock", agents="more"))
    with pytest.raises(ConfigError, match="nowhere: there is no such folder of agents"):
        check_project(chosen(project=tmp_path, agents="nowhere:more"))


def test_an_agent_that_does_not_load_is_refused_unless_it_is_said_that_the_others_count(tmp_path: Path) -> None:
    put(tmp_path, "agents/old/agent.py", AGENT)
    put(tmp_path, "agents/away/agent.py", "import a_module_that_nobody_has\n")
    with pytest.raises(
        ConfigError, match=r"agents/away/agent\.py:1: .*a_module_that_nobody_has(.|\n)*allow_broken=true"
    ):
        check_project(chosen(project=tmp_path))
    [warning] = check_project(chosen(project=tmp_path, allow_broken="true"))
    assert warning.startswith("agents/away/agent.py:1: agent 'away' cannot be loaded")


def test_a_policy_that_is_wrong_is_refused_also_then(tmp_path: Path) -> None:
    put(tmp_path, "agents/old/agent.py", AGENT)
    (tmp_path / "policy.toml").write_text(POLICY + 'agent_daily_usd = { odl = "1.00" }\n')
    with pytest.raises(ConfigError, match=r"policy\.toml:8: \[plans\.one.*names 'odl', and no agent has(.|\n)*'old'"):
        check_project(chosen(project=tmp_path, allow_broken=True))


def test_the_package_of_the_source_tree_judges(tmp_path: Path) -> None:
    put(tmp_path, "shared/src/turnkeeper/__init__.py", "raise RuntimeError('of this tree')\n")
    with pytest.raises(ConfigError, match="could not be looked at"):
        check_project(chosen(source_root=tmp_path))


def test_the_app_asks(synthesize: Synthesize, tmp_path: Path) -> None:
    root = make_tree(tmp_path)
    put(root, "agents/old/agent.py", AGENT)
    with pytest.raises(ConfigError, match="Bedrock has no claude-3-opus-20240229"):
        synthesize(**IAM, project=str(root), model_provider="bedrock")
