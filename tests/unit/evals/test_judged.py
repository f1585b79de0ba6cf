"""`Judged` asks a model where there is one, under the budget, and nobody where there is none."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from tests.support.scripted import ScriptedModel, reply, say, use
from turnkeeper.ports import ModelRequest
from turnkeeper_local.cli.main import app
from turnkeeper_local.evals import live
from turnkeeper_local.evals.live import with_claude
from turnkeeper_local.evals.play import Stage

CASE = """
cases:
  - name: counts
    inputs:
      turns: ["How many nails?"]
      model:
        - { call: count, arguments: { item: nails } }
        - { say: "There are 17 nails." }
    evaluators:
      - Judged: { rubric: "It says how many.", model: claude-opus-5, at_least: 0.6 }
"""


def evaluated(cases: Path, *arguments: str) -> Any:
    cases.write_text(CASE)
    done = CliRunner().invoke(app, ["eval", "run", *arguments, "--json"])
    return json.loads(done.stdout)


def verdicts(document: Any) -> dict[str, bool | None]:
    [run] = document["cases"][0]["runs"]
    return {one["name"]: one["passed"] for one in run["verdicts"]}


def test_without_a_model_nobody_is_asked_and_it_is_said(cases: Path) -> None:
    assert verdicts(evaluated(cases)) == {}
    told = CliRunner().invoke(app, ["eval", "run"])
    assert "left out without --live: 1 Judged" in told.output


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ('{"score": 0.75, "reason": "17."}', {"judge": True, "judge_share": None}),
        ('{"score": 0.5, "reason": "Perhaps."}', {"judge": False, "judge_share": None}),
        ("No idea.", {"judge_failed": None}),
    ],
)
def test_with_one_its_verdict_is_one_of_the_case(
    cases: Path, monkeypatch: pytest.MonkeyPatch, said: str, expected: dict[str, bool | None]
) -> None:
    model = ScriptedModel(reply(use("count", item="nails")), reply(say("There are 17.")), reply(say(said)))
    caps: list[int | None] = []

    def claude(stage: Stage, budget: int, sessions: int) -> Stage:
        monkeypatch.setenv("ANTHROPIC_API_KEY", "none")
        held = with_claude(stage, budget, sessions)
        caps.extend(plan.caps["task"].amount for plan in held.policy.plans.values())
        return replace(held, live=model)

    monkeypatch.setattr(live, "with_claude", claude)
    document = evaluated(cases, "--live", "--budget", "1.00")
    assert verdicts(document) == expected
    assert caps == [500_000_000], "the judge has its part of the budget"
    asked: ModelRequest = model.requests[-1]
    assert asked.model == "claude-opus-5" and not asked.tools
    assert "It says how many." in str(asked.messages) and "There are 17." in str(asked.messages)


@pytest.mark.parametrize("wrong", ["{ rubric: '' }", "{ rubric: x, at_least: 2 }", "{ model: x }"])
def test_one_that_makes_no_sense_is_told_when_the_file_is_read(cases: Path, wrong: str) -> None:
    cases.write_text(CASE.replace('{ rubric: "It says how many.", model: claude-opus-5, at_least: 0.6 }', wrong))
    done = CliRunner().invoke(app, ["eval", "run", "--json"])
    assert done.exit_code != 0
    assert "Judged" in done.stdout or "judge" in done.stdout
