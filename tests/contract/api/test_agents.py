"""Which agents a caller is told of."""

from __future__ import annotations

from tests.support.http import Caller
from tests.support.kit import POLICY, MemoryKit
from turnkeeper.core.policy import policy_of


def test_those_that_are_deployed_and_whole(ann: Caller, kit: MemoryKit) -> None:
    agents = {agent["name"]: agent for agent in ann.get("/v1/agents").ok()["agents"]}
    assert agents.keys() == kit.catalog.agents.keys()
    assert "broken" in kit.catalog.broken
    assert agents["slow"] == {
        "name": "slow",
        "model": kit.catalog.agents["slow"].model,
        "placement": "background",
        "formerly": [],
    }


def test_those_that_the_tenants_plan_holds_and_a_session_can_be_begun_with(ann: Caller, kit: MemoryKit) -> None:
    plans = {"few": {**POLICY["plans"]["standard"], "agents": ["plain", "nosuch"]}}
    kit.policy = policy_of({**POLICY, "default_plan": "few", "plans": plans})
    assert [agent["name"] for agent in ann.get("/v1/agents").ok()["agents"]] == ["plain"]
    ann.post("/v1/sessions", {"agent": "helper", "input": "x"}).problem(404, "agent_not_found")
