"""A session stays in the container that the provider runs its code in."""

from __future__ import annotations

from typing import Any

from tests.support.kit import MODEL, WHO, MemoryKit
from tests.support.scripted import begin, check_session
from turnkeeper import Agent, tool
from turnkeeper.core.session import Entry, Head
from turnkeeper.testing.clock import ManualClock
from turnkeeper_local.evals.standin import StandInModel
from turnkeeper_local.standin.containers import Containers
from turnkeeper_local.standin.model import StandIn

SEARCH = {"type": "web_search_20260209", "name": "web_search", "max_uses": 2}


@tool
def look() -> str:
    """Look."""
    return "seen"


AGENT = Agent(name="scripted", model=MODEL, system="s", tools=[look], model_options={"tools": [SEARCH]})


def kit_with(agent: Agent = AGENT) -> tuple[MemoryKit, ManualClock]:
    clock = ManualClock()
    model = StandInModel(clock, StandIn(containers=Containers(clock.now)))
    return MemoryKit([agent], model=model, clock=clock, runner="none"), clock


def named(kit: MemoryKit) -> list[str | None]:
    """The container that each request names."""
    return [request.options.get("container") for request in kit.model.requests]  # type: ignore[attr-defined]


def entries(kit: MemoryKit, head: Head, kind: str) -> list[Entry]:
    return [entry for entry in kit.entries(head.session_id) if entry.type == kind]


def run(kit: MemoryKit, head: Head) -> Head:
    head = kit.run(head)
    check_session(kit, head)
    assert head.status == "idle", head.stop
    return head


def told(kit: MemoryKit, head: Head) -> list[str]:
    return [entry.container.id for entry in entries(kit, head, "assistant") if entry.container]


def test_it_is_named_in_every_request_until_it_expires() -> None:
    kit, clock = kit_with()
    head = run(kit, begin(kit, text="[[tool look]] [[say ok]]"))
    [first] = set(told(kit, head))
    assert named(kit) == [None, first]
    head = run(kit, kit.intake.post(head, "more"))
    assert named(kit)[2:] == [first]
    clock.advance(301)
    head = run(kit, kit.intake.post(head, "late"))
    assert named(kit)[3:] == [None]
    second = told(kit, head)[-1]
    assert second != first
    run(kit, kit.intake.post(head, "and on"))
    assert named(kit)[4:] == [second]


def test_a_program_that_waits_for_a_result_finds_its_container() -> None:
    call: dict[str, Any] = {"type": "server_tool_use", "id": "srvtoolu_1", "name": "code_execution", "input": {}}
    program = {"type": "code_execution_20260120", "tool_id": "srvtoolu_1"}
    use = {"type": "tool_use", "id": "toolu_1", "name": "look", "input": {}, "caller": program}
    kit, _ = kit_with()
    script = f"[[raw {call} & {use}]] [[say ok]]".replace("'", '"')
    head = run(kit, begin(kit, text=script))
    assert named(kit) == [None, told(kit, head)[0]]


def test_one_that_the_provider_has_lost_is_left_out_and_the_turn_goes_on() -> None:
    kit, _ = kit_with()
    head = run(kit, begin(kit, text="[[say ok]]"))
    kit.model.standin.containers.forget()  # type: ignore[attr-defined]
    head = run(kit, kit.intake.post(head, "more"))
    assert head.repairs == 1
    [repair] = entries(kit, head, "repair")
    assert repair.left_out == () and "was not found" in str(repair.reason)
    first, second = told(kit, head)
    assert named(kit) == [None, first, None] and first != second
    assert [record["kind"] for record in kit.sessions.audit("acme", head.session_id)][-1] == "repair"
    run(kit, kit.intake.post(head, "and on"))
    assert named(kit)[3:] == [second]


def test_what_is_taken_back_takes_its_container_along() -> None:
    kit, _ = kit_with()
    head = run(kit, begin(kit, text="[[say ok]]"))
    first = told(kit, head)[0]
    kit.model.standin.containers.forget()  # type: ignore[attr-defined]
    head = run(kit, kit.intake.post(head, "more"))
    assert first != told(kit, head)[-1]
    head = kit.branching.rewind(WHO, head)
    run(kit, kit.intake.post(head, "other"))
    assert named(kit)[-1] is None


def test_an_agent_without_such_tools_has_none() -> None:
    kit, _ = kit_with(Agent(name="scripted", model=MODEL, system="s"))
    head = run(kit, begin(kit, text="[[say ok]]"))
    run(kit, kit.intake.post(head, "more"))
    assert named(kit) == [None, None]
    assert told(kit, head) == []
