"""Agents and policy are looked at before they are deployed."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from tests.support.kit import POLICY, MemoryKit
from tests.support.repository import REPOSITORY
from turnkeeper import Agent
from turnkeeper.core.policy import misnamed_caps, policy_of
from turnkeeper.preflight import examine

MODULE = "from turnkeeper import Agent\nagent = Agent(name={name!r}, system='s', {more})\n"
PLAN = """
default_plan = "one"
[plans.one]
task_usd = "1.00"
user_daily_usd = "1.00"
user_monthly_usd = "1.00"
tenant_monthly_usd = "1.00"
"""


def put(root: Path, name: str, more: str) -> Path:
    folder = root / "agents" / name
    folder.mkdir(parents=True)
    (folder / "agent.py").write_text(MODULE.format(name=name, more=more))
    return root


def test_the_repositorys_own_are_sound_with_both_providers() -> None:
    for provider in ("anthropic", "bedrock"):
        found = examine(REPOSITORY, provider)
        assert (found.problems, found.broken) == ([], {}) and found.agents


def test_models_without_a_name_on_bedrock_are_told_by_agent(tmp_path: Path) -> None:
    put(tmp_path, "fine", "model='claude-sonnet-5-5', fallback_models=['eu.anthropic.claude-opus-5']")
    put(tmp_path, "old", "model='claude-3-opus-latest', fallback_models=['claude-sonnet-5-5', 'gpt-9']")
    put(tmp_path, "broken", "model=None, nonsense=1")
    assert examine(tmp_path, "anthropic").problems == []
    found = examine(tmp_path, "bedrock")
    first, second = found.problems
    assert first.startswith("agent 'old': Bedrock has no claude-3-opus-latest") and "another model" in first
    assert second.startswith("agent 'old': Bedrock has no gpt-9")
    assert list(found.broken) == ["broken"] and found.agents == ("fine", "old")


def test_further_folders_count(tmp_path: Path) -> None:
    put(tmp_path / "more", "old", "model='gpt-9'")
    assert examine(tmp_path, "bedrock").problems == []
    assert len(examine(tmp_path, "bedrock", [tmp_path / "more" / "agents"]).problems) == 1


@pytest.mark.parametrize("text", ["default_plan = ", PLAN + "nonsense = 1", PLAN + "agent_daily_usd = {'A B' = '1'}"])
def test_a_policy_that_cannot_be_read_is_a_problem(tmp_path: Path, text: str) -> None:
    (tmp_path / "policy.toml").write_text(text)
    [problem] = examine(tmp_path, "anthropic").problems
    assert problem.startswith("policy.toml cannot be read: ")


def test_a_cap_for_an_agent_that_there_is_not(tmp_path: Path) -> None:
    put(tmp_path, "support", "model='m', formerly=['helpdesk', 'desk']")
    put(tmp_path, "broken", "model='m', nonsense=1")
    (tmp_path / "policy.toml").write_text(
        PLAN + "[plans.one.agent_daily_usd]\nsuport = '5.00'\nbroken = '1.00'\ndesk = '5.00'\n"
    )
    first, second = examine(tmp_path, "anthropic").problems
    assert first == (
        "policy.toml, [plans.one]: agent_daily_usd names 'suport', and no agent has that name; there are: support."
    )
    assert "'desk', which is called 'support' now" in second


@pytest.mark.parametrize(
    ("caps", "wrong"),
    [
        ("5.00", []),
        ("unlimited", []),
        ({"support": "5.00"}, []),
        ({"support": "5.00", "desk": "5.00"}, []),
        ({"Support": "5.00"}, None),
        ({"suport": "5.00", "analist": "unlimited"}, ["suport", "analist"]),
        ({"desk": "5.00"}, ["desk"]),
    ],
)
def test_caps_by_agent(caps: object, wrong: list[str] | None) -> None:
    agents = [
        Agent(name="support", model="m", system="s", formerly=["desk"]),
        Agent(name="other", model="m", system="s"),
    ]
    plans = {name: {**plan, "agent_daily_usd": caps} for name, plan in POLICY["plans"].items()}
    if wrong is None:
        with pytest.raises(ValueError, match="no agent can be named Support"):
            policy_of({**POLICY, "plans": plans})
        return
    problems = misnamed_caps(policy_of({**POLICY, "plans": plans}), agents)
    assert len(problems) == len(wrong) * len(plans)
    for plan in plans:
        told = [problem for problem in problems if f"[plans.{plan}]" in problem]
        assert [name for name, problem in zip(wrong, told, strict=True) if f"names {name!r}" in problem] == wrong


def test_a_process_says_it_when_it_starts(caplog: pytest.LogCaptureFixture) -> None:
    plans = {"standard": {**POLICY["plans"]["standard"], "agent_daily_usd": {"plian": "5.00", "broken": "1.00"}}}
    kit = MemoryKit(policy={**POLICY, "plans": plans})
    kit.warm()
    [line] = [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR]
    assert "agent_daily_usd names 'plian', and no agent has that name" in line
