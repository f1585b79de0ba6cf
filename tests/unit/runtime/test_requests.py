"""What the model is sent: frozen tools, few cache breakpoints, and a beginning that never changes."""

from __future__ import annotations

import itertools
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.heads import head
from tests.support.kit import MODEL, POLICY
from tests.support.scripted import ScriptedModel, begin, check_session, play, reply, results, say, scripted_kit, use
from turnkeeper import Agent, Limits, tool
from turnkeeper.core.policy import policy_of
from turnkeeper.core.session import Entry, Spec
from turnkeeper.core.tools import Tool
from turnkeeper.ports import ModelRequest
from turnkeeper.runtime import requests
from turnkeeper.runtime.world import Allowance


@tool
def look(at: int) -> str:
    """Look."""
    return "seen"


@tool(scopes={"notes:write"})
def write(text: str) -> str:
    """Write."""
    return "written"


def bare(value: Any) -> Any:
    """Without cache breakpoints."""
    if isinstance(value, dict):
        return {name: bare(item) for name, item in value.items() if name != "cache_control"}
    return [bare(item) for item in value] if isinstance(value, list) else value


def prompt(request: ModelRequest) -> str:
    """In the order in which the provider caches it."""
    return json.dumps([bare(part) for part in (request.tools, request.system, *request.messages)])


def requests_of(*answers: Any, **agent: Any) -> list[ModelRequest]:
    given = {"name": "scripted", "model": MODEL, "system": "You act.", "tools": [look]}
    kit = scripted_kit(*answers, agents=[Agent(**given | agent)])
    play(kit)
    assert isinstance(kit.model, ScriptedModel)
    return kit.model.requests


def test_each_request_begins_with_the_one_before() -> None:
    steps = [reply(say("so"), use("look", at=number), use("look", at=number + 100)) for number in range(8)]
    sent = [prompt(request) for request in requests_of(*steps)]
    assert len(sent) == 9
    for before, after in itertools.pairwise(sent):
        assert after.startswith(before[:-1])


def test_a_few_breakpoints_at_the_ends_of_tools_system_and_conversation() -> None:
    for number, request in enumerate(requests_of(*[reply(use("look", at=number)) for number in range(4)])):
        body = json.dumps([request.tools, request.system, request.messages])
        assert body.count("cache_control") == (4 if number else 3)
        assert "cache_control" in request.tools[-1]
        assert "cache_control" in request.system[-1]
        assert "cache_control" in request.messages[-1]["content"][-1]


def test_breakpoints_of_a_user_do_not_use_ours_up() -> None:
    kit = scripted_kit(reply(say("ok")), tools=[look])
    text = [{"type": "text", "text": f"part {n}", "cache_control": {"type": "ephemeral"}} for n in range(9)]
    play(kit, text=text)
    assert json.dumps(kit.model.requests[0].messages).count("cache_control") == 1


def test_data_never_enters_the_system_prompt() -> None:
    requests = requests_of(reply(use("look", at=1)))
    assert requests[0].system == requests[1].system
    assert "seen" not in str(requests[1].system)


def test_half_a_character_does_not_brick_a_session() -> None:
    kit = scripted_kit(reply(say("half \ud800"), use("look", at=1)), reply(say("ok")), tools=[look])
    head = play(kit, text="a \udfff broken input")
    assert head.status == "idle"
    head = kit.run(kit.intake.post(head, "next"))
    check_session(kit, head)
    assert head.status == "idle"


def test_a_summary_of_half_characters_can_be_kept() -> None:
    kit = scripted_kit(reply(use("end_task", status="completed", summary="half \ud800")))
    head = play(kit, "tasker")
    assert (head.status, kit.head(head.session_id).status) == ("completed", "completed")


