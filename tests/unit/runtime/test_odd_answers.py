"""What a model answers never costs a session: it is taken in, answered, and the conversation can go on."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.support.kit import MemoryKit
from tests.support.scripted import begin, check_session, failure, play, reply, results, say, scripted_kit, use
from turnkeeper import ToolContext, tool
from turnkeeper.core.session import Head
from turnkeeper.core.tools import Tool
from turnkeeper.runtime.intake import Identity
from turnkeeper.runtime.world import Allowance

WHO = Identity("acme", "ann", "user")


def payments(done: list[str]) -> Tool:
    @tool(effect="once")
    def pay(ctx: ToolContext, amount: int) -> str:
        """Pay."""
        done.append(ctx.idempotency_key)
        return "paid"

    return pay


def nested(depth: int) -> dict[str, Any]:
    value: dict[str, Any] = {}
    for _ in range(depth):
        value = {"a": value}
    return value


def goes_on(kit: MemoryKit, head: Head) -> None:
    """A plain next turn works."""
    after = kit.run(kit.intake.post(kit.head(head.session_id), "and now?"))
    check_session(kit, after)
    assert after.stop is not None
    assert (after.status, after.stop.reason) == ("idle", "end_turn")


@pytest.mark.parametrize(
    "arguments",
    [
        {"amount": 1, "": 1},
        {"amount": nested(33)},
        {"amount": nested(60)},
        {"amount": float("inf")},
        {"amount": "half \ud83d"},
        {"half \ud83d": 1},
        {},
    ],
)
def test_arguments_that_do_not_fit_are_answered_and_the_turn_goes_on(arguments: dict[str, Any]) -> None:
    done: list[str] = []
    call = {"type": "tool_use", "id": "toolu_odd", "name": "pay", "input": arguments}
    kit = scripted_kit(reply(call), tools=[payments(done)])
    head = play(kit)
    assert (head.status, done) == ("idle", [])
    assert [outcome for _, outcome, _ in results(kit, head)] == ["error"]
    goes_on(kit, head)


@pytest.mark.parametrize("raw", ["{not json", "[1, 2]", "[" * 2_000, "half \ud83d"])
def test_arguments_that_are_no_json_object_are_shown_to_the_model(raw: str) -> None:
    done: list[str] = []
    call = {"type": "tool_use", "id": "toolu_1", "name": "pay", "input": {}, "raw_input": raw}
    kit = scripted_kit(reply(call), tools=[payments(done)])
    head = play(kit)
    [(_, outcome, text)] = results(kit, head)
    assert (outcome, done, head.steps) == ("error", [], 2)
    assert raw[:5] in text
    goes_on(kit, head)


@pytest.mark.parametrize("kind", [["string", "null"], {"a": 1}, "url", None])
def test_arguments_that_look_like_blocks_are_arguments(kind: Any) -> None:
    """A schema among the arguments (``{"type": ["string", "null"]}``) is nothing that the kit looks into."""

    @tool(effect="read")
    def look(wanted: Any, source: Any = None) -> Any:
        """Look."""
        return [{"type": kind}]

    kit = scripted_kit(
        reply(use("look", wanted={"type": kind}, source={"type": kind, "media_type": kind})), tools=[look]
    )
    head = play(kit)
    assert (head.status, [outcome for _, outcome, _ in results(kit, head)]) == ("idle", ["ok"])
    goes_on(kit, head)


@pytest.mark.parametrize(
    "block",
    [
        {"type": ["text"], "text": "x"},
        {"type": None},
        {},
        {"type": "text", "text": None},
        {"type": "text", "text": 5},
        {"type": "text", "text": "x", "citations": [{"at": float("inf")}]},
        {"type": "web_search_tool_result", "tool_use_id": "a", "content": nested(400)},
    ],
    ids=lambda block: str(block)[:40],
)
def test_blocks_that_are_none_are_kept_as_text(block: dict[str, Any]) -> None:
    kit = scripted_kit(reply(block, say("hello"), stop="end_turn"), tools=[])
    head = play(kit)
    assert (head.status, head.stop and head.stop.reason) == ("idle", "end_turn")
    json.dumps([entry.content for entry in kit.entries(head.session_id)], allow_nan=False)
    goes_on(kit, head)


def test_attempts_that_are_broken_in_different_ways_are_no_repetition() -> None:
    """What was written is what tells them apart, not the empty arguments that they are kept with."""

    def broken(*texts: str) -> MemoryKit:
        calls = [{"type": "tool_use", "id": "toolu_1", "name": "pay", "input": {}, "raw_input": raw} for raw in texts]
        return scripted_kit(*map(reply, calls), tools=[payments([])])

    kit = broken("{not json", "[1, 2]", '{"amount": 1e999}')
    head = play(kit)
    assert (head.status, head.steps) == ("idle", 4)
    again = play(broken(*["{not json"] * 3))
    assert again.stop is not None and again.stop.reason == "repetition"


def test_calls_of_one_id_run_once_each_under_keys_of_their_own() -> None:
    done: list[str] = []
    call = {"type": "tool_use", "id": "toolu_same", "name": "pay", "input": {"amount": 1}}
    other = {**call, "input": {"amount": 2}}
    third = {**call, "input": {"amount": 3}}
    kit = scripted_kit(reply(call, other), reply(third), tools=[payments(done)])
    head = play(kit)
    assert len(done) == len(set(done)) == 3
    goes_on(kit, head)


@pytest.mark.parametrize("name", ["get invoice!", "", "n" * 300, "half \ud83d", None, 5])
@pytest.mark.parametrize("call_id", ["toolu_1", "", "with space", "x" * 300, None])
def test_odd_names_and_ids_are_denied_and_sent_back_as_the_api_takes_them(name: Any, call_id: Any) -> None:
    kit = scripted_kit(reply({"type": "tool_use", "id": call_id, "name": name, "input": {}}), tools=[])
    head = play(kit)
    assert [outcome for _, outcome, _ in results(kit, head)] == ["denied"]
    goes_on(kit, head)


def test_a_refused_block_is_left_out_and_the_turn_goes_on() -> None:
    image = {"type": "image", "source": {"type": "url", "url": "https://example.com/a.png"}}
    refused = failure(400, retryable=False)
    refused.data["at"] = (0, 1)
    kit = scripted_kit(refused, reply(say("I cannot see it.")), reply(say("ok")), tools=[])
    head = kit.run(begin(kit, text=[{"type": "text", "text": "look"}, image]))
    check_session(kit, head)
    assert (head.status, head.repairs, head.turn.iterations) == ("idle", 1, 1)
    [repair] = [entry for entry in kit.entries(head.session_id) if entry.type == "repair"]
    assert [(mark.seq, mark.index) for mark in repair.left_out] == [(1, 1)]
    kinds = [record["kind"] for record in kit.sessions.audit("acme", head.session_id)]
    assert kinds == ["session_created", "grant", "repair"]
    goes_on(kit, head)
    assert all("example.com" not in json.dumps(request.messages) for request in kit.model.requests[1:])  # type: ignore[attr-defined]


def test_what_cannot_be_repaired_stops_with_the_ways_on() -> None:
    refused = failure(400, retryable=False)
    kit = scripted_kit(refused, tools=[])
    head = play(kit)
    assert head.stop is not None
    assert (head.status, head.stop.reason) == ("stopped", "provider_error")
    assert "rewind" in head.stop.detail["hint"]


@pytest.mark.parametrize("broken", ["tool_call", "arguments"])
def test_giving_up_does_not_depend_on_what_failed(broken: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the audit trail cannot take: the claim limit, a cancel and an error of our own end the session."""
    kit = scripted_kit(reply(use("pay", amount=1)), reply(say("ok")), tools=[payments([])])

    def fails(*_: Any, **__: Any) -> Any:
        raise ValueError("this cannot be written")

    head = begin(kit)
    monkeypatch.setattr(kit.auditor, broken, fails)
    after = kit.run(head)
    assert after.stop is not None
    assert (after.status, after.stop.reason, after.lease.owner) == ("stopped", "internal_error", None)
    monkeypatch.undo()
    goes_on(kit, after)


def test_a_cancel_ends_a_session_whose_calls_cannot_be_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    kit = scripted_kit(reply(use("pay", amount=1)), tools=[payments([])])
    head = begin(kit)
    monkeypatch.setattr(kit.auditor, "tool_call", lambda *_: 1 / 0)
    kit.model.call, call = (
        (lambda request, **more: (kit.sessions.request_cancel(head), call(request, **more))[1]),
        kit.model.call,
    )  # type: ignore[method-assign]
    after = kit.run(head, Allowance(runner="fargate"))
    assert after.resting
    assert after.lease.owner is None
