"""Long conversations end in a summary, not in a wall: with the real engine, and a model that has a small window."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from tests.support.kit import MODEL, POLICY, WHO, MemoryKit
from tests.support.scripted import (
    ScriptedModel,
    begin,
    check_session,
    failure,
    play,
    reply,
    say,
    states,
    use,
)
from turnkeeper import Agent, Context, Limits, tool, update_plan
from turnkeeper.adapters.anthropic_errors import status_error
from turnkeeper.core import summary
from turnkeeper.core.errors import ProviderError
from turnkeeper.core.projection import project
from turnkeeper.core.session import Entry, Head
from turnkeeper.core.transcript import text_of
from turnkeeper.ports import ModelReply, ModelRequest
from turnkeeper.testing.clock import ManualClock
from turnkeeper.testing.faulty_table import Crash
from turnkeeper.testing.script import Block

GOAL = "Reconcile ledger LDG-2041 with the bank, and say what is left over."

RICH = {**POLICY, "plans": {"standard": dict.fromkeys(POLICY["plans"]["standard"], "unlimited")}}


@tool(effect="read")
def read_page(number: int) -> str:
    """Read a page of the ledger."""
    return f"page {number} of BOOK-{number:04d}: " + f"line {number} with some amounts. " * 60


def tokens_of(request: ModelRequest) -> int:
    return len(json.dumps([request.system, request.tools, request.messages])) // 4


def is_summary(request: ModelRequest) -> bool:
    return summary.SYSTEM in text_of(request.system)


class Windowed(ScriptedModel):
    """One that reads ``window`` tokens and no more, counts honestly, and says what ``act`` says."""

    def __init__(
        self, window: int, act: Callable[[int], list[Block]], summarizes: Any = "It went well so far."
    ) -> None:
        super().__init__()
        self.window = window
        self.act = act
        self.summarizes = summarizes
        self.answers = 0
        self.too_long = 0
        #: How it refuses what is too long: 413, or 400 with or without the numbers.
        self.wall: str = "numbers"

    def call(self, request: ModelRequest, *, timeout_seconds: float, on_event: object = None) -> ModelReply:
        self.requests.append(request)
        self._check(request)
        tokens = tokens_of(request)
        if tokens > self.window:
            self.too_long += 1
            detail = "prompt is too long"
            if self.wall == "numbers":
                detail += f": {tokens} tokens > {self.window} maximum"
            body = {"error": {"type": "invalid_request_error", "message": detail}}
            status = 413 if self.wall == "413" else 400
            raise status_error(status, body, {}, certainty="unbilled", now=datetime.now(UTC))
        usage = {"input_tokens": tokens, "output_tokens": 50}
        if is_summary(request):
            words = self.summarizes
            if isinstance(words, Exception):
                raise words
            return reply(say(words), usage=usage) if words else reply(say("I decline."), stop="refusal", usage=usage)
        self.answers += 1
        return reply(*self.act(self.answers), usage=usage)

    def count_tokens(self, request: ModelRequest) -> int:
        return tokens_of(request)


def reader(steps: int) -> Callable[[int], list[Block]]:
    """One that thinks aloud: its own words fill the window too."""
    aloud = "So far the amounts agree; I go on with the next page and keep in mind what was odd. " * 8

    def act(answer: int) -> list[Block]:
        if answer > steps:
            return [say("3 items are left over.")]
        return [say(f"Page {answer}. {aloud}"), use("read_page", number=answer)]

    return act


def windowed_kit(model: Windowed, context: Context | None, **limits: Any) -> MemoryKit:
    agent = Agent(
        name="scripted",
        model=MODEL,
        system="You act.",
        tools=[read_page, update_plan],
        limits=Limits(**{"max_iterations": 1_000, "max_tokens": 1_000, "repetition_strikes": 50} | limits),
        context=context,
    )
    return MemoryKit([agent], model=model, policy=RICH, runner="none", clock=ManualClock())


def compactions(kit: MemoryKit, head: Head) -> list[Entry]:
    return [entry for entry in kit.entries(head.session_id) if entry.type == "compaction"]


def test_a_task_of_300_steps_over_a_small_window_finishes_with_its_goal_and_its_ids() -> None:
    model = Windowed(50_000, reader(300))
    kit = windowed_kit(model, Context(window=50_000))
    head = play(kit, text=GOAL)
    assert (head.status, head.stop and head.stop.reason, model.answers) == ("idle", "end_turn", 301)
    assert model.too_long == 0, "it never came to the wall"
    last = model.requests[-1]
    sent = json.dumps(last.messages)
    assert GOAL in sent
    assert "BOOK-0300" in sent
    summaries = [entry for entry in compactions(kit, head) if entry.content]
    assert len(summaries) >= 2
    assert all(entry.cost_nanousd > 0 and entry.usage for entry in summaries)
    assert sum(entry.type == "assistant" for entry in kit.entries(head.session_id)) == 301, "the transcript keeps all"
    assert states(kit, head) == {"settled": 301 + len(summaries)}
    assert head.turn.iterations == 301


@pytest.mark.parametrize("context", [Context(), Context(window=400_000)])
def test_where_nobody_knew_of_the_window_the_api_says_so_once_a_runner(context: Context) -> None:
    model = Windowed(30_000, reader(60))
    kit = windowed_kit(model, context)
    head = play(kit, text=GOAL)
    assert (head.status, model.answers) == ("idle", 61)
    assert model.too_long == 1, "it was learned from the first refusal"
    assert head.turn.iterations == 61


def test_without_a_context_it_stops_at_the_wall() -> None:
    model = Windowed(10_000, reader(60))
    kit = windowed_kit(model, None)
    head = play(kit, text=GOAL)
    assert (head.status, head.stop and head.stop.reason) == ("stopped", "context_window")


def test_old_results_go_first_and_cost_nothing() -> None:
    model = Windowed(30_000, reader(40))
    kit = windowed_kit(model, Context(window=30_000))
    head = play(kit, text=GOAL)
    first = compactions(kit, head)[0]
    assert (first.content, first.cost_nanousd) == ((), 0)
    assert all(mark.index is not None for mark in first.left_out)


def test_names_and_the_plan_are_kept_whatever_the_model_writes() -> None:
    plan = {"goal": "Close LDG-2041", "items": [{"title": "Read all pages", "state": "in_progress"}]}

    def act(answer: int) -> list[Block]:
        return [use("update_plan", **plan)] if answer == 1 else reader(80)(answer)

    model = Windowed(20_000, act, summarizes="")
    kit = windowed_kit(model, Context(window=20_000))
    head = play(kit, text=GOAL)
    assert (head.status, model.answers) == ("idle", 81)
    text = text_of([entry for entry in compactions(kit, head) if entry.content][-1].content)
    assert summary.NO_WORDS in text
    assert "Close LDG-2041" in text
    assert "[in_progress] Read all pages" in text
    assert len(re.findall(r"BOOK-\d{4}", text)) > 5


@pytest.mark.parametrize(
    "error",
    [
        failure(400, retryable=False),
        ProviderError("no", retryable=False, certainty="unbilled", status_code=413),
        failure(422, retryable=False),
        "",
    ],
)
def test_a_summary_that_is_refused_is_gone_without(error: Exception | str) -> None:
    model = Windowed(20_000, reader(80), summarizes=error)
    kit = windowed_kit(model, Context(window=20_000))
    head = play(kit, text=GOAL)
    assert (head.status, model.answers) == ("idle", 81)
    assert any(summary.NO_WORDS in text_of(entry.content) for entry in compactions(kit, head))
    assert "I decline." not in str([entry.content for entry in compactions(kit, head)])


def test_a_provider_that_is_down_while_it_summarizes_stops_the_turn_and_the_next_one_goes_on() -> None:
    model = Windowed(20_000, reader(80), summarizes=failure(529))
    kit = windowed_kit(model, Context(window=20_000))
    head = kit.run(begin(kit, text=GOAL))
    assert head.stop is not None
    assert (head.status, head.stop.reason) == ("stopped", "provider_error")
    check_session(kit, head)
    model.summarizes = "All is well."
    head = kit.run(kit.intake.resume(kit.head(head.session_id)))
    assert head.status == "idle"
    check_session(kit, head)


def test_one_result_that_no_window_holds_is_left_out_and_the_model_is_told() -> None:
    @tool(effect="read")
    def dump() -> str:
        """Everything."""
        return "x y " * 80_000

    model = Windowed(20_000, lambda answer: [use("dump")] if answer == 1 else [say("too much")])
    agent = Agent(name="scripted", model=MODEL, system="You act.", tools=[dump])
    kit = MemoryKit([agent], model=model, policy=RICH, runner="none", clock=ManualClock())
    head = play(kit, text=GOAL)
    assert (head.status, model.answers) == ("idle", 2)
    assert "too long to read" in json.dumps(model.requests[-1].messages)


def test_an_input_that_no_window_holds_stops_and_can_be_taken_back() -> None:
    model = Windowed(5_000, lambda _: [say("hello")])
    kit = windowed_kit(model, Context())
    head = play(kit, text="word " * 20_000)
    assert (head.status, head.stop and head.stop.reason) == ("stopped", "context_window")
    assert head.stop is not None and "rewind" in head.stop.detail["hint"]


@pytest.mark.parametrize("wall", ["numbers", "no numbers", "413"])
@pytest.mark.parametrize("believed", [None, 5_000, 50_000], ids=["price list", "right", "too large"])
@pytest.mark.parametrize("times", [2, 40], ids=lambda times: f"{times} windows")
def test_a_plain_next_turn_goes_on_behind_what_no_window_holds(wall: str, believed: int | None, times: int) -> None:
    """However little is known of the window, and however often the words were shortened for one that is larger."""
    model = Windowed(5_000, lambda _: [say("hello")])
    model.wall = wall
    kit = windowed_kit(model, Context(window=believed))
    head = kit.run(begin(kit, text="word " * 5_000 * times))
    check_session(kit, head)
    assert head.stop is not None and head.stop.reason == "context_window"
    for _ in range(2):
        head = kit.run(kit.intake.post(head, "a small question"))
        check_session(kit, head)
        assert (head.status, head.stop and head.stop.reason) == ("idle", "end_turn")
    assert "word word" in json.dumps(model.requests[-1].messages), "as many of the first words as there is room for"


def test_a_summary_and_a_plan_of_any_length_make_room() -> None:
    """A model that writes more than it may, and keeps a plan that is half of its window, goes on all the same."""
    items = [{"title": f"item {n} " + "with much to say " * 20, "state": "pending"} for n in range(50)]

    def act(answer: int) -> list[Block]:
        if answer == 1:
            return [use("update_plan", goal="g " * 10_000, items=items)]
        return reader(40)(answer)

    model = Windowed(20_000, act, summarizes="so far so good " * 20_000)
    kit = windowed_kit(model, Context(window=20_000))
    head = play(kit, text=GOAL)
    assert (head.status, model.answers) == ("idle", 41)
    assert all(len(text_of(entry.content)) < 40_000 for entry in compactions(kit, head))
    assert any("so far so good" in text_of(entry.content) for entry in compactions(kit, head))


@pytest.mark.parametrize("at", range(1, 9))
def test_a_crash_while_it_summarizes_is_made_good(at: int) -> None:
    """Wherever the runner dies from the write before a summary on, money is right and the task finishes."""
    model = Windowed(8_000, reader(25))
    kit = windowed_kit(model, Context(window=8_000))
    head = begin(kit, text=GOAL)
    write, since_summary = kit.table.write, 0

    def dies(operations: Any) -> None:
        nonlocal since_summary
        write(operations)
        since_summary += any(map(is_summary, model.requests))
        if since_summary == at:
            raise Crash("dead")

    kit.table.write = dies  # type: ignore[method-assign]
    with pytest.raises(Crash):
        kit.run(head)
    kit.table.write = write  # type: ignore[method-assign]
    kit.clock.advance(120)  # type: ignore[attr-defined]
    head = kit.run(kit.head(head.session_id))
    check_session(kit, head)
    assert head.status == "idle"
    assert head.turn.iterations == 26


def test_a_summary_is_taken_back_with_the_turn_that_it_came_in() -> None:
    model = Windowed(8_000, reader(25))
    kit = windowed_kit(model, Context(window=8_000))
    head = play(kit, text=GOAL)
    assert any(entry.content for entry in compactions(kit, head))
    entries = kit.entries(head.session_id)
    early = next(entry.seq for entry in entries if entry.type == "tool_results")
    head = kit.branching.rewind(WHO, kit.head(head.session_id), to_seq=early)
    sent = project(kit.entries(head.session_id))
    seqs = {place.seq for places in sent.places for place in places if place is not None}
    assert seqs == {entry.seq for entry in entries if entry.seq <= early and entry.type != "status"}
