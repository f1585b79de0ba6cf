"""This version and a later one on one table, as during a deployment: a session goes to and fro between them.

The later version is this one, with a field more in all that it writes, and a kind of entry that this one does not
know. What it writes is never lost by this one, and keeps nobody from going on.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import Any

import pytest

from functions.api.app import FrontDoor
from tests.support.heads import as_once
from tests.support.http import Caller
from tests.support.kit import MemoryKit
from tests.support.scripted import begin, check_session, failure, reply, say, scripted_kit, use
from turnkeeper import ToolError, tool, update_plan
from turnkeeper.core.session import Head
from turnkeeper.runtime.store import codec, contents, keys
from turnkeeper.runtime.world import Allowance
from turnkeeper.table import Key, Put
from turnkeeper.testing.faulty_table import Crash

TOMORROW = "from_tomorrow"


@tool(effect="idempotent")
def put(number: int) -> str:
    """Put something down."""
    if number == 3:
        raise ToolError("not three")
    return f"put {number}"


def _with_more(value: Any) -> Any:
    """A field more in every object, but in what is somebody else's: contents, arguments, details."""
    if isinstance(value, dict):
        theirs = {"content", "detail", "usage", "metadata", "input_schema", "model_options", "periods", "step_millis"}
        grown = {name: item if name in theirs else _with_more(item) for name, item in value.items()}
        return {**grown, TOMORROW: {"x": 1}}
    return [_with_more(item) for item in value] if isinstance(value, list) else value


@contextmanager
def tomorrow(kit: MemoryKit) -> Iterator[None]:
    """What is written meanwhile is written by a later version."""
    before = (codec.pack, codec.head_item)

    def pack(value: Any, blobs: Any, prefix: str) -> Any:
        return before[0](_with_more(value), blobs, prefix)

    def head_item(head: Head) -> Any:
        item = before[1](head)
        for name in codec._JSON_FIELDS & item.keys() - {"metadata", "usage", "step_millis", "granted_tools"}:
            item[name] = json.dumps(_with_more(json.loads(item[name])))
        return {**item, TOMORROW: head.last_seq}

    with pytest.MonkeyPatch.context() as patch:
        for module in (codec, contents):
            patch.setattr(module, "pack", pack)
        patch.setattr(codec, "head_item", head_item)
        yield


def step(kit: MemoryKit, session_id: str) -> None:
    """One runner takes the session, makes one call of the model, and hands it on."""
    made = len(kit.model.requests)  # type: ignore[attr-defined]
    drains = Allowance(runner="fargate", draining=lambda: len(kit.model.requests) > made)  # type: ignore[attr-defined]
    kit.run(kit.head(session_id), drains)


@pytest.mark.parametrize("first", [True, False])
def test_a_session_goes_to_and_fro(first: bool) -> None:
    plan = {"goal": "g", "items": [{"title": "t", "state": "pending"}]}
    answers = [
        reply(use("update_plan", **plan)),
        reply(use("put", number=1), use("put", number=2)),
        failure(529),
        reply(use("put", number=3)),
        reply(say("half"), stop="max_tokens"),
        reply(say("done")),
    ]
    kit = scripted_kit(*answers, tools=[put, update_plan])
    session_id = begin(kit).session_id
    turns = 0
    for number in range(20):
        head = kit.head(session_id)
        if head.status == "stopped":
            kit.intake.resume(head)
        elif head.resting:
            turns += 1
            if turns == 3:
                break
            kit.intake.post(head, "and now?")
        if number % 2 == first:
            with tomorrow(kit):
                step(kit, session_id)
        else:
            step(kit, session_id)
    head = kit.head(session_id)
    assert (head.status, turns) == ("idle", 3)
    check_session(kit, head)
    item = kit.table.get(keys.head_key(head.tenant_id, session_id))
    assert item is not None
    assert item[TOMORROW] > 1, "this version leaves alone what it does not know"
    stored = kit.sessions.plan(head.tenant_id, session_id)
    assert stored is not None
    assert stored.goal == "g"


def test_a_session_that_an_earlier_release_left_goes_on() -> None:
    """At any point between two writes: its head has each field as an attribute of its own, and its call in flight is
    a record of the ledger."""
    answers = [reply(use("put", number=1)), failure(529), reply(use("put", number=3)), reply(say("done"))]
    kit = scripted_kit(*answers, tools=[put])
    session_id = begin(kit).session_id
    key = keys.head_key("acme", session_id)
    left: list[str] = []

    def as_it_was_left(head: Head) -> None:
        in_flight = codec.open_call({**codec.flat_item(head), "pk": key.pk})
        as_once(kit.table, key, remove=["pending_detail"])
        if in_flight is not None:
            kit.table.write([Put(Key(in_flight["pk"], in_flight["sk"]), in_flight)])
        left.append(head.status if in_flight is None else "in flight")

    called = kit.model.call

    def call(request: Any, **more: Any) -> Any:
        if len(kit.model.requests) == 1 and "in flight" not in left:  # type: ignore[attr-defined]
            as_it_was_left(kit.head(session_id))
            raise Crash("dead")
        return called(request, **more)

    kit.model.call = call  # type: ignore[method-assign]
    for _ in range(8):
        as_it_was_left(kit.head(session_id))
        with suppress(Crash):
            step(kit, session_id)
        kit.clock.advance(3_600)  # type: ignore[attr-defined]
        if kit.head(session_id).resting:
            break
    head = kit.head(session_id)
    assert head.status == "idle"
    assert head.revision > 0
    assert "in flight" in left
    check_session(kit, head)


def test_a_kind_of_entry_that_only_a_later_version_knows_is_passed_over() -> None:
    kit = scripted_kit(reply(say("one")), reply(say("two")), tools=[put])
    head = kit.run(begin(kit))
    entry = {"seq": head.last_seq + 1, "type": "weather", "at": head.updated_at, "data": b'{"sky": "blue"}'}
    kit.table.write([Put(keys.entry_key(head.tenant_id, head.session_id, head.last_seq + 1), entry)])
    later = replace(head, last_seq=head.last_seq + 1)
    key = keys.head_key(head.tenant_id, head.session_id)
    kit.table.write([Put(key, codec.head_item(later))])
    head = kit.run(kit.intake.post(kit.head(head.session_id), "go on"))
    assert head.status == "idle"
    check_session(kit, head)
    events = Caller(FrontDoor(kit)).get(f"/v1/sessions/{head.session_id}/events").json()["events"]
    assert [event["type"] for event in events if event["seq"] == later.last_seq] == ["other"]


def test_a_cancel_that_is_asked_for_while_a_head_is_packed_for_the_first_time_is_not_lost() -> None:
    kit = scripted_kit(reply(say("done")), tools=[put])
    head = begin(kit)
    key = keys.head_key(head.tenant_id, head.session_id)
    as_once(kit.table, key)
    flat = kit.head(head.session_id)
    assert flat.revision == 0
    claim = kit.table.update

    def asked_meanwhile(operation: Any) -> Any:
        kit.table.update = claim  # type: ignore[method-assign]
        asked = kit.sessions.request_cancel(flat, "ops")
        assert asked.revision == 0, "who does not know all of a head does not pack it"
        return claim(operation)

    kit.table.update = asked_meanwhile  # type: ignore[method-assign]
    claimed = kit.sessions.claim(head.tenant_id, head.session_id, "me", "fargate")
    assert claimed.revision == 1
    assert (claimed.turn.cancel_requested, claimed.turn.cancel_actor) == (True, "ops")
