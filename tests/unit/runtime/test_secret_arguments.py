"""Arguments that a tool declares secret stand in the transcript and nowhere else, whatever becomes of the call."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from tests.support.kit import POLICY, MemoryKit
from tests.support.scripted import begin, die_with_tools, say, scripted_kit, use
from turnkeeper import tool
from turnkeeper.core.session import Head
from turnkeeper.runtime.catalog import Catalog
from turnkeeper.runtime.manifest import catalog_in, manifest_of
from turnkeeper.runtime.store import codec
from turnkeeper.runtime.tracing import request_of
from turnkeeper.testing.faulty_table import Crash

SECRET = "correct horse battery staple"


@tool(effect="once", secret_arguments={"phrase"})
def unlock(phrase: str, door: int = 1) -> str:
    """Unlock a door."""
    return f"door {door} is open"


@tool(effect="once", scopes={"doors:write"}, secret_arguments={"phrase"})
def lock(phrase: str) -> str:
    """Lock all doors."""
    raise AssertionError("no role may")


@tool(effect="once", secret_arguments={"phrase"})
def breach(phrase: str) -> str:
    """Break a door, and the runner."""
    raise Crash("dead")


def kit_of(*answers: Any, **more: Any) -> MemoryKit:
    return scripted_kit(*answers, tools=[unlock, lock, breach], **more)


def call(name: str) -> Any:
    return use(name, phrase=SECRET)


def ended(kit: MemoryKit) -> Head:
    return kit.run(begin(kit))


def left_behind(kit: MemoryKit) -> Head:
    """In the middle of a call, by a runner that died."""
    die_with_tools(kit)
    head = begin(kit)
    with pytest.raises(Crash):
        kit.run(head)
    kit.clock.advance(120)  # type: ignore[attr-defined]
    return kit.head(head.session_id)


def cancelled(kit: MemoryKit) -> Head:
    return kit.cancelling.cancel(left_behind(kit), actor="ann")


def cancelled_by_a_front_door(kit: MemoryKit) -> Head:
    """It knows agents from the manifest of its bundle only."""
    head = left_behind(kit)
    door = scripted_kit(clock=kit.clock)
    told = json.dumps(manifest_of(kit.catalog)).encode()
    door.__dict__ |= {"table": kit.table, "blobs": kit.blobs, "catalog": catalog_in(told)}
    return door.cancelling.cancel(head, actor="ann")


def given_up(kit: MemoryKit) -> Head:
    """Its agent is not deployed any more, so nobody knows what is secret."""
    head = left_behind(kit)
    kit.__dict__["catalog"] = Catalog({})
    kit.__dict__.pop("engine", None)
    return kit.run(head)


STRICT = {**POLICY, "plans": {"standard": {**POLICY["plans"]["standard"], "denied_tools": ["unlock"]}}}


@pytest.mark.parametrize(
    ("answers", "options", "play"),
    [
        ([call("unlock")], {}, ended),
        ([call("lock")], {}, ended),
        ([call("unlock")], {"policy": STRICT}, ended),
        ([call("lock")] * 6, {}, ended),
        ([call("unlock")] * 6, {}, ended),
        ([[call("unlock"), call("lock"), call("breach")]], {}, cancelled),
        ([[call("unlock"), call("lock"), call("breach")]], {}, cancelled_by_a_front_door),
        ([[call("unlock"), call("lock"), call("breach")]], {}, given_up),
    ],
    ids=["done", "not granted", "denied by plan", "denied again and again", "again and again", "lost", "told", "gone"],
)
def test_they_stand_in_the_transcript_alone(
    answers: list[Any], options: dict[str, Any], play: Callable[[MemoryKit], Head]
) -> None:
    kit = kit_of(*answers, say("done"), **options)
    head = play(kit)
    assert head.resting
    records = [record for record in kit.sessions.audit("acme", head.session_id) if record["kind"] == "tool_call"]
    assert records and all("phrase" in record["arguments_redacted"] for record in records)
    assert SECRET in str(kit.entries(head.session_id)[1].content)
    elsewhere = [item for item in kit.table.snapshot() if not item["sk"].startswith(("ENTRY#", "VERSION#"))]
    assert SECRET not in str(list(map(codec.flattened, elsewhere)))
    stops = [entry.stop for entry in kit.entries(head.session_id) if entry.stop is not None]
    assert stops and SECRET not in str(stops)


@pytest.mark.parametrize("is_gone", [False, True])
def test_nor_do_they_stand_in_traces(is_gone: bool) -> None:
    kit = kit_of([call("unlock"), call("lock")], say("done"), trace_contents="*")
    head = ended(kit)
    if is_gone:
        kit.__dict__["catalog"] = Catalog({})
    kit.tracer.tell(request_of(head))
    text = repr(kit.trace_receiver.traces[-1])
    assert "phrase" in text and SECRET not in text
