"""The provider's bad days: tried again within limits, every attempt in the ledger, nothing lost."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.kit import MODEL, MemoryKit
from tests.support.scripted import begin, check_session, failure, play, reply, results, say, scripted_kit, states, use
from turnkeeper import Agent, Limits, tool
from turnkeeper.core.errors import ProviderError
from turnkeeper.core.session import Head
from turnkeeper.ports import ModelReply, ModelRequest
from turnkeeper.runtime.provider_breaker import ProviderBreaker
from turnkeeper.runtime.world import Allowance
from turnkeeper.testing.clock import ManualClock

KNOWN = {"certainty": "known", "usage": {"input_tokens": 1_000, "output_tokens": 50}}


@tool
def look(at: int = 0) -> str:
    """Look."""
    return "seen"


def ended(head: Head) -> tuple[str, str | None]:
    return head.status, head.stop.reason if head.stop else None


def played(text: str, agent: str = "helper") -> tuple[MemoryKit, Head]:
    """With the stand-in model and its directives."""
    kit = MemoryKit(runner="none", clock=ManualClock())
    return kit, play(kit, agent, text)


@pytest.mark.parametrize(
    ("directives", "expected"),
    [
        ("[[fail 429]] [[say ok]]", {"voided": 1, "settled": 1}),
        ("[[fail 529 x3]] [[say ok]]", {"voided": 3, "settled": 1}),
        ("[[fail 500]] [[say ok]]", {"voided": 1, "settled": 1}),
        ("[[cut]] [[say ok]]", {"in_doubt": 1, "settled": 1}),
        ("[[fail 503 x2]] [[cut]] [[say ok]]", {"voided": 2, "in_doubt": 1, "settled": 1}),
        ('[[tool add {"a": 1, "b": 2}]] [[fail 529 x2]] [[say ok]]', {"voided": 2, "settled": 2}),
    ],
)
def test_it_is_tried_again_and_each_attempt_is_booked(directives: str, expected: dict[str, int]) -> None:
    kit, head = played(directives)
    assert ended(head) == ("idle", "end_turn")
    assert states(kit, head) == expected
    # The stand-in's answer, once; what a broken attempt cost is told with it.
    last = [entry for entry in kit.entries(head.session_id) if entry.type == "assistant"][-1]
    assert last.content[0]["text"] == "ok"
    assert (last.attempts or 1) - 1 == sum(expected.values()) - expected["settled"]
    assert sum(entry.cost_nanousd for entry in kit.entries(head.session_id)) == head.account.cost_nanousd


def test_what_is_refused_for_good_is_not_tried_again() -> None:
    kit, head = played("[[fail 400]] [[say ok]]")
    assert ended(head) == ("stopped", "provider_error")
    assert states(kit, head) == {"voided": 1}
    assert head.stop is not None
    assert head.stop.detail["status_code"] == 400
    assert head.account.cost_nanousd == 0
    # Resumable: the stand-in fails once only.
    head = kit.run(kit.intake.resume(head))
    check_session(kit, head)
    assert ended(head) == ("idle", "end_turn")


def test_after_the_last_attempt_the_turn_ends_resumable_with_nothing_lost() -> None:
    kit, head = played('[[tool add {"a": 1, "b": 2}]] [[fail 529 x6]] [[say ok]]')
    assert ended(head) == ("stopped", "provider_error")
    assert head.stop is not None
    assert (head.stop.detail["attempts"], head.stop.detail["status_code"]) == (5, 529)
    assert [outcome for _, outcome, _ in results(kit, head)] == ["ok"]
    head = kit.run(kit.intake.resume(head), Allowance(runner="fargate"))
    check_session(kit, head)
    assert ended(head) == ("idle", "end_turn")
    assert states(kit, head) == {"voided": 6, "settled": 2}
    assert [outcome for _, outcome, _ in results(kit, head)] == ["ok"]


def test_the_agents_own_number_of_attempts() -> None:
    agent = Agent(name="hasty", model=MODEL, system="s", limits=Limits(max_attempts=2))
    kit = scripted_kit(*[failure() for _ in range(3)], agents=[agent])
    head = play(kit, "hasty")
    assert (ended(head), head.account.calls) == (("stopped", "provider_error"), 2)


@pytest.mark.parametrize(
    ("error", "state"),
    [
        (failure(certainty="unbilled"), "voided"),
        (failure(**KNOWN), "settled"),
        (failure(None, certainty="unknown"), "in_doubt"),
    ],
)
def test_what_a_failed_attempt_cost_is_told_by_the_next_entry(error: ProviderError, state: str) -> None:
    kit = scripted_kit(error, reply(say("ok")))
    head = play(kit, "plain")
    [attempt, answer] = kit.sessions.calls("acme", head.session_id)
    assert attempt["state"] == state
    assert (attempt["spent_nanousd"] > 0) == (state != "voided")
    assert (attempt["spent_nanousd"] == attempt["amount_nanousd"]) == (state == "in_doubt")
    [entry] = [entry for entry in kit.entries(head.session_id) if entry.type == "assistant"]
    assert entry.cost_nanousd == attempt["spent_nanousd"] + answer["spent_nanousd"] == head.account.cost_nanousd
    assert entry.attempts == 2


def test_where_no_answer_comes_the_status_entry_tells_the_cost() -> None:
    kit = scripted_kit(*[failure(**KNOWN) for _ in range(5)])
    head = play(kit, "plain")
    assert ended(head) == ("stopped", "provider_error")
    status = kit.entries(head.session_id)[-1]
    assert status.type == "status"
    assert status.cost_nanousd == head.account.cost_nanousd > 0


def test_money_of_failed_attempts_counts_against_the_task() -> None:
    agent = Agent(name="poor", model=MODEL, system="s", limits=Limits(task_usd="0.30", max_attempts=20))
    kit = scripted_kit(*[failure(None, certainty="unknown") for _ in range(20)], agents=[agent])
    head = play(kit, "poor")
    assert ended(head) == ("stopped", "cost_cap")
    assert head.account.cost_nanousd <= 300_000_000


# ---- waiting ----


def waited(*errors: Exception, **allowance: Any) -> tuple[float, Head, MemoryKit]:
    clock = ManualClock()
    kit = scripted_kit(*errors, reply(say("ok")), clock=clock, lease_seconds=10_000)
    head = begin(kit, "plain")
    started = clock.monotonic()
    head = kit.run(head, Allowance(**{"runner": "fargate", **allowance}))
    check_session(kit, head)
    return clock.monotonic() - started, head, kit


def test_back_off_grows_and_stays_within_limits() -> None:
    once, _, _ = waited(failure())
    assert 0.4 < once < 2.0
    four, head, _ = waited(*[failure() for _ in range(4)])
    assert 6 < four < 16
    assert head.status == "idle"


@pytest.mark.parametrize("asked", [0.0, 7.0, 55.0])
def test_what_the_provider_asks_for_is_honoured(asked: float) -> None:
    seconds, head, _ = waited(failure(429, retry_after=asked))
    assert asked <= seconds <= asked + 1.1
    assert head.status == "idle"


def test_a_wait_that_is_too_long_ends_the_turn_and_says_so() -> None:
    seconds, head, _ = waited(failure(429, retry_after=3_600))
    assert ended(head) == ("stopped", "provider_error")
    assert head.stop is not None
    assert head.stop.detail["retry_after_seconds"] == 3_600
    assert seconds < 1


def test_a_wait_that_is_longer_than_this_runner_has_is_waited_out_in_the_queue() -> None:
    seconds, head, kit = waited(failure(429, retry_after=50), runner="lambda", turn_seconds=40, hard_seconds=60)
    assert head.status == "queued"
    assert head.handoff is not None
    assert 50 <= head.handoff.delay_seconds <= 52
    assert seconds < 1
    assert head.turn.attempts == 1
    head = kit.run(head, Allowance(runner="fargate"))
    check_session(kit, head)
    assert (ended(head), head.turn.iterations) == (("idle", "end_turn"), 1)


# ---- strange answers ----


def test_an_answer_of_nothing_is_tried_again() -> None:
    kit = scripted_kit(reply(), reply(say("ok")))
    head = play(kit, "plain")
    assert ended(head) == ("idle", "end_turn")
    assert states(kit, head) == {"settled": 2}
    assert head.steps == 1


@pytest.mark.parametrize("blank", ["", "  \n"])
def test_blank_words_are_nothing_too(blank: str) -> None:
    kit = scripted_kit(reply(say(blank)), reply(say("ok")))
    head = play(kit, "plain")
    assert (ended(head), head.steps, states(kit, head)) == (("idle", "end_turn"), 1, {"settled": 2})


def test_thinking_alone_is_nothing_too() -> None:
    thought = {"type": "thinking", "thinking": "hm", "signature": "c2ln"}
    agent = Agent(
        name="thinker", model=MODEL, system="s", model_options={"thinking": {"type": "enabled", "budget_tokens": 2_000}}
    )
    kit = scripted_kit(reply(thought), reply(say("ok")), agents=[agent])
    head = kit.run(begin(kit, "thinker"))
    assert (ended(head), head.steps, states(kit, head)) == (("idle", "end_turn"), 1, {"settled": 2})


def test_a_model_that_never_says_anything_ends_as_a_provider_error() -> None:
    kit = scripted_kit(*[reply() for _ in range(9)])
    head = play(kit, "plain")
    assert ended(head) == ("stopped", "provider_error")
    assert states(kit, head) == {"settled": 5}


@pytest.mark.parametrize(
    ("stop", "expected"),
    [
        ("max_tokens", ("stopped", "max_tokens")),
        ("refusal", ("stopped", "refusal")),
        ("model_context_window_exceeded", ("stopped", "context_window")),
        ("stop_sequence", ("idle", "end_turn")),
        ("brand_new_reason", ("idle", "end_turn")),
    ],
)
@pytest.mark.parametrize("content", [[say("half")], [], [say("half"), "call"]])
def test_stop_reasons_in_a_turn(stop: str, expected: tuple[str, str], content: list[Any]) -> None:
    blocks = [use("look") if block == "call" else block for block in content]
    kit = scripted_kit(reply(*blocks, stop=stop), reply(say("ok")), tools=[look])
    head = play(kit)
    goes_on = expected[0] == "idle" and len(blocks) == 2
    assert (ended(head), head.steps) == (expected, 2 if goes_on else 1)
    if expected[0] == "stopped":
        head = kit.run(kit.intake.resume(head))
        check_session(kit, head)
        assert ended(head) == ("idle", "end_turn")


def test_a_paused_turn_goes_on_as_it_is() -> None:
    searched = {"type": "server_tool_use", "id": "srvtoolu_1", "name": "web_search", "input": {"query": "x"}}
    kit = scripted_kit(reply(searched, stop="pause_turn"), reply(say("ok")), tools=[look])
    head = kit.run(begin(kit))
    assert (ended(head), head.steps) == (("idle", "end_turn"), 2)
    assert kit.model.requests[1].messages[-1]["role"] == "assistant"


def test_thinking_goes_back_unmodified_over_tool_calls() -> None:
    thoughts = [
        {"type": "thinking", "thinking": "I should look.", "signature": "c2lnbmF0dXJl"},
        {"type": "redacted_thinking", "data": "ZGF0YQ=="},
    ]
    kit = scripted_kit(reply(*thoughts, say("Let me see."), use("look")), reply(say("ok")), tools=[look])
    head = kit.run(begin(kit))
    assert ended(head) == ("idle", "end_turn")
    sent = kit.model.requests[1].messages[1]["content"]
    assert sent[:2] == thoughts
    assert [block["type"] for block in sent] == ["thinking", "redacted_thinking", "text", "tool_use"]


def test_a_conversation_that_is_too_long_stops_as_such() -> None:
    too_long = failure(400, retryable=False)
    too_long.data["context_window"] = True
    kit = scripted_kit(too_long)
    assert ended(play(kit, "plain")) == ("stopped", "context_window")


def test_an_error_that_is_nobodys_ends_the_turn_with_its_money_in_doubt() -> None:
    kit = scripted_kit(RuntimeError("a bug"), reply(say("ok")))
    head = play(kit, "plain")
    assert ended(head) == ("stopped", "internal_error")
    assert states(kit, head) == {"in_doubt": 1}
    head = kit.run(kit.intake.resume(head))
    check_session(kit, head)
    assert (ended(head), head.turn.iterations) == (("idle", "end_turn"), 1)


def test_a_secret_in_a_providers_error_is_told_to_nobody() -> None:
    secret = "sk-" + "ant-api03-" + "A1b2C3d4E5f6G7h8" * 3
    error = ProviderError(f"the key {secret} is refused", retryable=False, certainty="unbilled", status_code=401)
    kit = scripted_kit(error)
    play(kit, "plain")
    assert secret not in str(kit.table.snapshot())


def test_a_circuit_breaker_in_front_makes_waiting_cheap() -> None:
    """With it open, attempts cost neither a call nor money; its wait is honoured like the provider's own."""
    clock = ManualClock()
    calls: list[ModelRequest] = []

    class Down:
        def call(self, request: ModelRequest, *, timeout_seconds: float, on_event: object = None) -> ModelReply:
            calls.append(request)
            if clock.monotonic() < 100:
                raise failure()
            return reply(say("ok"))

        def count_tokens(self, request: ModelRequest) -> int:
            return 100

    agent = Agent(name="patient", model=MODEL, system="s", limits=Limits(max_attempts=20))
    kit = MemoryKit([agent], model=ProviderBreaker(Down(), clock), clock=clock, runner="none", lease_seconds=10_000)
    head = kit.run(begin(kit, "patient"), Allowance(runner="fargate"))
    check_session(kit, head)
    assert ended(head) == ("idle", "end_turn")
    assert len(calls) <= head.account.calls < 14
    assert set(states(kit, head)) == {"voided", "settled"}


def test_waiting_for_a_provider_that_others_broke_uses_up_no_attempt() -> None:
    """A circuit that other sessions' failures opened, and keep open, costs a session time and nothing else."""
    clock = ManualClock()
    refused = 0

    class Protected:
        """A provider that its breaker protects from this session's calls for a while."""

        def call(self, request: ModelRequest, *, timeout_seconds: float, on_event: object = None) -> ModelReply:
            nonlocal refused
            if refused < 30:
                refused += 1
                waits = {"retryable": True, "certainty": "unbilled", "retry_after_seconds": 5.0}
                raise ProviderError("not asked", asked=False, **waits)
            return reply(say("ok"))

        def count_tokens(self, request: ModelRequest) -> int:
            return 100

    agent = Agent(name="patient", model=MODEL, system="s", limits=Limits(max_attempts=3, max_iterations=2))
    kit = MemoryKit([agent], model=Protected(), clock=clock, runner="none", lease_seconds=10_000)
    head = kit.run(begin(kit, "patient"), Allowance(runner="fargate"))
    check_session(kit, head)
    assert ended(head) == ("idle", "end_turn")
    assert (head.turn.iterations, refused) == (1, 30)
