"""A candidate is tried on the same inputs, at nobody's cost, and nothing that it does takes effect."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from functions.score import handler as score
from tests.support.kit import MODEL, POLICY, WHO, MemoryKit
from tests.support.scripted import begin, check_session, reply, results, say, scripted_kit, use
from tests.unit.observe.conftest import Stream
from turnkeeper import Agent, by_tenant, tool
from turnkeeper.core.errors import InvalidRequest
from turnkeeper.core.reserved_tenants import companion_of
from turnkeeper.core.session import Head
from turnkeeper.core.tools import Effect, Tool, ToolContext, ToolError
from turnkeeper.core.versions import spec_of, version_of
from turnkeeper.runtime.catalog import Catalog
from turnkeeper.runtime.companions import MAX_COPIED
from turnkeeper.runtime.shadowing import NOT_RUN
from turnkeeper.runtime.store import codec, contents, keys
from turnkeeper.runtime.store.sessions import ENTRIES_A_WRITE
from turnkeeper.runtime.world import Allowance
from turnkeeper.table import Operation
from turnkeeper.testing.faulty_table import Crash

EVALS = companion_of("acme")
PLANS: dict[str, Any] = {
    **POLICY,
    "evals_plan": "evals",
    "plans": {**POLICY["plans"], "evals": {**POLICY["plans"]["standard"], "task_usd": "0.50", "retention_days": 7}},
}


class Shop:
    """What its tools did, and for whom."""

    def __init__(self) -> None:
        self.did: list[tuple[str, Any]] = []
        self.tools = [self._tool("pay", "once"), self._tool("label", "idempotent"), self._tool("look", "read")]

    def _tool(self, name: str, effect: Effect) -> Tool:
        @tool(name=name, effect=effect, untrusted=False)
        def act(ctx: ToolContext, what: str) -> str:
            """Do it."""
            self.did.append((name, (ctx.tenant_id, what)))
            if what == "broken":
                raise ToolError("it is broken")
            return f"{name} {what} done"

        return act

    def agent(self, system: Any = "You are old.", **more: Any) -> Agent:
        return Agent(name="scripted", model=MODEL, system=system, tools=self.tools, **more)


@pytest.fixture
def shop() -> Shop:
    return Shop()


def kit_of(
    shop: Shop, monkeypatch: pytest.MonkeyPatch, *answers: Any, policy: Any = PLANS, **candidate: Any
) -> MemoryKit:
    """A kit whose agent's every turn is shadowed by another version of it."""
    kit = scripted_kit(*answers, agents=[shop.agent()], policy=policy)
    monkeypatch.setattr(score, "_kit", lambda: kit)
    # Of a kit that knows the old version: it was deployed.
    kit.rollouts.store.keep("scripted", spec_of(shop.agent()), kit.clock.now(), deployed=True)
    new = shop.agent(**{"system": "You are new.", **candidate})
    kit.rollouts.set(new, actor="me", share_percent=100, shadow=True)
    return kit


ORIGINAL = [reply(use("pay", what="rent"), use("look", what="bill"), use("label", what="broken")), reply(say("Paid."))]


def scored(kit: MemoryKit, stream: Stream) -> None:
    assert score.handler(stream.event(), None) == {"batchItemFailures": []}


def shadow_of(kit: MemoryKit, head: Head) -> Head:
    return kit.sessions.head(EVALS, f"{head.session_id}-t{head.turn.number}-shadow")


def shadowed(kit: MemoryKit, shop: Shop) -> tuple[Head, Head]:
    """A turn, and its shadow as the scorer wrote it down."""
    stream = Stream(kit)
    head = kit.run(begin(kit))
    scored(kit, stream)
    shop.did.clear()
    return head, shadow_of(kit, head)


def run(kit: MemoryKit, head: Head, **allowance: Any) -> Head:
    return kit.engine.run(head.tenant_id, head.session_id, Allowance(runner="fargate", **allowance))


