"""The runner's side of streams, with the thread that it has in production."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest

from tests.support.kit import MODEL, WHO, MemoryKit
from turnkeeper.core.agent import Agent
from turnkeeper.core.deltas import Forming, Part
from turnkeeper.core.session import Head
from turnkeeper.core.tools import ToolContext, tool
from turnkeeper.runtime.intake import NewSession
from turnkeeper.runtime.relaying import RelayThread
from turnkeeper.runtime.store import keys
from turnkeeper.runtime.store.streams import MOST_BYTES, forming_of
from turnkeeper.testing.clock import ManualClock


@pytest.fixture
def kit() -> MemoryKit:
    return MemoryKit(runner="none")


@pytest.fixture
def head(kit: MemoryKit) -> Head:
    head = kit.intake.create(WHO, NewSession("plain", "hi", {}))
    return kit.sessions.claim(head.tenant_id, head.session_id, "me", "lambda")


def stream(kit: MemoryKit, head: Head) -> dict[str, Any] | None:
    return kit.table.get(keys.stream_key(head.tenant_id, head.session_id))


def told(kit: MemoryKit, head: Head, holds: Callable[[Forming], bool]) -> Forming:
    until = time.monotonic() + 10
    while (forming := forming_of(stream(kit, head))) is None or not holds(forming):
        assert time.monotonic() < until, f"still {forming}"
        time.sleep(0.005)
    return forming


def look(kit: MemoryKit, head: Head, *, anew: bool = True) -> None:
    kit.streams.look(head.tenant_id, head.session_id, anew=anew)


def test_tells_what_comes_from_when_somebody_looks(kit: MemoryKit, head: Head) -> None:
    relay = RelayThread(kit.streams, head, kit.clock)
    words = ["Hel"]
    on_event = relay.answer(5)
    on_event(lambda: [Part("text", "".join(words))])
    assert stream(kit, head) is None
    look(kit, head)
    relay.look(kit.sessions.asked(head)[1])
    forming = told(kit, head, lambda now: bool(now.pieces))
    assert (forming.seq, forming.pieces[0].part.text) == (5, "Hel")
    words.append("lo")
    on_event(lambda: [Part("text", "".join(words))])
    told(kit, head, lambda now: now.pieces[0].part.text == "Hello")
    relay.close()


def test_a_call_that_was_given_up_tells_nothing_more(kit: MemoryKit, head: Head) -> None:
    look(kit, head)
    relay = RelayThread(kit.streams, head, kit.clock)
    relay.look(kit.sessions.asked(head)[1])
    given_up = relay.answer(5)
    relay.void(5)
    given_up(lambda: [Part("text", "too late")])
    relay.answer(5)(lambda: [Part("text", "in time")])
    told(kit, head, lambda now: bool(now.pieces) and now.pieces[0].part.text == "in time")
    relay.close()


def test_a_runner_that_lost_the_session_tells_nobody(kit: MemoryKit, head: Head) -> None:
    look(kit, head)
    later = kit.streams.tell(_with_token(head, head.lease.fencing_token + 1), b"{}")
    assert later.readers == 1
    assert kit.streams.tell(head, b"[]").until == 0
    item = stream(kit, head)
    assert item is not None and item["tail"] == b"{}"


def test_what_somebody_said_they_look_at_ends_by_itself() -> None:
    clock = ManualClock()
    kit = MemoryKit(runner="none", clock=clock)
    head = kit.intake.create(WHO, NewSession("plain", "hi", {}))
    look(kit, head)
    assert kit.streams.tell(head, b"{}").at(clock.now())
    clock.advance(60)
    assert not kit.streams.tell(head, b"[]").at(clock.now())
    item = stream(kit, head)
    assert item is not None and item["tail"] == b"{}"


def test_an_erased_session_keeps_nothing_and_takes_nothing_of_it(kit: MemoryKit, head: Head) -> None:
    look(kit, head)
    kit.streams.tell(head, b'"secret words"')
    kit.erasure.erase(head, actor="ann")
    assert not kit.streams.tell(head, b'"more secret words"').until
    item = stream(kit, head)
    assert item is not None and not item.keys() & {"tail", "looked_until"}


@pytest.mark.parametrize("texts", [["x" * 100_000], ["😀" * 9_000, "é" * 9_000]])
def test_what_is_written_is_bounded(kit: MemoryKit, head: Head, texts: list[str]) -> None:
    look(kit, head)
    relay = RelayThread(kit.streams, head, kit.clock)
    relay.look(kit.sessions.asked(head)[1])
    relay.tools(7)
    for number in range(80):
        relay.started(f"toolu_{number:0100}", "look" * 30)
        relay.progress(f"toolu_{number:0100}", "y" * 5_000, None, str)
    told(kit, head, lambda now: bool(now.calls))
    relay.answer(8)(lambda: [Part("text", text) for text in texts])
    forming = told(kit, head, lambda now: bool(now.pieces))
    relay.close()
    item = stream(kit, head)
    assert item is not None and len(item["tail"]) <= MOST_BYTES
    assert len(str(forming.dump()).encode()) <= 2 * MOST_BYTES
    assert "".join(texts).endswith("".join(piece.part.text for piece in forming.pieces))
    assert forming.start + sum(len(piece.part.text) for piece in forming.pieces) == len("".join(texts))


@pytest.mark.parametrize("of_a_name", ["tool", "tool_use_id"])
def test_a_name_that_is_too_much_by_itself_is_not_told_and_the_next_entry_is(
    kit: MemoryKit, head: Head, of_a_name: str
) -> None:
    look(kit, head)
    relay = RelayThread(kit.streams, head, kit.clock)
    relay.look(kit.sessions.asked(head)[1])
    relay.answer(5)(lambda: [Part("text", "so "), Part("tool_input", "{}", **{of_a_name: "x" * MOST_BYTES})])
    assert told(kit, head, lambda now: now.seq == 5).pieces == ()
    relay.answer(6)(lambda: [Part("text", "done")])
    assert told(kit, head, lambda now: now.seq == 6 and bool(now.pieces)).pieces[0].part.text == "done"
    relay.close()


def test_progress_is_told_without_secrets_and_never_harms_a_tool() -> None:
    seen: list[Forming | None] = []

    @tool(effect="read", secret_arguments={"pin"})
    def work(ctx: ToolContext, pin: str) -> str:
        """Work."""
        look(kit, head)
        for fraction in (0.5, 7, float("nan"), "half", None):
            ctx.progress(f"with {pin}", fraction=fraction)  # type: ignore[arg-type]
        until = time.monotonic() + 10
        while not seen and time.monotonic() < until:
            forming = forming_of(stream(kit, head))
            if forming is not None and forming.calls and forming.calls[0].told:
                seen.append(forming)
            time.sleep(0.01)
        return "done"

    agent = Agent(name="worker", model=MODEL, system="Work.", tools=[work])
    kit = MemoryKit([agent], runner="none", lease_seconds=6)
    head = kit.intake.create(WHO, NewSession("worker", '[[tool work {"pin": "4711-0815-x"}]]', {}))
    assert kit.run(head).status == "idle"
    [forming] = seen
    assert forming is not None
    assert forming.calls[0].told == 5
    assert forming.calls[0].text.startswith("with [redacted")


def _with_token(head: Head, token: int) -> Head:
    from dataclasses import replace

    return replace(head, lease=replace(head.lease, fencing_token=token))
