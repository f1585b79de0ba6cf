"""`turnkeeper explain`, for people and for programs."""

from __future__ import annotations

from typing import Any

from tests.unit.cli.conftest import Cli
from tests.unit.cli.fake_api import FakeApi, Request

DOCUMENT: dict[str, Any] = {
    "session_id": "ses_1",
    "turn": None,
    "story": [
        {
            "at": "2026-03-02T09:30:00.000Z",
            "text": "Asked.\x1b[2J",
            "refs": {"seq": 1, "trace_id": "ab"},
            "cost_usd": None,
        },
        {"at": "2026-03-04T09:30:05.000Z", "text": "[bold]1", "refs": {"seq": 2, "call": 1}, "cost_usd": "0.1"},
    ],
    "why_ended": "It was done.",
    "what_now": "Say more: `turnkeeper chat plain --session ses_1`.\nOr: `turnkeeper fork ses_1 --tenant acme`.",
}


def answer(request: Request) -> tuple[int, dict[str, Any]] | None:
    turn = request.query.get("turn")
    return (200, {**DOCUMENT, "turn": int(turn) if turn else None}) if request.path.endswith("/explain") else None


def test_the_story_is_told_with_times_references_and_what_to_type_next(cli: Cli, api: FakeApi) -> None:
    api.override = answer
    result = cli("explain", "ses_1", "--tenant", "acme")
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert lines[:2] == ["ses_1", "    It was done."]
    assert [line for line in lines if "seq 1, trace_id ab" in line]
    assert [line for line in lines if "[bold]1  seq 2, call 1" in line]
    assert "\x1b" not in result.stdout
    assert sum(line.startswith("2026-03-0") for line in lines) == 2, "each day is named once"
    assert "  -  Say more: `turnkeeper chat plain --session ses_1 --tenant acme`." in lines
    assert "  -  Or: `turnkeeper fork ses_1 --tenant acme`." in lines


def test_for_programs_it_is_as_the_api_says_it(cli: Cli, api: FakeApi) -> None:
    api.override = answer
    assert cli("explain", "ses_1", "--turn", "2", "--json").document == {**DOCUMENT, "turn": 2}
    assert api.requests[-1].query == {"turn": "2"}
    assert cli("explain", "ses_1", "--turn", "0").exit_code == 2
    assert cli("explain").exit_code == 2
