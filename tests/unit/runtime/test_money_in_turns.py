"""Caps in a turn: what is spent makes an answer shorter, and says so; what is in flight is waited for."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.kit import MODEL, WHO, MemoryKit
from tests.support.scripted import ScriptedModel, begin, check_session, reply, say, scripted_kit, use
from turnkeeper import tool
from turnkeeper.core import decide
from turnkeeper.core.scopes import SCOPES, Scope
from turnkeeper.core.session import Head
from turnkeeper.ports import ModelReply, ModelRequest
from turnkeeper.runtime.turn import PUT_BACKS
from turnkeeper.runtime.world import Allowance

#: The agents' own.
WANTED = 8_192
CAP_FIELDS = {"scope", "limit_usd", "spent_usd", "reserved_usd", "needed_usd", "contended", "resets_at"}
LAMBDA, WORKER = Allowance(runner="lambda", contention_seconds=5.0), Allowance(runner="fargate", contention_seconds=5.0)


@tool
def look() -> str:
    """Look."""
    return "seen"


def cap(kit: MemoryKit, scope: Scope, output_tokens: int | None) -> None:
    """To what so many tokens of output cost."""
    rate = kit.prices.rates(MODEL, {}).output_nanousd
    amount = None if output_tokens is None else output_tokens * rate // 1_000_000
    kit.tenants.set(WHO.tenant_id, actor="ops", caps={scope: amount})


def ended(head: Head) -> tuple[str, str | None]:
    return head.status, head.stop.reason if head.stop else None


def requests(kit: MemoryKit) -> list[ModelRequest]:
    assert isinstance(kit.model, ScriptedModel)
    return kit.model.requests


@pytest.mark.parametrize("content", [[say("half")], [], [say("half"), use("look")]], ids=["words", "nothing", "a call"])
@pytest.mark.parametrize("scope", SCOPES)
def test_an_answer_that_a_cap_cuts_off_stops_there_and_can_go_on(scope: Scope, content: list[Any]) -> None:
    kit = scripted_kit(reply(*content, stop="max_tokens"), reply(say("whole")), tools=[look])
    cap(kit, scope, 2_000)
    head = kit.run(begin(kit), LAMBDA)
    check_session(kit, head)
    assert ended(head) == ("stopped", "cost_cap")
    assert head.stop is not None
    detail = head.stop.detail
    assert set(detail) == CAP_FIELDS | {"clamped_max_tokens", "wanted_max_tokens"}
    assert (detail["scope"], detail["contended"]) == (scope, False)
    assert detail["clamped_max_tokens"] == requests(kit)[0].max_tokens in range(1_000, 2_000)
    assert detail["wanted_max_tokens"] == WANTED
    cap(kit, scope, None)
    head = kit.run(kit.intake.resume(head), LAMBDA)
    check_session(kit, head)
    assert ended(head) == ("idle", "end_turn")
    assert requests(kit)[1].max_tokens == WANTED
    asked = [block.get("text") for block in requests(kit)[1].messages[-1]["content"]]
    assert (decide.GO_ON in asked) == (len(content) < 2)


def test_a_clamp_that_cuts_nothing_off_is_not_told() -> None:
    kit = scripted_kit(reply(say("short")), tools=[look])
    cap(kit, "user_daily", 2_000)
    assert ended(kit.run(begin(kit), LAMBDA)) == ("idle", "end_turn")
    assert requests(kit)[0].max_tokens < WANTED


def while_one_is_in_flight(kit: MemoryKit, allowance: Allowance) -> Head:
    """Two sessions at a cap with room for one call and a half: how the second is left that runs during the first's."""
    cap(kit, "user_daily", WANTED * 3 // 2)
    first, other = begin(kit), begin(kit)
    left: list[Head] = []

    def meanwhile(request: ModelRequest) -> ModelReply:
        left.append(kit.run(other, allowance))
        return reply(say("first"))

    assert isinstance(kit.model, ScriptedModel)
    kit.model.add([meanwhile, reply(say("cut"), stop="max_tokens")])
    first = kit.run(first, LAMBDA)
    assert ended(first) == ("idle", "end_turn")
    return left[0]


def test_a_worker_puts_a_call_back_rather_than_make_it_smaller() -> None:
    kit = scripted_kit(tools=[look])
    other = while_one_is_in_flight(kit, WORKER)
    assert (other.status, other.turn.put_backs, len(requests(kit))) == ("queued", 1, 1)
    other = kit.run(other, WORKER)
    assert requests(kit)[1].max_tokens == WANTED
    check_session(kit, other)


def test_a_turn_that_may_not_be_put_back_takes_what_is_left_at_last() -> None:
    kit = scripted_kit(tools=[look])
    before = kit.clock.monotonic()
    other = while_one_is_in_flight(kit, LAMBDA)
    assert kit.clock.monotonic() - before >= 5.0
    assert ended(other) == ("stopped", "cost_cap")
    assert other.stop is not None and other.stop.detail["contended"] is True
    waited = other.stop.detail["waited_seconds"]
    assert waited >= 5.0
    assert f"It had waited {waited} s for money of other calls" in kit.explaining.explain(other, admin=True).why_ended
    assert 256 <= other.stop.detail["clamped_max_tokens"] == requests(kit)[1].max_tokens < WANTED * 2 // 3
    check_session(kit, kit.run(kit.intake.resume(other), LAMBDA))


def test_nobody_is_put_back_for_ever() -> None:
    """A call that others always come before takes what is left in the end."""
    kit = scripted_kit(tools=[look], lease_seconds=3_600)
    cap(kit, "user_daily", WANTED * 3 // 2)
    runs = []

    def others(request: ModelRequest) -> ModelReply:
        left = begin(kit)
        while not left.resting:
            left = kit.run(left, WORKER)
            runs.append(left.status)
        return reply(say("first"))

    assert isinstance(kit.model, ScriptedModel)
    kit.model.add([others, reply(say("second"))])
    kit.run(begin(kit), LAMBDA)
    assert runs == ["queued"] * PUT_BACKS + ["idle"]
    assert requests(kit)[1].max_tokens < WANTED
