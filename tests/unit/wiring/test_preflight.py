"""A process that starts says which caps are for nobody; what is told before a deployment is in tests/unit/preflight."""

from __future__ import annotations

import logging

import pytest

from tests.support.kit import POLICY, MemoryKit
from turnkeeper import Agent
from turnkeeper.core.policy import misnamed_agents, policy_of


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
    problems = [str(each) for each in misnamed_agents(policy_of({**POLICY, "plans": plans}), agents)]
    assert len(problems) == len(wrong) * len(plans)
    for plan in plans:
        told = [problem for problem in problems if f"plans.{plan}." in problem]
        assert [name for name, problem in zip(wrong, told, strict=True) if f"names {name!r}" in problem] == wrong


def test_a_process_says_it_when_it_starts(caplog: pytest.LogCaptureFixture) -> None:
    plans = {"standard": {**POLICY["plans"]["standard"], "agent_daily_usd": {"plian": "5.00", "broken": "1.00"}}}
    kit = MemoryKit(policy={**POLICY, "plans": plans})
    kit.warm()
    [line] = [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR]
    assert "agent_daily_usd names 'plian', and no agent has that name" in line
