"""Which version is in force where something in between went another way: rollbacks, outages, agents alike."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from tests.support.kit import MODEL, MemoryKit
from tests.support.scripted import begin, scripted_kit
from turnkeeper import Agent, Limits, by_tenant
from turnkeeper.core import audit
from turnkeeper.core.errors import InvalidRequest, Unavailable, UnpricedModel
from turnkeeper.core.reserved_tenants import DEPLOYMENT
from turnkeeper.core.versions import spec_of, version_of
from turnkeeper.runtime.catalog import Catalog
from turnkeeper.runtime.rollouts import SECONDS
from turnkeeper.runtime.store import keys
from turnkeeper.runtime.store.tenants import audit_records

ONE = Agent(name="scripted", model=MODEL, system="You are the first.")
TWO, THREE = replace(ONE, system="You are the second."), replace(ONE, system="You are the third.")


def version(agent: Agent) -> str:
    return version_of(spec_of(agent))


def deploy(kit: MemoryKit, *agents: Agent) -> None:
    """As a new process would have them, a while later."""
    kit.clock.advance(60)  # type: ignore[attr-defined]
    kit.__dict__["catalog"] = Catalog({agent.name: agent for agent in agents})
    for name in ("intake", "rollouts", "rollout_watch", "score_watch", "companions"):
        kit.__dict__.pop(name, None)


def test_after_a_rollback_all_others_stay_with_what_they_have() -> None:
    kit = scripted_kit(agents=[ONE])
    begin(kit)
    for back_and_forth in (TWO, ONE):
        deploy(kit, back_and_forth)
        begin(kit)
    assert kit.rollouts.set(THREE, actor="me", share_percent=10).stable == version(ONE)


def test_agents_alike_have_their_versions_each() -> None:
    twin = replace(ONE, name="twin")
    kit = scripted_kit(agents=[ONE, twin])
    begin(kit)
    begin(kit, "twin")
    assert kit.rollouts.set(replace(TWO, name="twin"), actor="me", share_percent=0).stable == version(ONE)
    assert begin(kit, "twin").version == version(ONE)


def test_a_candidate_that_was_taken_back_does_not_return_with_an_outage(monkeypatch: pytest.MonkeyPatch) -> None:
    kit = scripted_kit(agents=[ONE])
    begin(kit)
    deploy(kit, TWO)
    kit.rollouts.set(TWO, actor="me", share_percent=100)
    kit.rollouts.abort("scripted", actor="me")
    assert begin(kit).version == version(ONE)

    def away(_: str) -> Any:
        raise Unavailable("away")

    monkeypatch.setattr(kit.rollouts.store, "get", away)
    kit.clock.advance(SECONDS * 2)  # type: ignore[attr-defined]
    assert begin(kit).version == version(ONE)
    deploy(kit, TWO)
    monkeypatch.setattr(kit.rollouts.store, "get", away)
    with pytest.raises(Unavailable):
        begin(kit)  # A process that never read it does not guess.


def test_no_turn_waits_for_a_version_to_be_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    kit = scripted_kit(agents=[ONE])
    with monkeypatch.context() as patch:
        patch.setattr(kit.rollouts.store, "keep", lambda *_, **__: (_ for _ in ()).throw(Unavailable("away")))
        assert begin(kit).version == version(ONE)
    begin(kit)
    assert [one for one, _ in kit.rollouts.store.versions("scripted")] == [version(ONE)]


def test_a_change_and_its_record_are_one_write(monkeypatch: pytest.MonkeyPatch) -> None:
    kit = scripted_kit(agents=[ONE])
    begin(kit)
    write, seen = kit.table.write, []

    def watched(operations: Any) -> None:
        seen.append({operation.key for operation in operations})
        write(operations)

    monkeypatch.setattr(kit.table, "write", watched)
    kit.rollouts.set(TWO, actor="me", share_percent=10)
    [with_it] = [each for each in seen if keys.rollout_key("scripted") in each]
    assert keys.audit_key(DEPLOYMENT, None, 1) in with_it
    head = kit.table.get(keys.tenant_key(DEPLOYMENT)) or {}
    records = audit_records(kit.sessions.audit(DEPLOYMENT, None))
    found = audit.verify(records, head["audit_seq"], head["audit_hash"], tenant_id=DEPLOYMENT, session_id=None)
    assert found == [] and [one["kind"] for one in records] == ["rollout"]


def test_limits_are_part_of_a_version_and_reach_new_sessions() -> None:
    kit = scripted_kit(agents=[ONE])
    assert begin(kit).limits.max_iterations == Limits().max_iterations
    fewer = replace(ONE, limits=Limits(max_iterations=3))
    assert version(fewer) != version(ONE)
    assert version(replace(ONE, limits=Limits())) == version(ONE), "names of versions without limits stay as they were"
    deploy(kit, fewer)
    kit.rollouts.set(fewer, actor="me", share_percent=0)
    assert begin(kit).limits.max_iterations == Limits().max_iterations
    kit.rollouts.promote("scripted", actor="me")
    assert begin(kit).limits.max_iterations == 3


def test_a_version_that_nobody_can_price_begins_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    kit = scripted_kit(agents=[ONE])
    begin(kit)
    with pytest.raises(UnpricedModel):
        kit.rollouts.set(replace(ONE, model="nobody-knows-this-model-1"), actor="me", share_percent=100)
    kit.rollouts.set(TWO, actor="me", share_percent=100)
    rates = kit.intake.prices.rates

    def forgets(model: str, options: Any) -> Any:
        if model == "claude-opus-5":
            raise UnpricedModel("no price any more")
        return rates(model, options)

    kit.rollouts.set(replace(TWO, model="claude-opus-5"), actor="me", share_percent=100)
    monkeypatch.setattr(kit.intake.prices, "rates", forgets)
    with pytest.raises(UnpricedModel):
        begin(kit)


def test_two_versions_with_one_function_for_their_prompt_can_be_rolled_out() -> None:
    made = by_tenant({"acme": "You are acme's."}, default="You are anybody's.")
    old, new = replace(ONE, system=made), replace(ONE, system=made, model="claude-opus-5")
    kit = scripted_kit(agents=[old])
    begin(kit)
    kit.rollouts.set(new, actor="me", share_percent=100)
    assert begin(kit).version == version(new)
    other = replace(ONE, system=by_tenant({}, default="You are another."))
    with pytest.raises(InvalidRequest, match="made by code"):
        kit.rollouts.set(other, actor="me", share_percent=100, candidate=version(new)[:8])
