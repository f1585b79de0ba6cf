"""Turns on threads of the process that took their input."""

from __future__ import annotations

import time
from collections.abc import Callable

from server.turns import InProcessTurns
from tests.support.kit import MemoryKit
from turnkeeper.core.session import Head
from turnkeeper.runtime.intake import Identity, NewSession

WRITER = Identity(tenant_id="acme", user_id="ann", role="writer")


def kit_with(slots: int, **settings: object) -> tuple[MemoryKit, InProcessTurns]:
    kit = MemoryKit(runner="none", **settings)
    turns = InProcessTurns(kit, slots=slots, name="tests")
    kit.turns = turns
    return kit, turns


def begun(kit: MemoryKit, text: str, agent: str = "plain", placement: str | None = None) -> Head:
    head = kit.intake.create(WRITER, NewSession(agent=agent, input=text, metadata={}, placement=placement))  # type: ignore[arg-type]
    kit.dispatch.send(head)
    return head


def eventually(holds: Callable[[], bool]) -> None:
    until = time.monotonic() + 20
    while not holds():
        assert time.monotonic() < until
        time.sleep(0.02)


def status(kit: MemoryKit, head: Head) -> str:
    return kit.sessions.head(head.tenant_id, head.session_id).status


def test_a_turn_runs_here_and_a_background_one_goes_onto_the_queue() -> None:
    kit, _ = kit_with(2)
    here = begun(kit, "[[say hello]]")
    there = begun(kit, "[[say hello]]", placement="background")
    eventually(lambda: status(kit, here) == "idle")
    assert kit.sessions.head(here.tenant_id, here.session_id).steps == 1
    assert status(kit, there) == "queued"
    assert kit.work() == 1
    assert status(kit, there) == "idle"


def test_what_finds_no_thread_goes_onto_the_queue() -> None:
    kit, turns = kit_with(1)
    first = begun(kit, "[[sleep 0.5]][[say hello]]")
    eventually(lambda: turns.running() == 1)
    second = begun(kit, "[[say hello]]")
    assert kit.queue.backlog() == 1
    assert kit.work() == 1
    assert status(kit, second) == "idle"
    eventually(lambda: status(kit, first) == "idle" and turns.running() == 0)


def test_told_to_stop_it_brings_what_runs_to_a_safe_point_and_hands_it_on() -> None:
    kit, turns = kit_with(4, stop_seconds=20)
    text = "".join(f'[[sleep 0.2]][[tool write_note {{"text": "{n}"}}]]' for n in range(20)) + "[[say done]]"
    heads = [begun(kit, text, agent="helper") for _ in range(3)]
    eventually(lambda: len(kit.notes) > 2)
    turns.stop()
    late = begun(kit, "[[say late]]")
    assert turns.drain()
    assert {status(kit, head) for head in heads} == {"queued"}
    assert [kit.sessions.head(head.tenant_id, head.session_id).lease.owner for head in heads] == [None] * 3
    assert kit.queue.backlog() == 4
    assert kit.work() == 4
    assert {status(kit, head) for head in (*heads, late)} == {"idle"}
    assert len(kit.notes) == 60


def test_a_turn_that_fails_gives_its_thread_back() -> None:
    kit, turns = kit_with(1)
    turns.start("acme", "ses_00000000000000000000000000")
    eventually(lambda: turns.running() == 0)
    head = begun(kit, "[[say hello]]")
    eventually(lambda: status(kit, head) == "idle")
