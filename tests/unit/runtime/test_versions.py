"""Open sessions move with deployments: at their next turn, and never in the middle of one."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.heads import as_once
from tests.support.kit import MODEL, WHO, MemoryKit
from tests.support.scripted import begin, check_session, play, reply, say, scripted_kit, use
from turnkeeper import Agent, Limits, tool
from turnkeeper.adapters.redaction import Redactor
from turnkeeper.core.errors import AgentNotFound
from turnkeeper.core.session import Head
from turnkeeper.core.transcript import all_text_of
from turnkeeper.core.versions import spec_of, version_of
from turnkeeper.ports import ModelRequest
from turnkeeper.runtime.intake import Identity
from turnkeeper.runtime.store import contents, keys
from turnkeeper.runtime.world import Allowance
from turnkeeper.table import Key, Put


@tool(name="look", untrusted=False)
def old_look(place: str) -> str:
    """Look."""
    return f"old {place}"


@tool(name="look", untrusted=False)
def new_look(where: str) -> str:
    """Look there."""
    return f"new {where}"


@tool
def extra() -> str:
    """Not there before."""
    return "more"


OLD = Agent(name="scripted", model=MODEL, system="Old prompt.", tools=[old_look])
NEW = replace(OLD, model="claude-opus-5", system="New prompt.", tools=[new_look, extra])


def deploy(kit: MemoryKit, agent: Agent) -> None:
    kit.catalog.agents.clear()  # type: ignore[attr-defined]
    kit.catalog.agents[agent.name] = agent  # type: ignore[index]


def say_more(kit: MemoryKit, head: Head) -> Head:
    left = kit.run(kit.intake.post(kit.head(head.session_id), "more"))
    check_session(kit, left)
    return left


def sent(request: ModelRequest) -> tuple[str, str, list[Any]]:
    """Model, the first words of the prompt, and the tools as the model sees them."""
    tools = [(each["name"], sorted(each["input_schema"]["properties"])) for each in request.tools]
    return request.model, request.system[0]["text"].split("\n")[0], tools


IS_OLD = (MODEL, "Old prompt.", [("look", ["place"])])
#: The new definition of a tool that was granted; the new tool is not given to an old session.
IS_NEW = ("claude-opus-5", "New prompt.", [("look", ["where"])])


def versions_in(kit: MemoryKit) -> list[tuple[str, str]]:
    return [
        (item["pk"], item["sk"])
        for item in kit.table.snapshot()
        if item["sk"].startswith("VERSION#") and item["pk"].startswith("T#")
    ]


def test_the_next_turn_begins_on_what_is_deployed_and_the_grant_does_not_grow() -> None:
    kit = scripted_kit(agents=[OLD])
    head = play(kit)
    deploy(kit, NEW)
    after = say_more(kit, head)
    assert [sent(request) for request in kit.model.requests] == [IS_OLD, IS_NEW]
    assert after.granted_tools == head.granted_tools == ("look",)
    assert (head.version, after.version) == (version_of(spec_of(OLD)), version_of(spec_of(NEW)))
    [record] = [item for item in kit.sessions.audit("acme", head.session_id) if item["kind"] == "version"]
    assert record["detail"] == {"agent": "scripted", "before": head.version, "after": after.version}
    new = play(kit)
    assert new.granted_tools == ("look", "extra")


def test_a_turn_that_has_begun_ends_on_the_version_that_it_began_on() -> None:
    kit = scripted_kit(reply(use("look", place="here")), agents=[OLD])
    head = kit.run(begin(kit), Allowance(runner="fargate", draining=lambda: bool(kit.model.requests)))
    assert head.status == "queued"
    deploy(kit, NEW)
    left = kit.run(head)
    check_session(kit, left)
    assert [sent(request) for request in kit.model.requests] == [IS_OLD, IS_OLD]
    assert left.version == head.version


def test_a_turn_that_goes_on_after_a_stop_is_still_the_same() -> None:
    kit = scripted_kit(reply(use("look", place="here")), agents=[replace(OLD, limits=Limits(max_iterations=1))])
    head = play(kit)
    assert head.stop is not None
    assert head.stop.reason == "iteration_limit"
    deploy(kit, NEW)
    kit.run(kit.intake.resume(head, max_iterations=9))
    assert [sent(request) for request in kit.model.requests] == [IS_OLD, IS_OLD]


def test_a_pinned_session_keeps_what_it_was_made_with() -> None:
    kit = scripted_kit(agents=[OLD])
    head = play(kit)
    deploy(kit, replace(NEW, pin="session"))
    after = say_more(kit, head)
    assert [sent(request) for request in kit.model.requests] == [IS_OLD, IS_OLD]
    assert after.version == head.version


def test_how_a_turn_ends_moves_along() -> None:
    kit = scripted_kit(
        reply(say("ok")), reply(use("end_task", status="completed", summary="It is done.")), agents=[OLD]
    )
    head = play(kit)
    deploy(kit, replace(OLD, done="end_task"))
    after = say_more(kit, head)
    assert (after.status, after.done) == ("completed", "end_task")


def test_a_session_of_before_goes_on_and_moves_at_its_next_turn() -> None:
    """Its prompt, model and tools are frozen into an item of its own, and its head names no version."""
    kit = scripted_kit(agents=[OLD])
    head = begin(kit)
    frozen = spec_of(OLD).model_dump(mode="json")
    spec = contents.pack(frozen, kit.blobs, keys.blob_prefix("acme", head.session_id))
    kit.table.write([Put(Key(keys.session_pk("acme", head.session_id), "SPEC"), spec)])
    as_once(kit.table, keys.head_key("acme", head.session_id), remove=["version"])
    deploy(kit, NEW)
    left = kit.run(kit.head(head.session_id))
    assert left.version is None
    after = say_more(kit, left)
    assert [sent(request) for request in kit.model.requests] == [IS_OLD, IS_NEW]
    assert after.version == version_of(spec_of(NEW))


def test_versions_are_shared_by_the_sessions_of_a_tenant_and_by_no_other() -> None:
    kit = scripted_kit(agents=[OLD])
    heads = [play(kit, who=who) for who in (WHO, WHO, Identity("other", "bob", "user"))]
    name = version_of(spec_of(OLD))
    assert {head.version for head in heads} == {name}
    assert sorted(versions_in(kit)) == [("T#acme", f"VERSION#{name}"), ("T#other", f"VERSION#{name}")]
    kit.sessions.keep_version("acme", spec_of(OLD))
    assert len(versions_in(kit)) == 2


def test_a_version_too_large_for_an_item_outlives_the_sessions_that_are_erased() -> None:
    words = "".join(chr(0x4E00 + number * 7919 % 20_000) for number in range(60_000))
    kit = scripted_kit(agents=[replace(OLD, system=words)])
    head = play(kit)
    kit.erasure.erase(head, actor="eve")
    assert head.version is not None
    assert kit.sessions.spec("acme", head.version).system == words


def test_a_turn_reads_one_item_more_at_most() -> None:
    kit = scripted_kit(agents=[OLD])
    head = play(kit)
    counts: list[int] = []
    for agent in (OLD, replace(NEW, pin="session")):  # What is deployed is the session's version, and is not.
        deploy(kit, agent)
        posted = kit.intake.post(kit.head(head.session_id), "more")
        reads: list[str] = []
        kit.table.on_request = reads.append
        kit.run(posted)
        kit.table.on_request = lambda _: None
        counts.append(sum(name in {"GetItem", "BatchGetItem", "Query"} for name in reads))
    assert counts[1] == counts[0] + 1


def test_a_renamed_agent_is_found_by_sessions_and_by_requests() -> None:
    kit = scripted_kit(agents=[OLD])
    head = play(kit)
    deploy(kit, replace(OLD, name="better", formerly=["scripted"]))
    after = say_more(kit, head)
    assert (after.status, after.agent, after.granted_tools) == ("idle", "better", ("look",))
    assert begin(kit, "scripted").agent == "better"
    with pytest.raises(AgentNotFound):
        begin(kit, "neither")


def test_a_rename_in_the_middle_of_a_turn_does_not_end_it() -> None:
    kit = scripted_kit(reply(use("look", place="here")), agents=[OLD])
    head = begin(kit)
    deploy(kit, replace(OLD, name="better", formerly=["scripted"]))
    left = kit.run(head)
    check_session(kit, left)
    assert (left.status, left.steps, left.agent) == ("idle", 2, "scripted")


def test_a_version_that_reads_more_than_the_last_is_reserved_for() -> None:
    """What the latest call read says nothing about a call with another prompt."""
    kit = scripted_kit(agents=[OLD])
    head = play(kit)
    small = kit.sessions.calls("acme", head.session_id)[-1]["amount_nanousd"]
    deploy(kit, replace(OLD, system="long words " * 50_000))
    say_more(kit, head)
    assert kit.sessions.calls("acme", head.session_id)[-1]["amount_nanousd"] > small + 100_000_000


def test_a_call_by_an_arguments_old_name_is_answered_with_what_is_asked_for_now() -> None:
    limits = Limits(error_streak=2)
    kit = scripted_kit(
        *[reply(use("look", place=place)) for place in ("here", "there", "everywhere")],
        reply(use("look", where="there")),
        reply(say("It is new.")),
        agents=[replace(OLD, limits=limits)],
    )
    head = begin(kit)
    deploy(kit, replace(NEW, limits=limits))
    stopped = kit.run(head)  # The code is another one already than the definition that this turn began with.
    assert stopped.stop is not None
    assert stopped.stop.reason == "error_streak"
    after = say_more(kit, stopped)
    assert [sent(request) for request in kit.model.requests] == [IS_OLD, IS_OLD, IS_NEW, IS_NEW, IS_NEW]
    assert (after.status, after.steps) == ("idle", 5)
    refused = [text for outcome, text in results(kit, after) if outcome == "error"]
    assert len(refused) == 3
    assert all("It takes: where." in text for text in refused)


@tool(name="look")
def all_optional(where: str = "", when: str = "") -> str:
    """Look."""
    return where + when


def _is_no_secret(name: str) -> bool:
    """What an argument of another name holds is shown to nobody, nor what stands behind such a name in a text."""
    redactor, told = Redactor(), f"{name}: Extra"
    return redactor.redact({name: "here"}) == {name: "here"} and redactor.redact_text(told) == told


@given(
    name=st.from_regex(r"[a-z_]{1,20}", fullmatch=True)
    .filter(lambda name: name not in {"where", "when"})
    .filter(_is_no_secret)
)
def test_what_a_tool_takes_is_named_also_where_nothing_is_required(name: str) -> None:
    kit = scripted_kit(reply(use("look", **{name: "here"})), tools=[all_optional])
    [(outcome, text)] = results(kit, play(kit))
    assert outcome == "error"
    assert f"{name}: Extra inputs are not permitted" in text
    assert "It takes: where, when." in text


def results(kit: MemoryKit, head: Head) -> list[tuple[str, str]]:
    """Outcome and text of every tool call, in order."""
    entries = kit.sessions.load("acme", head.session_id).entries
    return [
        (outcome.outcome, all_text_of(block))
        for entry in entries
        for block, outcome in zip(entry.content, entry.outcomes, strict=False)
    ]
