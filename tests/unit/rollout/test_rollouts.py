"""A new version takes its share and no more, and goes back where it does worse."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from functions.score import handler as score
from tests.support.kit import MemoryKit
from tests.unit.observe.conftest import Stream
from turnkeeper import Agent, Scoring, by_tenant
from turnkeeper.core.errors import InvalidRequest, Unavailable
from turnkeeper.core.ledger import iso
from turnkeeper.core.rollout import Rollout
from turnkeeper.core.scoring import Score
from turnkeeper.core.session import Head
from turnkeeper.core.trajectory import Trajectory
from turnkeeper.core.versions import spec_of, version_of
from turnkeeper.runtime.catalog import Catalog
from turnkeeper.runtime.intake import Identity, NewSession
from turnkeeper.runtime.rollout_watch import RolloutWatch
from turnkeeper.runtime.rollouts import DEPLOYMENT, SECONDS
from turnkeeper.runtime.scoring import ScoreWatch
from turnkeeper.runtime.world import Allowance
from turnkeeper.testing.clock import ManualClock
from turnkeeper.testing.recorders import RecordedAlerts

MODEL = "claude-sonnet-5-5"


class Says:
    """Passes where the answer is as the prompt asks."""

    def score(self, trajectory: Trajectory) -> list[Score]:
        return [Score.check("fine", "bad" not in trajectory.system, "by its prompt")]


def agent(system: str, **more: Any) -> Agent:
    return Agent(name="clerk", model=MODEL, system=system, scoring=Scoring(evaluators=[Says()]), **more)


OLD, NEW, THIRD = agent("You are old."), agent("You are new."), agent("You are a third one.")


def version(one: Agent) -> str:
    return version_of(spec_of(one))


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def kit(clock: ManualClock, monkeypatch: pytest.MonkeyPatch) -> MemoryKit:
    kit = MemoryKit([OLD], runner="none", clock=clock)
    monkeypatch.setattr(score, "_kit", lambda: kit)
    return kit


def deploy(kit: MemoryKit, one: Agent) -> None:
    """As a new process would have it."""
    kit.__dict__["catalog"] = Catalog({"clerk": one})
    for name in ("intake", "rollouts", "rollout_watch", "score_watch", "scorer", "engine"):
        kit.__dict__.pop(name, None)


def begin(kit: MemoryKit, user: str = "ann", tenant: str = "acme") -> Head:
    return kit.intake.create(Identity(tenant, user, "user"), NewSession("clerk", "[[say hello]]", {}))


def rolled(kit: MemoryKit, share: float, **more: Any) -> Rollout:
    """OLD is in use, NEW is deployed for a share."""
    begin(kit)
    deploy(kit, NEW)
    return kit.rollouts.set(NEW, actor="me", share_percent=share, **more)


# ---- who gets what ----


@given(st.integers(0, 100), st.randoms(use_true_random=False))
def test_a_share_lands_within_its_interval_and_is_sticky(percent: int, random: Any) -> None:
    rollout = Rollout(agent="a", stable="s", candidate=f"c{random.random()}", share=percent * 100, set_at="", set_by="")
    taken = [rollout.takes("acme", f"user-{number}") for number in range(2000)]
    expected, error = 2000 * percent / 100, math.sqrt(2000 * percent / 100 * (1 - percent / 100))
    assert abs(sum(taken) - expected) <= 5 * error + 1e-9
    assert taken == [rollout.takes("acme", f"user-{number}") for number in range(2000)]


def test_a_larger_share_keeps_those_that_it_had() -> None:
    def taken(share: int) -> set[int]:
        rollout = Rollout(agent="a", stable="s", candidate="c", share=share, set_at="", set_by="")
        return {number for number in range(2000) if rollout.takes("acme", str(number))}

    assert taken(500) < taken(2500) < taken(10_000) == set(range(2000))


def test_ten_percent_of_two_thousand_users(kit: MemoryKit) -> None:
    rolled(kit, 10)
    heads = {f"user-{number}": begin(kit, f"user-{number}") for number in range(2000)}
    taken = {user for user, head in heads.items() if head.version == version(NEW)}
    assert {head.version for head in heads.values()} == {version(NEW), version(OLD)}
    assert 140 < len(taken) < 260
    again = {user for user in list(heads)[:300] if begin(kit, user).version == version(NEW)}
    assert again == taken & set(list(heads)[:300]), "sticky"


@pytest.mark.parametrize("percent", [float("nan"), float("inf"), -1, 100.5, 0.004])
def test_a_share_that_is_none_is_refused_and_changes_nothing(kit: MemoryKit, percent: float) -> None:
    with pytest.raises(InvalidRequest, match="share"):
        kit.rollouts.set(NEW, actor="ops", share_percent=percent)
    assert kit.rollouts.store.get("clerk") is None


def test_what_was_taken_back_is_not_promoted_by_whoever_has_not_seen_that(kit: MemoryKit) -> None:
    kit.rollouts.spec(OLD, "acme", "ann")
    kit.rollouts.set(NEW, actor="ops", share_percent=10)
    kit.rollouts.abort("clerk", actor="turnkeeper", reason="it trips")
    with pytest.raises(InvalidRequest, match="it trips"):
        kit.rollouts.promote("clerk", actor="ops")
    assert kit.rollouts.set(NEW, actor="ops", share_percent=100).state == "running"
    assert kit.rollouts.promote("clerk", actor="ops").state == "promoted"


def test_only_tenants_that_are_named(kit: MemoryKit) -> None:
    rolled(kit, 100, tenants=("acme",))
    assert begin(kit, tenant="acme").version == version(NEW)
    assert begin(kit, tenant="globex").version == version(OLD)


def test_open_sessions_move_at_their_next_turn_and_stay_with_their_user(kit: MemoryKit, clock: ManualClock) -> None:
    head = kit.run(begin(kit))
    assert head.version == version(OLD)
    deploy(kit, NEW)
    kit.rollouts.set(NEW, actor="me", share_percent=0)
    assert kit.intake.post(head, "more").version == version(OLD), "the deployed version takes nobody yet"
    kit.rollouts.set(NEW, actor="me", share_percent=100)
    head = kit.run(kit.head(head.session_id))
    assert kit.intake.post(head, "more").version == version(NEW)


@pytest.mark.parametrize(("state", "expected"), [("promoted", NEW), ("aborted", OLD)])
def test_what_is_decided_holds_until_other_code_is_deployed(kit: MemoryKit, state: str, expected: Agent) -> None:
    rolled(kit, 50)
    if state == "promoted":
        kit.rollouts.promote("clerk", actor="me")
    else:
        kit.rollouts.abort("clerk", actor="me", reason="it was rude")
    for deployed in (OLD, NEW):
        deploy(kit, deployed)
        assert {begin(kit, str(number)).version for number in range(20)} == {version(expected)}
    deploy(kit, THIRD)
    assert begin(kit).version == version(THIRD)


def test_a_third_version_is_held_back_while_it_runs(kit: MemoryKit) -> None:
    rolled(kit, 50)
    deploy(kit, THIRD)
    assert {begin(kit, str(number)).version for number in range(40)} == {version(OLD), version(NEW)}


def test_a_change_is_in_force_elsewhere_within_seconds(kit: MemoryKit, clock: ManualClock) -> None:
    rolled(kit, 0)
    elsewhere = MemoryKit([NEW], runner="none", clock=clock)
    elsewhere.__dict__["table"] = kit.table
    deploy(elsewhere, NEW)
    assert begin(elsewhere, "bob").version == version(OLD)
    kit.rollouts.set(NEW, actor="me", share_percent=100)
    clock.advance(SECONDS + 1)
    assert begin(elsewhere, "bob").version == version(NEW)


def test_how_a_turn_ends_follows_the_version(kit: MemoryKit) -> None:
    begin(kit)
    task = agent("You are a task.", done="end_task")
    deploy(kit, task)
    kit.rollouts.set(task, actor="me", share_percent=0)
    assert begin(kit).done == "end_turn"
    kit.rollouts.promote("clerk", actor="me")
    assert begin(kit).done == "end_task"


# ---- operators ----


def test_it_is_audited_on_a_chain_of_its_own(kit: MemoryKit) -> None:
    rolled(kit, 25)
    kit.rollouts.abort("clerk", actor="me", reason="it was rude")
    records = kit.sessions.audit(DEPLOYMENT, None)
    assert [(one["detail"]["state"], one["detail"]["share_percent"], one["actor"]) for one in records] == [
        ("running", "25", "me"),
        ("aborted", "25", "me"),
    ]


def test_what_cannot_be_rolled_out(kit: MemoryKit) -> None:
    with pytest.raises(InvalidRequest, match="one version only"):
        kit.rollouts.set(OLD, actor="me", share_percent=10)
    rolled(kit, 10)
    with pytest.raises(InvalidRequest, match="no version of clerk begins with 'xyz'"):
        kit.rollouts.set(NEW, actor="me", share_percent=10, candidate="xyz")
    with pytest.raises(InvalidRequest, match="0 to 100"):
        kit.rollouts.set(NEW, actor="me", share_percent=101)
    with pytest.raises(InvalidRequest, match="run on already"):
        kit.rollouts.set(NEW, actor="me", share_percent=1, stable=version(NEW)[:8])
    with pytest.raises(InvalidRequest, match="no rollout of nobody"):
        kit.rollouts.promote("nobody", actor="me")


def test_a_prompt_that_code_makes_cannot_be_gone_back_to(kit: MemoryKit) -> None:
    made = agent(by_tenant({"acme": "You are acme's."}, default="You are anybody's."))  # type: ignore[arg-type]
    deploy(kit, made)
    begin(kit)
    deploy(kit, NEW)
    with pytest.raises(InvalidRequest, match="made by code"):
        kit.rollouts.set(NEW, actor="me", share_percent=10)


def test_two_operators_at_once(kit: MemoryKit, monkeypatch: pytest.MonkeyPatch) -> None:
    rollout = rolled(kit, 10)
    store = kit.rollouts.store
    monkeypatch.setattr(type(store), "get", lambda *_: None)
    with pytest.raises(Unavailable):
        kit.rollouts.set(NEW, actor="me", share_percent=20, stable=rollout.stable[:8])


# ---- doing worse ----


Turns = Callable[[int], None]


@pytest.fixture
def turns(kit: MemoryKit) -> Turns:
    stream = Stream(kit)

    def run(count: int) -> None:
        for number in range(count):
            head = begin(kit, f"user-{number}")
            kit.engine.run("acme", head.session_id, Allowance(runner="fargate"))
            score.handler(stream.event(), None)

    return run


def test_a_candidate_that_does_worse_is_taken_back(kit: MemoryKit, turns: Turns, clock: ManualClock) -> None:
    begin(kit)
    bad = agent("You are bad.")
    deploy(kit, bad)
    kit.rollouts.set(bad, actor="me", share_percent=50)
    turns(60)
    alerts = RecordedAlerts()
    watch = RolloutWatch(kit.rollouts, kit.scores, kit.catalog, alerts, clock)
    watch.look()
    watch.look()
    [alert] = alerts.alerts
    assert alert.kind == "rollout_aborted" and "fine" in alert.data["why"]
    rollout = kit.rollouts.store.get("clerk")
    assert rollout is not None and (rollout.state, rollout.set_by) == ("aborted", "me")
    assert (rollout.ended_by, rollout.ended_at) == ("turnkeeper", iso(kit.clock.now()))
    assert {begin(kit, f"user-{number}").version for number in range(30)} == {version(OLD)}
    assert kit.sessions.audit(DEPLOYMENT, None)[-1]["actor"] == "turnkeeper"


def test_one_that_does_as_well_goes_on(kit: MemoryKit, turns: Turns, clock: ManualClock) -> None:
    rolled(kit, 50)
    turns(60)
    alerts = RecordedAlerts()
    RolloutWatch(kit.rollouts, kit.scores, kit.catalog, alerts, clock).look()
    assert not alerts.alerts
    sums = kit.scores.sums("clerk", clock.now() - timedelta(hours=1), clock.now() + timedelta(hours=1))
    assert set(sums) == {version(OLD), version(NEW)}, "scores carry the version"


def test_a_candidates_turns_are_no_fall_of_the_agents_own(kit: MemoryKit, turns: Turns, clock: ManualClock) -> None:
    turns(40)
    clock.advance(3 * 3600)
    bad = agent("You are bad.")
    deploy(kit, bad)
    kit.rollouts.set(bad, actor="me", share_percent=50)
    turns(60)
    alerts = RecordedAlerts()
    watched = ScoreWatch(kit.scores, kit.catalog, alerts, clock, kit.rollout_watch.candidate)
    watched.look()
    assert not alerts.alerts
    replace(watched, left_out=lambda _: None).look()
    assert [alert.kind for alert in alerts.alerts] == ["score_fell"]
