"""Calls of tools whose runner died in the middle: what runs again, what is unknown, what had been put down."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest

from tests.support.kit import MODEL, MemoryKit
from tests.support.scripted import begin, check_session, play, reply, results, say, scripted_kit, use
from turnkeeper import Agent, ToolContext, tool
from turnkeeper.core.session import Head
from turnkeeper.core.transcript import UNKNOWN_OUTCOME
from turnkeeper.table import StoreBusy
from turnkeeper.testing.faulty_table import Crash


@tool
def echo(words: str) -> str:
    """Say it again."""
    return words


def stopped_in_the_middle(effect: Any, *, early: bool = False) -> tuple[MemoryKit, Head, list[str]]:
    """A runner that received an answer with two calls, began them, and died before it wrote their results; with
    ``early`` the first had already been put down."""
    ran: list[str] = []
    first_done = threading.Event()

    @tool(effect=effect, name="act")
    def act(ctx: ToolContext) -> str:
        """Act."""
        ran.append(ctx.idempotency_key)
        first_done.set()
        return "acted"

    @tool(name="die")
    def die() -> str:
        """Die."""
        ran.append("die")
        first_done.wait(5)
        if ran.count("die") == 1:
            time.sleep(0.2 if early else 0.0)
        return "alive"

    kit = scripted_kit(reply(use("act"), use("die")), reply(say("over")), tools=[act, die])
    head = begin(kit)
    write = kit.table.write

    def dies(operations: Any) -> None:
        if any("tool_results" in str(getattr(operation, "item", "")) for operation in operations):
            kit.table.write = write  # type: ignore[method-assign]
            raise Crash("dead")
        write(operations)

    kit.table.write = dies  # type: ignore[method-assign]
    if not early:
        kit.sessions.put_result = lambda *_: None  # type: ignore[method-assign]
    with pytest.raises(Crash):
        kit.run(head)
    kit.clock.advance(120)  # type: ignore[attr-defined]
    return kit, head, ran


@pytest.mark.parametrize(
    ("effect", "times", "outcome"), [("read", 2, "ok"), ("idempotent", 2, "ok"), ("once", 1, "unknown")]
)
def test_a_resume_runs_again_what_may_run_again(effect: Any, times: int, outcome: str) -> None:
    kit, head, ran = stopped_in_the_middle(effect)
    left = kit.run(head)
    check_session(kit, left)
    acted = [key for key in ran if key != "die"]
    assert len(acted) == times
    assert len(set(acted)) == 1
    told = results(kit, left)
    assert [(name, each) for name, each, _ in told] == [("act", outcome), ("die", "ok")]
    if outcome == "unknown":
        assert told[0][2] == UNKNOWN_OUTCOME


@pytest.mark.parametrize("effect", ["idempotent", "once"])
def test_a_result_that_was_put_down_is_used(effect: Any) -> None:
    kit, head, ran = stopped_in_the_middle(effect, early=True)
    left = kit.run(head)
    check_session(kit, left)
    assert len([key for key in ran if key != "die"]) == 1
    assert [(name, each) for name, each, _ in results(kit, left)] == [("act", "ok"), ("die", "ok")]
    assert "acted" in results(kit, left)[0][2]


def test_a_result_that_cannot_be_put_down_early_is_written_with_its_step() -> None:
    slow = threading.Event()

    @tool(effect="once")
    def pay() -> str:
        """Pay."""
        return "paid"

    @tool
    def wait() -> str:
        """Wait."""
        slow.wait(0.3)
        return "waited"

    kit = scripted_kit(reply(use("pay"), use("wait")), tools=[pay, wait])

    def busy(*_: Any) -> None:
        raise StoreBusy("no")

    kit.sessions.put_result = busy  # type: ignore[method-assign]
    assert [outcome for _, outcome, _ in results(kit, play(kit))] == ["ok", "ok"]


def test_a_tool_that_is_gone_since_is_an_error_and_what_it_may_have_done_unknown() -> None:
    for effect, outcome in (("read", "denied"), ("once", "unknown")):
        kit, head, _ = stopped_in_the_middle(effect)
        kit.catalog.agents["scripted"] = Agent(name="scripted", model=MODEL, system="You act.", tools=[echo])  # type: ignore[index]
        left = kit.run(head)
        check_session(kit, left)
        assert [each for _, each, _ in results(kit, left)] == [outcome, "denied"]
        assert left.status == "idle"


@pytest.mark.parametrize(("effect", "outcome"), [("read", "error"), ("idempotent", "unknown"), ("once", "unknown")])
def test_a_cancel_does_not_claim_that_a_dead_runners_calls_never_ran(effect: Any, outcome: str) -> None:
    kit, head, ran = stopped_in_the_middle(effect)
    left = kit.cancelling.cancel(kit.head(head.session_id), actor="ann")
    check_session(kit, left)
    assert left.status == "cancelled"
    assert [each for _, each, _ in results(kit, left)] == [outcome, "error"]
    assert len([key for key in ran if key != "die"]) == 1


def test_a_cancel_keeps_what_was_put_down() -> None:
    kit, head, _ = stopped_in_the_middle("once", early=True)
    left = kit.cancelling.cancel(kit.head(head.session_id), actor="ann")
    check_session(kit, left)
    assert results(kit, left)[0][1] == "ok"
