"""Tools in a turn: granted, in parallel, each within its time, every call answered, whatever a tool does."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest
from pydantic import BaseModel, Field

from tests.support.kit import MODEL, WHO
from tests.support.scripted import begin, check_session, play, reply, results, say, scripted_kit, use
from turnkeeper import Agent, ToolContext, ToolDenied, ToolError, tool
from turnkeeper.adapters.injection import RuleDetector
from turnkeeper.core.decide import MAX_CALLS
from turnkeeper.runtime.tool_answers import MAX_ERROR_CHARS, MAX_RESULT_BYTES
from turnkeeper.runtime.world import Allowance


class Garbage:
    pass


class Strict(BaseModel):
    pin: str = Field(max_length=3)


class Receipt(BaseModel):
    number: int


@tool
def echo(words: str) -> str:
    """Say it again."""
    return words


def answered(value: Any, *, untrusted: bool = True) -> tuple[str, str]:
    """Outcome and text of a tool that returns this, or raises it."""

    @tool(untrusted=untrusted)
    def give() -> Any:
        """Give."""
        if isinstance(value, BaseException):
            raise value
        return value

    kit = scripted_kit(reply(use("give")), tools=[give])
    head = play(kit)
    assert (head.status, head.steps) == ("idle", 2)
    [(_, outcome, text)] = results(kit, head)
    return outcome, text


# ---- whatever a tool does ----


class Rude(Exception):
    def __str__(self) -> str:
        raise RuntimeError("not even a text")


@pytest.mark.parametrize(
    ("raised", "outcome", "words"),
    [
        (ToolError("No such invoice."), "error", "No such invoice."),
        (ToolError(""), "error", "The tool failed."),
        (ToolError(" \n"), "error", "The tool failed."),
        (ToolError("x" * 1_000_000), "error", "x" * MAX_ERROR_CHARS),
        (ToolDenied("Only example.com is allowed."), "denied", "Only example.com is allowed."),
        (ToolDenied(""), "denied", "Denied."),
    ],
)
def test_a_tools_own_words_go_to_the_model(raised: Exception, outcome: str, words: str) -> None:
    assert answered(raised) == (outcome, words)


@pytest.mark.parametrize(
    "raised", [ValueError("no"), KeyError("k"), SystemExit(3), KeyboardInterrupt(), GeneratorExit(), Rude()]
)
def test_whatever_else_it_raises_is_an_error_that_nobody_vouches_for(raised: BaseException) -> None:
    outcome, text = answered(raised)
    assert outcome == "error"
    assert "<untrusted_tool_result" in text
    assert type(raised).__name__ in text


def test_a_recursion_without_end_is_an_error() -> None:
    @tool
    def dig() -> str:
        """Dig."""

        def deeper() -> None:
            deeper()

        deeper()
        return "never"

    kit = scripted_kit(reply(use("dig")), tools=[dig])
    [(_, outcome, text)] = results(kit, play(kit))
    assert outcome == "error"
    assert "RecursionError" in text


@pytest.mark.parametrize("untrusted", [True, False])
@pytest.mark.parametrize(
    "garbage", [Garbage(), b"\xff\xfe", {"a": Garbage()}, [{"type": "image", "source": Garbage()}]]
)
def test_what_is_no_json_becomes_an_error(garbage: Any, untrusted: bool) -> None:
    outcome, text = answered(garbage, untrusted=untrusted)
    assert outcome == "error"
    assert "The tool ran" in text


@pytest.mark.parametrize("untrusted", [True, False])
@pytest.mark.parametrize(
    ("value", "words"),
    [
        (None, "(no content)"),
        ("", "(empty)"),
        ("   ", "(empty)"),
        ([], "[]"),
        ({"a": 1}, '{"a":1}'),
        (b"bytes", '"bytes"'),
        ("half \ud800 pair", "half"),
        ([{"type": "text", "text": 5}], '"text":5'),
        ([{"type": "text", "text": ""}], "(empty)"),
        ([{"type": "text", "text": None}, {"type": "text"}], "null"),
        ([{"type": "text", "text": "a", "cache_control": {"type": "ephemeral"}}], "a"),
        (float("inf"), "null"),
        (10**30, "1000000"),
    ],
)
def test_odd_results_are_shown_and_can_be_sent(value: Any, words: str, untrusted: bool) -> None:
    outcome, text = answered(value, untrusted=untrusted)
    assert outcome == "ok"
    assert words in text


@pytest.mark.parametrize("untrusted", [True, False])
def test_huge_results_are_cut(untrusted: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(RuleDetector, "check", lambda *_: None)  # It takes its time over so much.
    outcome, text = answered("ä" * 3_000_000, untrusted=untrusted)
    assert outcome == "ok"
    assert len(text.encode()) < MAX_RESULT_BYTES + 1_000
    assert "[truncated: 200000 of 6000000 bytes]" in text
    _, text = answered([{"type": "text", "text": "x" * 150_000}] * 4, untrusted=untrusted)
    assert text.count("x" * 1_000) == MAX_RESULT_BYTES // 1_000  # in thousands: the nonce may hold an x, too


def test_arguments_that_do_not_fit_are_told_without_their_values() -> None:
    @tool(secret_arguments={"pin"})
    def enter(card: Strict, count: int) -> str:
        """Enter."""
        return "in"

    call = use("enter", card={"pin": "hunter2-very-secret"}, count="many", extra=1)
    kit = scripted_kit(reply(call), tools=[enter])
    [(_, outcome, text)] = results(kit, play(kit))
    assert outcome == "error"
    for where in ("card.pin", "count", "extra"):
        assert where in text
    assert "hunter2" not in text
    assert "Nothing was run" in text


def test_a_tools_own_bad_data_does_not_read_as_if_nothing_had_run() -> None:
    @tool(effect="once")
    def pay() -> Receipt:
        """Pay."""
        return Receipt.model_validate({"number": "none"})

    kit = scripted_kit(reply(use("pay")), tools=[pay])
    [(_, outcome, text)] = results(kit, play(kit))
    assert outcome == "error"
    assert "Nothing was run" not in text


# ---- grants ----


def test_what_was_not_granted_is_denied_flagged_audited_and_never_reached() -> None:
    kit = scripted_kit(reply(use("write_note", text="x")), reply(use("rm_rf", path="/")))
    head = play(kit, "helper")
    assert kit.notes == []
    denied = results(kit, head)
    assert [outcome for _, outcome, _ in denied] == ["denied", "denied"]
    assert "Tools of this session: add, fail, read_note, update_plan" in denied[0][2]
    flags = [told.flag for entry in kit.entries(head.session_id) for told in entry.outcomes]
    assert [flag.reasons for flag in flags if flag] == [("a call outside the grant",)] * 2
    # It did nothing, so it holds nothing else back.
    assert head.flags == ()


def test_end_task_is_no_tool_of_an_agent_that_ends_its_turns() -> None:
    kit = scripted_kit(reply(use("end_task", status="completed", summary="x")), tools=[echo])
    head = play(kit)
    assert head.status == "idle"
    assert [outcome for _, outcome, _ in results(kit, head)] == ["denied"]
    assert all(tool["name"] != "end_task" for request in kit.model.requests for tool in request.tools)


# ---- side by side, in time ----


def test_parallel_calls_run_at_once_and_answer_in_order() -> None:
    together = threading.Barrier(5, timeout=10)

    @tool
    def meet(number: int) -> int:
        """Meet."""
        together.wait()
        time.sleep(0.05 * (5 - number))
        return number

    kit = scripted_kit(reply(*[use("meet", number=number) for number in range(5)]), tools=[meet])
    told = results(kit, play(kit))
    assert [text.splitlines()[1] for _, _, text in told] == ["0", "1", "2", "3", "4"]


@pytest.mark.parametrize(("effect", "outcome"), [("read", "error"), ("idempotent", "unknown"), ("once", "unknown")])
def test_a_hanging_tool_cannot_hold_the_session(effect: Any, outcome: str) -> None:
    for_ever = threading.Event()

    @tool(effect=effect, timeout_seconds=0.2)
    def hang() -> str:
        """Hang."""
        for_ever.wait(30)
        return "late"

    kit = scripted_kit(reply(use("hang"), use("echo", words="here")), tools=[hang, echo])
    started = time.monotonic()
    told = results(kit, play(kit))
    assert time.monotonic() - started < 10
    assert [each[1] for each in told] == [outcome, "ok"]
    assert "within 0.2 seconds" in told[0][2]
    for_ever.set()


def test_a_runner_near_its_end_gives_tools_what_it_has() -> None:
    deadlines: list[float] = []

    @tool(timeout_seconds=600)
    def look(ctx: ToolContext) -> str:
        """Look."""
        deadlines.append((ctx.deadline - kit.clock.now()).total_seconds())
        return "seen"

    kit = scripted_kit(reply(use("look")), tools=[look])
    head = begin(kit, placement="interactive")
    kit.run(head, Allowance(runner="lambda", turn_seconds=100, hard_seconds=130))
    assert deadlines == [120]


def test_a_call_that_may_outlast_its_runner_is_begun_on_the_next_one() -> None:
    ran: list[str] = []

    @tool(effect="once", timeout_seconds=600)
    def pay(ctx: ToolContext) -> str:
        """Pay."""
        ran.append(ctx.tool_use_id)
        return "paid"

    kit = scripted_kit(reply(use("pay")), reply(say("ok")), tools=[pay])
    head = kit.run(begin(kit), Allowance(runner="lambda", turn_seconds=100, hard_seconds=130))
    assert (head.status, head.unbegun, ran) == ("queued", True, [])
    head = kit.run(head, Allowance(runner="fargate"))
    assert (head.status, head.unbegun, len(ran)) == ("idle", False, 1)
    check_session(kit, head)


def test_more_calls_than_can_be_run_are_answered_all_the_same() -> None:
    ran: list[int] = []

    @tool
    def count(number: int) -> int:
        """Count."""
        ran.append(number)
        return number

    kit = scripted_kit(reply(*[use("count", number=number) for number in range(MAX_CALLS + 6)]), tools=[count])
    told = results(kit, play(kit))
    assert sorted(ran) == list(range(MAX_CALLS))
    assert [each[1] for each in told] == ["ok"] * MAX_CALLS + ["error"] * 6


def test_a_tool_knows_its_call_and_nothing_of_the_kit() -> None:
    seen: list[ToolContext] = []

    @tool(effect="idempotent", timeout_seconds=7)
    def look(ctx: ToolContext) -> str:
        """Look."""
        seen.append(ctx)
        return "ok"

    kit = scripted_kit(reply(use("look")), tools=[look])
    head = play(kit)
    [ctx] = seen
    assert (ctx.session_id, ctx.tenant_id, ctx.user_id) == (head.session_id, WHO.tenant_id, WHO.user_id)
    assert ctx.idempotency_key == f"{head.session_id}:{ctx.tool_use_id}"
    assert set(ctx.__slots__) == {
        "session_id",
        "tenant_id",
        "user_id",
        "tool_use_id",
        "idempotency_key",
        "deadline",
        "logger",
        "values",
        "traceparent",
        "on_progress",
        "timeout_seconds",
    }
    assert ctx.timeout_seconds == 7


def test_the_agents_own_schema_may_change_while_a_session_runs() -> None:
    """What the model is sent was frozen when the session was created."""

    @tool(name="echo")
    def changed(sentence: int) -> str:
        """Another meaning altogether."""
        return str(sentence)

    kit = scripted_kit(reply(use("echo", words="a")), tools=[echo])
    head = begin(kit)
    kit.catalog.agents["scripted"] = Agent(name="scripted", model="another", system="Other.", tools=[changed])  # type: ignore[index]
    head = kit.run(head)
    check_session(kit, head)
    request = kit.model.requests[0]
    assert request.tools[0]["description"] == "Say it again."
    assert request.model == MODEL
    assert request.system[0]["text"].startswith("You act.")
    [(_, outcome, text)] = results(kit, head)
    assert outcome == "error"
    assert "sentence" in text
