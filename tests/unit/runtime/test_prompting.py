"""A system prompt that is made of the session's context: once a turn, kept, and never empty."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from tests.support.kit import MODEL, POLICY, WHO, MemoryKit
from tests.support.scripted import begin, check_session, play, reply, say, scripted_kit, use
from turnkeeper import Agent, Limits, SessionContext, by_tenant, tool
from turnkeeper.core.errors import ProviderError
from turnkeeper.core.prompts import MAX_PROMPT_BYTES
from turnkeeper.core.session import Head
from turnkeeper.ports import ModelReply, ModelRequest
from turnkeeper.runtime.intake import Identity, NewSession
from turnkeeper.runtime.store import keys
from turnkeeper.runtime.world import Allowance
from turnkeeper.table import Update
from turnkeeper.testing.clock import ManualClock


@tool(untrusted=False)
def look(place: str) -> str:
    """Look."""
    return f"seen {place}"


class Counted:
    """A prompt that is another one each time it is made."""

    def __init__(self, words: str = "Made") -> None:
        self.words = words
        self.contexts: list[SessionContext] = []

    def __call__(self, ctx: SessionContext) -> str:
        self.contexts.append(ctx)
        return f"{self.words} {len(self.contexts)}."


def agent_with(system: Any, **more: Any) -> Agent:
    return Agent(name="scripted", model=MODEL, system=system, tools=[look], **more)


def deploy(kit: MemoryKit, agent: Agent) -> None:
    kit.catalog.agents[agent.name] = agent  # type: ignore[index]


def begun(kit: MemoryKit, metadata: Mapping[str, Any], who: Identity = WHO) -> Head:
    return kit.run(kit.intake.create(who, NewSession(agent="scripted", input="go", metadata=metadata)))


def sent(kit: Any) -> list[str]:
    return [request.system[0]["text"].split("\n")[0] for request in kit.model.requests]


def say_more(kit: MemoryKit, head: Head) -> Head:
    left = kit.run(kit.intake.post(kit.head(head.session_id), "more"))
    check_session(kit, left)
    return left


def prompts_in(kit: MemoryKit, head: Head) -> list[str]:
    names = [item["sk"].removeprefix("ASKED#") for item in kit.table.snapshot() if item["sk"].startswith("ASKED#")]
    texts = [kit.sessions.prompt("acme", head.session_id, name) for name in names]
    return sorted(filter(None, texts))


def test_it_is_made_once_a_turn_however_often_the_turn_changes_hands() -> None:
    made = Counted()
    kit = scripted_kit(reply(use("look", place="here")), reply(say("ok")), agents=[agent_with(made)])
    head = kit.run(begin(kit), Allowance(runner="fargate", draining=lambda: bool(kit.model.requests)))
    assert head.status == "queued"
    left = kit.run(head)
    assert sent(kit) == ["Made 1.", "Made 1."]
    say_more(kit, left)
    assert sent(kit) == ["Made 1.", "Made 1.", "Made 2."]
    assert prompts_in(kit, head) == ["Made 1.", "Made 2."]


def test_every_answer_says_what_was_sent() -> None:
    kit = scripted_kit(agents=[agent_with(Counted())])
    head = play(kit)
    say_more(kit, head)
    names = [entry.prompt for entry in kit.entries(head.session_id) if entry.type == "assistant"]
    assert [kit.sessions.prompt("acme", head.session_id, str(name)) for name in names] == ["Made 1.", "Made 2."]


def test_the_context_is_the_sessions_and_cannot_be_changed() -> None:
    made = Counted()
    clock = ManualClock()
    policy = {**POLICY, "plans": {"standard": {**POLICY["plans"]["standard"], "timezone": "Pacific/Auckland"}}}
    kit = scripted_kit(agents=[agent_with(made)], clock=clock, policy=policy)
    head = begun(kit, {"plan": {"name": "gold"}})
    [ctx] = made.contexts
    assert (ctx.tenant_id, ctx.user_id, ctx.role) == (WHO.tenant_id, WHO.user_id, WHO.role)
    assert (ctx.agent, ctx.session_id, ctx.metadata) == ("scripted", head.session_id, {"plan": {"name": "gold"}})
    assert ctx.now.isoformat() == ctx.now.astimezone(ctx.now.tzinfo).isoformat()
    assert ctx.now.utcoffset() in (timedelta(hours=12), timedelta(hours=13))
    with pytest.raises(TypeError):
        ctx.metadata["plan"]["name"] = "free"
    kit.run(kit.intake.post(head, "more", who=replace(WHO, role="writer")))
    assert made.contexts[1].role == "writer"


def test_the_date_stays_where_a_turn_goes_on_on_another_day() -> None:
    clock = ManualClock()
    kit = scripted_kit(
        reply(use("look", place="here")),
        agents=[
            agent_with(by_tenant({}, default="Today is {date}."), limits=Limits(max_iterations=1, max_seconds=604_800))
        ],
        clock=clock,
    )
    head = play(kit)
    clock.advance(86_400 * 2)
    kit.run(kit.intake.resume(head, max_iterations=9))
    first, second = sent(kit)
    assert first == second
    say_more(kit, head)
    assert sent(kit)[-1] != first


def test_after_a_crash_the_same_words_are_sent() -> None:
    clock = ManualClock()
    made = Counted()

    def crash(_: ModelRequest) -> ModelReply:
        raise SystemExit

    kit = scripted_kit(crash, reply(say("ok")), agents=[agent_with(made)], clock=clock)
    head = begin(kit)
    with pytest.raises(SystemExit):
        kit.run(head)
    clock.advance(600)
    kit.run(head)
    assert sent(kit) == ["Made 1.", "Made 1."]


def test_a_failed_call_is_tried_again_with_the_same_words() -> None:
    failed = ProviderError("overloaded", retryable=True, certainty="unbilled", status_code=529)
    kit = scripted_kit(failed, reply(say("ok")), agents=[agent_with(Counted())], clock=ManualClock())
    play(kit)
    assert sent(kit) == ["Made 1.", "Made 1."]


def test_a_turn_that_began_before_a_deployment_goes_on_with_its_words() -> None:
    kit = scripted_kit(reply(use("look", place="here")), agents=[agent_with(Counted())])
    head = kit.run(begin(kit), Allowance(runner="fargate", draining=lambda: bool(kit.model.requests)))
    deploy(kit, agent_with("A fixed prompt."))
    left = kit.run(head)
    assert sent(kit) == ["Made 1.", "Made 1."]
    say_more(kit, left)
    assert sent(kit)[-1] == "A fixed prompt."


def test_a_turn_that_has_sent_nothing_yet_takes_what_is_deployed() -> None:
    kit = scripted_kit(agents=[agent_with(Counted())])
    head = begin(kit)
    deploy(kit, agent_with("A fixed prompt."))
    kit.run(head)
    assert sent(kit) == ["A fixed prompt."]


def test_a_pinned_session_keeps_the_words_that_it_was_made_with() -> None:
    made = Counted()
    kit = scripted_kit(agents=[agent_with(made, pin="session")])
    head = play(kit)
    deploy(kit, agent_with(Counted("Other"), pin="session"))
    say_more(kit, head)
    assert sent(kit) == ["Made 1.", "Made 1."]


def test_another_model_and_a_copy_have_words_of_their_own_sessions() -> None:
    made = Counted()
    kit = scripted_kit(reply(use("look", place="here")), agents=[agent_with(made, limits=Limits(max_iterations=1))])
    head = play(kit)
    other = kit.run(kit.intake.resume(head, max_iterations=9, model="claude-opus-5"))
    assert [request.model for request in kit.model.requests] == [MODEL, "claude-opus-5"]
    assert sent(kit) == ["Made 1.", "Made 1."]
    copy = kit.run(kit.branching.fork(WHO, other, value="and now?"))
    assert sent(kit)[-1] == "Made 2."
    assert made.contexts[-1].session_id == copy.session_id
    kept = [entry.prompt for entry in kit.entries(copy.session_id) if entry.type == "assistant"]
    assert kept == [None, None, copy.prompt]


def test_after_a_rewind_the_next_turn_has_its_own() -> None:
    kit = scripted_kit(agents=[agent_with(Counted())])
    head = play(kit)
    say_more(kit, kit.branching.rewind(WHO, head, turns=1))
    assert sent(kit) == ["Made 1.", "Made 2."]


def test_tenants_have_their_templates_and_one_version() -> None:
    system = by_tenant({"acme": "Acme's {user_id}.", "other": "Other's {metadata.team}."})
    kit = scripted_kit(agents=[agent_with(system)])
    heads = [play(kit), begun(kit, {"team": "blue"}, Identity("other", "bob", "user"))]
    assert sent(kit) == ["Acme's ann.", "Other's blue."]
    assert len({head.version for head in heads}) == 1
    [version] = {item["sk"] for item in kit.table.snapshot() if item["sk"].startswith("VERSION#")}
    assert kit.sessions.spec("acme", version.removeprefix("VERSION#")).system == ""


@pytest.mark.parametrize(
    "prompt",
    [
        lambda _: 1 / 0,
        lambda _: "",
        lambda _: " \n",
        lambda _: None,
        lambda _: "half \ud800",
        lambda _: "é" * (MAX_PROMPT_BYTES // 2 + 1),
        by_tenant({"other": "Not for acme."}),
        by_tenant({"acme": "For {metadata.team}."}),
    ],
)
def test_one_that_cannot_be_made_ends_the_turn_and_nothing_is_sent(prompt: Callable[[SessionContext], str]) -> None:
    kit = scripted_kit(agents=[agent_with(prompt)])
    head = play(kit)
    assert head.stop is not None
    assert (head.status, head.stop.reason, head.stop.detail["code"]) == ("stopped", "internal_error", "prompt_failed")
    assert "cannot be made: " in head.stop.detail["hint"]
    assert kit.model.requests == []
    assert head.account.cost_nanousd == 0
    deploy(kit, agent_with(Counted()))
    left = kit.run(kit.intake.resume(head))
    assert (left.status, sent(kit)) == ("idle", ["Made 1."])


def test_words_of_the_authors_error_are_not_told() -> None:
    def prompt(ctx: SessionContext) -> str:
        raise LookupError(f"the row of {ctx.user_id} in the staff table")

    kit = scripted_kit(agents=[agent_with(prompt)])
    head = play(kit)
    assert head.stop is not None
    assert head.stop.detail["hint"].endswith("LookupError")
    assert "staff" not in str(kit.table.snapshot())


def test_one_that_takes_too_long_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    forever = threading.Event()
    monkeypatch.setattr("turnkeeper.runtime.prompting.PROMPT_SECONDS", 0.05)
    kit = scripted_kit(agents=[agent_with(lambda _: str(forever.wait(20)))])
    head = play(kit)
    forever.set()
    assert head.stop is not None
    assert "took more than" in head.stop.detail["hint"]


def test_a_large_one_is_a_claim_check_and_the_same_words_are_kept_once() -> None:
    noise = random.Random(1).randbytes(60_000).hex()
    kit = scripted_kit(agents=[agent_with(lambda _: f"Long. {noise}")])
    head = say_more(kit, play(kit))
    [item] = [item for item in kit.table.snapshot() if item["sk"].startswith("ASKED#")]
    assert item["blob"].startswith(keys.blob_prefix("acme", head.session_id))
    assert kit.sessions.prompt("acme", head.session_id, str(head.prompt)) == f"Long. {noise}"


def test_one_that_is_gone_is_made_again() -> None:
    made = Counted()
    kit = scripted_kit(reply(use("look", place="here")), agents=[agent_with(made)])
    head = kit.run(begin(kit), Allowance(runner="fargate", draining=lambda: bool(kit.model.requests)))
    gone = ("data",)
    kit.table.update(Update(keys.prompt_key("acme", head.session_id, str(head.prompt)), remove=gone))
    left = kit.run(head)
    assert sent(kit) == ["Made 1.", "Made 2."]
    assert prompts_in(kit, left) == ["Made 2."]


def test_it_is_erased_with_the_session() -> None:
    kit = scripted_kit(agents=[agent_with(lambda ctx: f"You help {ctx.user_id}, of the blue team.")])
    head = play(kit)
    kit.erasure.erase(head, actor="ann")
    assert "blue team" not in str(kit.table.snapshot())
    assert kit.sessions.prompt("acme", head.session_id, str(head.prompt)) is None


def test_the_bound_of_a_call_is_of_what_it_is_sent() -> None:
    """What the last call had read says nothing about a call with another prompt."""
    kit = scripted_kit(agents=[agent_with(Counted("Long " * 2_000))])
    head = play(kit)
    assert head.account.context_tokens > 0
    say_more(kit, head)
    first, second = [item["amount_nanousd"] for item in kit.sessions.calls("acme", head.session_id)]
    assert second >= first
