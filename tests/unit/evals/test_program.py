"""Cases of agents on the Claude Agent SDK, without it: what their script becomes, and that nobody needs it."""

from __future__ import annotations

import json

import httpx2
import pytest
from typer.testing import CliRunner

from tests.support.repository import REPOSITORY
from turnkeeper.runtime.catalog import load_agents
from turnkeeper_local.cli.main import app
from turnkeeper_local.evals import play
from turnkeeper_local.evals.program import scenario, standing_in
from turnkeeper_local.evals.script import Answer
from turnkeeper_local.standin.scenario import Scenario


def test_a_script_says_to_the_program_what_it_says_to_the_kits_own_loop() -> None:
    agent = load_agents([REPOSITORY / "agents"]).agents["coder"]
    said = [
        Answer(fail=529),
        Answer(say="First.", call="get_repository"),
        Answer(calls=[{"call": "Bash", "arguments": {"command": "ls ]] & [["}}]),  # type: ignore[list-item]
        Answer(stop="max_tokens", say="Cut."),
    ]
    rule, _ = scenario(agent, said).find("any", "thing") or pytest.fail("no rule fits")
    blocks = [step.answer.raw for step in rule.script.steps]
    assert [[block.get("name") for block in answer] for answer in blocks] == [
        [None, "mcp__turnkeeper__get_repository"],
        ["Bash"],
        [None],
    ]
    assert blocks[1][0]["input"] == {"command": "ls ]] & [["}


def test_the_stand_in_of_a_case_that_cannot_be_played_ends_with_it() -> None:
    with pytest.raises(play.Unplayable), standing_in(Scenario()) as url:
        httpx2.get(url)
        raise play.Unplayable("no")
    with pytest.raises(httpx2.ConnectError):
        httpx2.get(url)


def test_where_the_sdk_is_not_its_agents_are_left_out_unless_they_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(play, "find_sdk", lambda root: False)
    monkeypatch.setenv("TURNKEEPER_PROJECT", str(REPOSITORY))
    monkeypatch.delenv("TURNKEEPER_AGENTS", raising=False)
    told = CliRunner().invoke(app, ["eval", "run", "--filter", "looks an invoice up"])
    assert told.exit_code == 0 and "left out: coder" in told.stderr
    done = CliRunner().invoke(app, ["eval", "run", "--filter", "it", "--json"])
    assert {case["agent"] for case in json.loads(done.stdout)["cases"]} == {"analyst", "support"}
    named = CliRunner().invoke(app, ["eval", "run", "coder", "--json"])
    assert named.exit_code == 1
    errors = {run["error"] for case in json.loads(named.stdout)["cases"] for run in case["runs"]}
    assert len(errors) == 1 and "needs the Claude Agent SDK" in errors.pop()
