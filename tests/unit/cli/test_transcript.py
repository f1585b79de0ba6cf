"""A transcript for people."""

from __future__ import annotations

import io

from rich.console import Console

from turnkeeper_local.cli.transcript import Transcript, silent_line, turn_line


def test_people_are_shown_what_the_model_no_longer_sees() -> None:
    console = Console(record=True, width=200, file=io.StringIO())
    printed = Transcript(console)
    marks = [{"seq": seq, "what": "summarized"} for seq in (2, 3, 9)]
    printed.show({"seq": 12, "type": "compaction", "left_out": marks, "summary": "It went well.", "cost_usd": "0.01"})
    printed.show(
        {"seq": 14, "type": "compaction", "left_out": [{"seq": 10, "index": 0, "what": "old"}], "cost_usd": "0"}
    )
    text = console.export_text()
    assert "not sent entries 2 to 9 any more, but this summary:" in text
    assert "It went well." in text
    assert "not sent 1 old results any more" in text


def shown(event: dict[str, object]) -> str:
    console = Console(record=True, width=300, file=io.StringIO())
    Transcript(console).show(event)
    return console.export_text()


def test_people_are_told_who_was_lost_and_what_is_in_doubt() -> None:
    lost = {
        "seq": 4,
        "type": "runner_lost",
        "at": "2026-03-02T12:04:25.000Z",
        "runner": "fargate",
        "runner_id": "w-123",
        "last_heard_at": "2026-03-02T12:03:10.000Z",
        "taken_over_by": "lambda",
        "taken_over_by_id": "req-9",
        "in_doubt_usd": "0.085700000",
        "open_calls": [{"tool_use_id": "t1", "tool": "pay"}],
    }
    text = shown(lost)
    assert "the worker w-123 was lost, last heard of at" in text
    assert "taken over by the turn Lambda req-9 75 s later" in text
    assert "$0.0857 counts as spent, and may not have been (in doubt)" in text
    assert "may have made calls of: pay" in text
    text = shown({**lost, "taken_over_by": "sweep", "in_doubt_usd": "0.000000000", "open_calls": []})
    assert "the sweep put the session on its way to another one 75 s later." in text
    assert "doubt" not in text
    assert "the runner was lost." in shown({"seq": 1, "type": "runner_lost"})


def test_costs_say_how_much_of_them_is_in_doubt() -> None:
    turn = {"status": "idle", "steps": 1, "cost_usd": "0.0900", "in_doubt_usd": "0.0857"}
    assert "$0.09 in all ($0.0857 of it in doubt)" in turn_line(turn).plain
    assert "doubt" not in turn_line({**turn, "in_doubt_usd": "0.000000000"}).plain


def test_a_denied_call_says_who_could_have_made_it() -> None:
    denial = {"why": "role", "missing_scopes": ["x:write"], "role": "user", "given_to_roles": ["agent"]}
    result = {"tool": "pay", "outcome": "denied", "duration_ms": 0, "content": [], "denial": denial}
    text = shown({"seq": 3, "type": "tool_results", "results": [result]})
    assert "role user has no x:write; policy.toml gives it to: agent" in text
    text = shown(
        {"seq": 3, "type": "tool_results", "results": [{**result, "denial": {**denial, "given_to_roles": []}}]}
    )
    assert "gives it to: no role" in text


def test_tools_that_were_taken_are_named() -> None:
    assert "the agent has no pay, send any more" in shown(
        {"seq": 3, "type": "user", "content": [], "removed_tools": ["pay", "send"]}
    )


def test_a_silent_runner_is_told_with_what_happens_next() -> None:
    page = {"runner_silent_since": "2026-03-02T12:03:10.000Z", "lease_expires_at": "2026-03-02T12:04:10.000Z"}
    assert "no word from the runner since" in silent_line(page)
    assert silent_line({**page, "runner_silent_since": None}) == ""
    assert silent_line({}) == "", "a front door of before says nothing of it"
