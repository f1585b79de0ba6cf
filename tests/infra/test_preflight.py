"""What would fail in every turn is refused when the stacks are synthesized."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.infra.variants import IAM, Synthesize
from tests.support.trees import make_tree
from turnkeeper_infra.config import Config, ConfigError
from turnkeeper_infra.preflight import check_models

AGENT = """
from turnkeeper import Agent

print("hello")
agent = Agent(name="old", model="claude-3-opus-latest", system="s")
"""
POLICY = """
default_plan = "one"
[plans.one]
task_usd = "1.00"
user_daily_usd = "1.00"
user_monthly_usd = "1.00"
tenant_monthly_usd = "1.00"
agent_daily_usd = { odl = "1.00" }
"""


def chosen(**settings: Any) -> Config:
    return Config.of({**IAM, **settings})


def put(root: Path, name: str, text: str) -> None:
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    (root / name).write_text(text)


def test_the_repository_as_it_is() -> None:
    for provider in ("anthropic", "bedrock"):
        assert check_models(chosen(model_provider=provider)) == []


def test_a_model_that_bedrock_has_no_name_for(tmp_path: Path) -> None:
    put(tmp_path, "agents/old/agent.py", AGENT)
    config = chosen(project=tmp_path, model_provider="bedrock")
    with pytest.raises(ConfigError, match="agent 'old': Bedrock has no claude-3-opus-latest in every region"):
        check_models(config)
    assert check_models(config.model_copy(update={"local": True})) == []
    assert check_models(config.model_copy(update={"model_provider": "anthropic"})) == []


def test_further_folders_are_those_of_the_project(tmp_path: Path) -> None:
    put(tmp_path, "more/old/agent.py", AGENT)
    config = chosen(project=tmp_path, model_provider="bedrock", agents="nowhere:more")
    with pytest.raises(ConfigError, match="agent 'old'"):
        check_models(config)


def test_a_cap_for_nobody_and_an_agent_that_does_not_load(tmp_path: Path) -> None:
    put(tmp_path, "agents/old/agent.py", AGENT)
    put(tmp_path, "agents/away/agent.py", "import a_module_that_nobody_has\n")
    [warning] = check_models(chosen(project=tmp_path))
    assert warning.startswith("agent away is not checked") and "a_module_that_nobody_has" in warning
    put(tmp_path, "capped/agents/old/agent.py", AGENT)
    put(tmp_path, "capped/policy.toml", POLICY)
    with pytest.raises(ConfigError, match="agent_daily_usd names 'odl', and no agent has that name; there are: old"):
        check_models(chosen(project=tmp_path / "capped"))


def test_the_package_of_the_source_tree_judges(tmp_path: Path) -> None:
    put(tmp_path, "shared/src/turnkeeper/__init__.py", "raise RuntimeError('of this tree')\n")
    with pytest.raises(ConfigError, match="could not be looked at"):
        check_models(chosen(source_root=tmp_path))


def test_the_app_asks(synthesize: Synthesize, tmp_path: Path) -> None:
    root = make_tree(tmp_path)
    put(root, "agents/old/agent.py", AGENT)
    with pytest.raises(ConfigError, match="Bedrock has no claude-3-opus-latest"):
        synthesize(**IAM, project=str(root), model_provider="bedrock")