def test_a_stricter_policy_narrows_a_session_and_a_looser_one_does_not_widen_it() -> None:
    kit = scripted_kit(
        reply(use("write", text="a")), reply(say("ok")), reply(use("write", text="b")), tools=[look, write]
    )
    from turnkeeper.runtime.intake import Identity

    writer = Identity("acme", "wil", "writer")
    head = kit.run(begin(kit, who=writer))
    assert head.granted_tools == ("look", "write")
    stricter = {**POLICY, "roles": {**POLICY["roles"], "writer": {"scopes": []}}}
    kit.engine.world.__dict__["policy"] = policy_of(stricter)
    head = kit.run(kit.intake.post(head, "again"))
    check_session(kit, head)
    assert [outcome for _, outcome, _ in results(kit, head)] == ["ok", "denied"]

    kit = scripted_kit(reply(use("write", text="a")), tools=[look, write])
    head = begin(kit)
    assert head.granted_tools == ("look",)
    looser = {**POLICY, "roles": {**POLICY["roles"], "user": {"scopes": ["notes:write"]}}}
    kit.engine.world.__dict__["policy"] = policy_of(looser)
    head = kit.run(head)
    assert [outcome for _, outcome, _ in results(kit, head)] == ["denied"]


def test_only_granted_tools_are_sent() -> None:
    kit = scripted_kit(tools=[look, write])
    play(kit)
    assert [each["name"] for each in kit.model.requests[0].tools] == ["look"]


def test_a_tool_that_lives_elsewhere_is_asked_for_its_schema_and_left_out_where_it_cannot_be_had() -> None:
    asked: list[int] = []

    def schema() -> dict[str, Any]:
        asked.append(1)
        if len(asked) == 1:
            raise ConnectionError("down")
        return {"type": "object", "properties": {}}

    far = Tool(name="far", description="Far.", effect="read", input_schema=schema, body=lambda _, __: "here")
    kit = scripted_kit(reply(use("look", at=1)), reply(use("far")), tools=[look, far])
    head = play(kit)
    assert [[each["name"] for each in request.tools] for request in kit.model.requests] == [
        ["look"],
        ["look", "far"],
        ["look", "far"],
    ]
    assert [outcome for _, outcome, _ in results(kit, head)] == ["ok", "ok"]


def test_a_session_whose_agent_is_gone_is_stopped_resumable() -> None:
    kit = scripted_kit(reply(use("look", at=1)), tools=[look])
    head = kit.run(begin(kit), Allowance(runner="fargate", draining=lambda: True))
    del kit.catalog.agents["scripted"]  # type: ignore[attr-defined]
    head = kit.run(head)
    check_session(kit, head)
    assert (head.status, head.stop and head.stop.reason) == ("stopped", "internal_error")
    assert head.stop is not None
    assert "scripted" in head.stop.detail["hint"]


@pytest.mark.parametrize(("max_tokens", "budget"), [(8_000, 4_000), (3_000, 2_744), (1_200, None)])
def test_a_thinking_budget_stays_below_what_may_be_asked_for(max_tokens: int, budget: int | None) -> None:
    options = {"thinking": {"type": "enabled", "budget_tokens": 4_000}}
    [request] = requests_of(reply(say("ok")), model_options=options, limits=Limits(max_tokens=max_tokens))
    thinking = request.options.get("thinking")
    assert (thinking and thinking["budget_tokens"]) == budget


@given(st.integers(256, 6_000), st.integers(256, 6_000), st.none() | st.integers(1_024, 6_000), st.booleans())
def test_a_call_that_is_shortened_is_the_call_that_was_built_so(
    wanted: int, less: int, budget: int | None, thought: bool
) -> None:
    options = {"temperature": 1} | ({"thinking": {"type": "enabled", "budget_tokens": budget}} if budget else {})
    spec = Spec(model=MODEL, system="You act.", tools=(), model_options=options)
    said = Entry(seq=1, type="user", at="", content=(say("go"),))
    called = Entry(seq=2, type="assistant", at="", model=MODEL if thought else "another", content=(use("look", at=1),))
    wanted, less = max(wanted, less), min(wanted, less)
    request = requests.build(head(), spec, [said, called], {}, wanted)
    assert requests.shortened(request, spec, less) == requests.build(head(), spec, [said, called], {}, less)


def test_the_task_cap_clamps_what_is_asked_for() -> None:
    [request] = requests_of(reply(say("ok")), limits=Limits(max_tokens=100_000, task_usd="0.05"))
    assert 256 <= request.max_tokens < 5_000