def test_only_what_reads_runs_and_it_reads_as_the_original_did(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    again = [
        use("pay", what="rent"),
        use("pay", what="more"),
        use("label", what="broken"),
        use("label", what="else"),
        use("look", what="bill"),
    ]
    kit = kit_of(shop, monkeypatch, *ORIGINAL, reply(*again), reply(say("Paid as well.")))
    head, shadow = shadowed(kit, shop)
    left = run(kit, shadow)
    check_session(kit, left)
    assert shop.did == [("look", ("acme", "bill"))]
    told = [(outcome, text) for _, outcome, text in results(kit, left)]
    assert told == [
        ("ok", "pay rent done"),
        ("ok", NOT_RUN),
        ("error", "it is broken"),
        ("ok", NOT_RUN),
        ("ok", "look bill done"),
    ]
    assert kit.model.requests[-1].system[0]["text"].startswith("You are new.")
    assert {one["name"] for one in kit.model.requests[-1].tools} == {"pay", "label", "look"}
    assert left.granted_tools == ("look",), "what changes something is in no grant"
    assert left.version == version_of(spec_of(shop.agent("You are new.")))
    assert left.limits == head.limits


def test_its_input_is_that_of_the_turn_with_what_was_before(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    kit = kit_of(shop, monkeypatch, reply(say("Hello.")), reply(say("Yes.")), reply(say("Again.")))
    stream = Stream(kit)
    head = kit.run(kit.intake.post(kit.run(begin(kit, text="first")), "second"))
    scored(kit, stream)
    run(kit, shadow_of(kit, head))
    sent, original = kit.model.requests[-1].messages, kit.model.requests[1].messages
    assert [str(one["role"]) for one in sent] == ["user", "assistant", "user"]
    assert [_texts(one) for one in sent] == [_texts(one) for one in original] == [["first"], ["Hello."], ["second"]]


def _texts(message: Any) -> list[str]:
    return [block["text"] for block in message["content"]]


def test_it_is_another_tenants_money_and_in_no_list_of_its_users(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    kit = kit_of(shop, monkeypatch, *ORIGINAL)
    head, shadow = shadowed(kit, shop)
    before = kit.sessions.head("acme", head.session_id)
    left = run(kit, shadow)
    assert left.account.cost_nanousd > 0
    assert kit.sessions.head("acme", head.session_id) == before
    assert [one.session_id for one in kit.sessions.lists.page("acme", None, status=None, limit=9, cursor=None)[0]] == [
        head.session_id
    ]
    assert kit.tenants.terms(EVALS).caps.cap("task") == 500_000_000
    assert left.retention_days == 7


def test_the_sweep_sends_it_at_once(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    kit = kit_of(shop, monkeypatch, *ORIGINAL)
    _, shadow = shadowed(kit, shop)
    assert shadow.handoff is not None
    assert (shadow.status, shadow.handoff.to, shadow.handoff.sends) == ("queued", "queue", 0)
    report = kit.sweep.run(lambda: 60.0)
    assert report.sessions == [shadow.session_id]
    assert shadow_of(kit, kit.sessions.head("acme", shadow.companion.session_id)).handoff.sends == 1  # type: ignore[union-attr]


def test_what_the_stream_tells_again_makes_one(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    kit = kit_of(shop, monkeypatch, *ORIGINAL)
    stream = Stream(kit)
    head = kit.run(begin(kit))
    event = stream.event()
    for _ in range(3):
        score.handler(event, None)
    run(kit, shadow_of(kit, head))
    scored(kit, stream)  # Neither is a shadow shadowed.
    heads = [codec.head_of(item) for item in kit.table.snapshot() if item["sk"] == "HEAD"]
    assert [head.session_id for head in heads if head.tenant_id != "acme"] == [f"{head.session_id}-t1-shadow"]


def test_its_scores_are_the_candidates(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    kit = kit_of(shop, monkeypatch, *ORIGINAL, *ORIGINAL)
    stream = Stream(kit)
    head = kit.run(begin(kit))
    scored(kit, stream)
    shadow = run(kit, shadow_of(kit, head))
    scored(kit, stream)
    now = kit.clock.now()
    sums = kit.scores.sums("scripted", now - timedelta(hours=1), now + timedelta(hours=1))
    assert {version: one.turns for version, one in sums.items()} == {head.version: 1, shadow.version: 1}
    [made] = kit.scores.of_session(EVALS, shadow.session_id)
    assert {one.name: one.passed for one in made.scores}["tool_calls_valid"] is True


@pytest.mark.parametrize("way", ["crash before", "crash after", "handoff", "lost runner"])
def test_once_never_runs_whatever_happens_to_its_runner(shop: Shop, monkeypatch: pytest.MonkeyPatch, way: str) -> None:
    again = reply(use("pay", what="rent"), use("pay", what="other"), use("label", what="x"))
    for at in range(1, 8):
        kit = kit_of(shop, monkeypatch, *ORIGINAL, again, again, *[reply(say("Done."))] * 3)
        _, shadow = shadowed(kit, shop)
        if way == "handoff":
            left = 0
            with suppress(Exception):
                run(kit, shadow, draining=lambda seen=kit.model.requests, most=2 + at: len(seen) >= most)
        else:
            left = at
            write = kit.table.write

            def dies(operations: Any, write: Any = write) -> None:
                nonlocal left
                left -= 1
                if left == 0 and way != "crash after":
                    raise Crash("before a write")
                write(operations)
                if left == 0:
                    raise Crash("after a write")

            with monkeypatch.context() as patch:
                patch.setattr(kit.table, "write", dies)
                with suppress(Crash):
                    run(kit, shadow)
        kit.clock.advance(3_600)
        for _ in range(5):
            kit.sweep.run(lambda: 60.0)
            with suppress(Exception):
                run(kit, kit.sessions.head(EVALS, shadow.session_id))
            kit.clock.advance(3_600)
        assert kit.sessions.head(EVALS, shadow.session_id).resting
        assert not [one for one in shop.did if one[0] != "look"], (way, at)


def test_a_tool_that_changes_something_by_now_is_not_run_though_it_was_granted(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    kit = kit_of(shop, monkeypatch, *ORIGINAL, reply(use("look", what="bill"), use("look", what="new")))
    _, shadow = shadowed(kit, shop)
    later = [replace(one, effect="once") if one.name == "look" else one for one in shop.tools]
    kit.__dict__["catalog"] = Catalog({"scripted": replace(shop.agent(), tools=later)})
    kit.__dict__.pop("engine", None)
    left = run(kit, shadow)
    assert shop.did == []
    assert [text for _, _, text in results(kit, left)] == ["look bill done", NOT_RUN]


def test_a_runner_that_knows_no_shadows_has_none_of_the_tools(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """As during a deployment: to it the head is a session like any other."""
    kit = kit_of(shop, monkeypatch, *ORIGINAL, reply(use("pay", what="rent"), use("label", what="x")))
    _, shadow = shadowed(kit, shop)
    item = codec.flat_item(kit.sessions.head(EVALS, shadow.session_id))
    del item["companion"]
    old = codec.head_of(item)
    assert old.companion is None
    monkeypatch.setattr(kit.engine.world.sessions, "load", _forgetful(kit.sessions.load))
    monkeypatch.setattr(
        kit.engine.world.sessions, "claim", lambda *a, c=kit.sessions.claim, **k: replace(c(*a, **k), companion=None)
    )
    left = run(kit, shadow)
    assert [outcome for _, outcome, _ in results(kit, left)] == ["denied", "denied"]
    assert shop.did == []


def _forgetful(load: Any) -> Any:
    def loaded(*of: Any) -> Any:
        transcript = load(*of)
        return replace(transcript, head=replace(transcript.head, companion=None))

    return loaded


def test_an_erasure_takes_what_was_made_of_a_session_along(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    kit = kit_of(shop, monkeypatch, *ORIGINAL, *ORIGINAL)
    stream = Stream(kit)
    head = kit.run(begin(kit, text="my name is Ann Other"))
    event = stream.event()
    score.handler(event, None)
    shadow = run(kit, shadow_of(kit, head))
    kit.erasure.erase(head, actor="ann")
    assert kit.sessions.head(EVALS, shadow.session_id).status == "erased"
    left = [contents.unpack(item, kit.blobs) for item in kit.table.snapshot() if item["sk"].startswith("ENTRY#")]
    assert "Ann Other" not in str(left)
    score.handler(event, None)
    assert kit.sessions.head(EVALS, shadow.session_id).status == "erased", "and nothing is made of it any more"


def test_one_that_was_erased_before_the_stream_told_of_it_has_none(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    kit = kit_of(shop, monkeypatch, *ORIGINAL)
    stream = Stream(kit)
    head = kit.run(begin(kit))
    event = stream.event()
    kit.erasure.erase(head, actor="ann")
    score.handler(event, None)
    assert kit.table.get(keys.head_key(EVALS, f"{head.session_id}-t1-shadow")) is None


@pytest.mark.parametrize("paused", ["acme", EVALS])
def test_a_paused_tenant_casts_no_shadows(shop: Shop, monkeypatch: pytest.MonkeyPatch, paused: str) -> None:
    kit = kit_of(shop, monkeypatch, *ORIGINAL)
    stream = Stream(kit)
    head = kit.run(begin(kit))
    kit.tenants.set(paused, actor="me", paused=True)
    scored(kit, stream)
    assert kit.table.get(keys.head_key(EVALS, f"{head.session_id}-t1-shadow")) is None


def test_a_turn_far_into_its_session_has_none(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """It could not be written at once, and an erasure that comes in between would leave the rest."""
    kit = kit_of(shop, monkeypatch)
    stream = Stream(kit)
    head = kit.run(begin(kit))
    with_shadow = []
    for _ in range(MAX_COPIED // 2):
        head = kit.run(kit.intake.post(head, "more"))
        scored(kit, stream)
        key = keys.head_key(EVALS, f"{head.session_id}-t{head.turn.number}-shadow")
        with_shadow.append((head.turn.seq - 1 <= MAX_COPIED, kit.table.get(key) is not None))
    assert {True, False} == {fits for fits, _ in with_shadow}
    assert all(fits == made for fits, made in with_shadow)


@pytest.mark.parametrize("dies_at", [0, 1, 2])
def test_one_that_takes_several_writes_is_made_when_it_is_told_again(
    shop: Shop, monkeypatch: pytest.MonkeyPatch, dies_at: int
) -> None:
    """Whoever makes it dies between two of them, and its stream is read again."""
    kit = kit_of(shop, monkeypatch)
    stream = Stream(kit)
    head = kit.run(begin(kit))
    while head.last_seq <= ENTRIES_A_WRITE + 10:
        head = kit.run(kit.intake.post(head, "more"))
        stream.event()
    head = kit.run(kit.intake.post(head, "and this"))
    event, write, writes = stream.event(), kit.table.write, list[Sequence[Operation]]()
    key = keys.head_key(EVALS, f"{head.session_id}-t{head.turn.number}-shadow")

    def dies(operations: Sequence[Operation]) -> None:
        if operations[0].key.pk == key.pk or operations[-1].key.pk == key.pk:
            writes.append(operations)
            if len(writes) == dies_at + 1:
                raise Crash("dead")
        write(operations)

    kit.table.write = dies  # type: ignore[method-assign]
    with pytest.raises(Crash):
        score.handler(event, None)
    kit.clock.advance(1)  # type: ignore[attr-defined]
    assert score.handler(event, None) == {"batchItemFailures": []}
    made = kit.sessions.load(EVALS, shadow_of(kit, head).session_id)
    assert [entry.seq for entry in made.entries] == list(range(1, made.head.last_seq + 1))
    kit.clock.advance(3_601)  # type: ignore[attr-defined]
    assert kit.sweep.run(lambda: 10.0).erased == 0
    assert kit.sessions.load(EVALS, made.head.session_id).entries == made.entries


def test_a_prompt_by_tenant_is_the_originals(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    prompt = by_tenant({"acme": "You are acme's."}, default="You are nobody's.")
    kit = scripted_kit(*ORIGINAL, agents=[shop.agent(prompt)], policy=PLANS)
    monkeypatch.setattr(score, "_kit", lambda: kit)
    kit.rollouts.store.keep("scripted", spec_of(shop.agent(prompt)), kit.clock.now(), deployed=True)
    kit.rollouts.set(shop.agent(prompt, fallback_models=["claude-opus-5"]), actor="me", share_percent=100, shadow=True)
    _, shadow = shadowed(kit, shop)
    run(kit, shadow)
    assert kit.model.requests[-1].system[0]["text"].startswith("You are acme's.")


def test_without_a_plan_for_it_there_is_no_shadow(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InvalidRequest, match="evals_plan"):
        kit_of(shop, monkeypatch, policy=POLICY)


def test_what_nobody_could_hold_back_is_no_shadow(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InvalidRequest, match="mcp_servers"):
        kit_of(shop, monkeypatch, model_options={"mcp_servers": [{"type": "url", "url": "https://x.example"}]})


def test_nobody_is_answered_by_a_candidate_that_is_a_shadow(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    kit = kit_of(shop, monkeypatch)
    assert {begin(kit, who=replace(WHO, user_id=str(user))).version for user in range(50)} == {
        version_of(spec_of(shop.agent()))
    }


@pytest.mark.parametrize("denied", ["cost_cap", "paused"])
def test_what_the_plan_of_shadows_does_not_pay_for_says_nothing_of_the_candidate(
    denied: str, shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else the candidate would be taken back because the money for trying it is spent, or held back."""
    little = {**PLANS, "plans": {**PLANS["plans"], "evals": {**PLANS["plans"]["evals"], "user_daily_usd": "0.000001"}}}
    kit = kit_of(shop, monkeypatch, *ORIGINAL, policy=little if denied == "cost_cap" else PLANS)
    stream = Stream(kit)
    head = kit.run(begin(kit))
    scored(kit, stream)
    kit.tenants.set(EVALS, actor="me", paused=denied == "paused")
    left = run(kit, shadow_of(kit, head))
    assert left.stop is not None and left.stop.reason == denied
    scored(kit, stream)
    assert kit.scores.of_session(EVALS, left.session_id) == []
    now = kit.clock.now()
    assert set(kit.scores.sums("scripted", now, now + timedelta(hours=1))) == {head.version}
