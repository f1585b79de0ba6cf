"""Another model answers where the agent's own is gone or overloaded, and an operator names another for good."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from tests.support.kit import MODEL, MemoryKit
from tests.support.scripted import begin, check_session, failure, play, reply, say, scripted_kit, states, use
from turnkeeper import Agent, Limits, tool
from turnkeeper.core.errors import UnpricedModel
from turnkeeper.ports import ModelReply
from turnkeeper.runtime.world import Allowance

OTHER = "claude-opus-5"


@tool
def look() -> str:
    """Look."""
    return "seen"


AGENT = Agent(name="scripted", model=MODEL, system="s", tools=[look], fallback_models=[OTHER])
GONE = failure(404, retryable=False)


def by_other(*content: dict[str, Any]) -> ModelReply:
    return replace(reply(*content), model=OTHER)


def asked(kit: MemoryKit) -> list[str]:
    return [request.model for request in kit.model.requests]


def test_a_model_that_is_gone_is_replaced_for_the_turn() -> None:
    kit = scripted_kit(GONE, by_other(use("look")), by_other(say("ok")), reply(say("back")), agents=[AGENT])
    head = play(kit)
    assert (head.status, head.turn.iterations) == ("idle", 2)
    assert asked(kit) == [MODEL, OTHER, OTHER]
    head = kit.run(kit.intake.post(head, "more"))
    check_session(kit, head)
    assert asked(kit)[3:] == [MODEL]
    assert [entry.model for entry in kit.entries(head.session_id) if entry.type == "assistant"] == [OTHER, OTHER, MODEL]


def test_one_that_stays_overloaded_is_replaced_after_half_of_the_attempts() -> None:
    kit = scripted_kit(*[failure(529)] * 3, by_other(say("ok")), agents=[AGENT])
    head = play(kit)
    assert (head.status, asked(kit)) == ("idle", [MODEL, MODEL, MODEL, OTHER])
    assert states(kit, head) == {"voided": 3, "settled": 1}


def test_each_attempt_is_reserved_and_booked_at_its_own_models_price() -> None:
    kit = scripted_kit(GONE, by_other(say("ok")), agents=[AGENT])
    head = play(kit)
    first, second = kit.sessions.calls("acme", head.session_id)
    assert (first["model"], second["model"]) == (MODEL, OTHER)
    usage = {"input_tokens": 200, "output_tokens": 20}
    assert second["spent_nanousd"] == kit.prices.cost_nanousd(OTHER, usage, {})
    assert second["spent_nanousd"] != kit.prices.cost_nanousd(MODEL, usage, {})
    assert second["amount_nanousd"] > first["amount_nanousd"]


def test_where_all_are_gone_the_turn_stops_and_an_operators_model_goes_on() -> None:
    kit = scripted_kit(reply(use("look")), GONE, GONE, agents=[AGENT])
    head = play(kit)
    assert head.stop is not None
    assert (head.stop.reason, head.stop.detail["status_code"]) == ("provider_error", 404)
    after = kit.run(kit.intake.resume(head, model="claude-haiku-4-5", actor="eve"))
    check_session(kit, after)
    assert (after.status, asked(kit)[-1]) == ("idle", "claude-haiku-4-5")
    records = kit.sessions.audit("acme", head.session_id)
    records = [record for record in records if record["kind"] in {"version", "operator_action"}]
    assert [(record["kind"], record["actor"]) for record in records] == [("version", "eve"), ("operator_action", "eve")]
    assert records[0]["detail"] == {"agent": "scripted", "before": head.version, "after": after.version}
    kit.run(kit.intake.post(after, "more"))
    assert asked(kit)[-1] == MODEL


def test_a_pinned_session_stays_with_the_operators_model() -> None:
    kit = scripted_kit(GONE, agents=[replace(AGENT, fallback_models=(), pin="session")])
    after = kit.run(kit.intake.resume(play(kit), model=OTHER, actor="eve"))
    kit.run(kit.intake.post(after, "more"))
    assert asked(kit) == [MODEL, OTHER, OTHER]


def test_a_model_without_a_price_is_refused() -> None:
    kit = scripted_kit(GONE, agents=[replace(AGENT, fallback_models=())])
    head = play(kit)
    with pytest.raises(UnpricedModel):
        kit.intake.resume(head, model="nobody-knows", actor="eve")
    assert kit.head(head.session_id) == head
    kit.catalog.agents["scripted"] = replace(AGENT, fallback_models=["nobody-knows"])  # type: ignore[index]
    with pytest.raises(UnpricedModel):
        begin(kit)


def test_the_next_runner_goes_on_with_the_model_that_answered() -> None:
    kit = scripted_kit(GONE, by_other(use("look")), by_other(say("ok")), agents=[AGENT])
    head = kit.run(begin(kit), Allowance(runner="fargate", draining=lambda: len(kit.model.requests) == 2))
    assert head.status == "queued"
    left = kit.run(head)
    check_session(kit, left)
    assert asked(kit) == [MODEL, OTHER, OTHER]


def test_thoughts_of_another_model_are_not_sent_and_none_are_asked_for_behind_its_calls() -> None:
    thought = {"type": "thinking", "thinking": "hm", "signature": "x"}
    options = {"thinking": {"type": "enabled", "budget_tokens": 2_000}}
    kit = scripted_kit(
        reply(thought, use("look")), GONE, by_other(thought, say("ok")), agents=[replace(AGENT, model_options=options)]
    )
    head = kit.run(begin(kit))
    own, gone, other = kit.model.requests
    assert "thinking" in str(gone.messages)
    assert "thinking" not in str(other.messages)
    assert ("thinking" in own.options, "thinking" in other.options) == (True, False)
    kit.run(kit.intake.post(head, "more"))
    again = kit.model.requests[-1]
    assert str(again.messages).count("'thinking': 'hm'") == 1
    assert "thinking" in again.options


def test_limits_of_one_attempt_still_reach_every_model() -> None:
    agent = replace(AGENT, limits=Limits(max_attempts=1))
    kit = scripted_kit(failure(529), by_other(say("ok")), agents=[agent])
    assert play(kit).status == "idle"
    assert asked(kit) == [MODEL, OTHER]
