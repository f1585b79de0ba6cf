"""Cases run on the real engine: what is planted is found by name, what is well passes twice."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from typer.testing import CliRunner

from tests.support.repository import REPOSITORY
from tests.unit.evals.conftest import Evaluate
from turnkeeper.core.tools import Tool
from turnkeeper.core.transcript import Block, answer
from turnkeeper.runtime import tool_answers, toolbox
from turnkeeper_local.cli.main import app
from turnkeeper_local.evals.cases import schema
from turnkeeper_local.evals.results import CaseResult, Results, Run, Verdict, regressions


def outcomes(document: Any) -> dict[str, str]:
    def outcome(case: Any) -> str:
        passed = [
            run["error"] is None and all(v["passed"] is not False for v in run["verdicts"]) for run in case["runs"]
        ]
        return "passed" if all(passed) else "flaky" if any(passed) else "failed"

    return {case["case"]: outcome(case) for case in document["cases"]}


def problems(document: Any) -> dict[str, list[str]]:
    return {
        case["case"]: [v["name"] for run in case["runs"] for v in run["verdicts"] if v["passed"] is False]
        for case in document["cases"]
        if outcomes(document)[case["case"]] != "passed"
    }


def edit(path: Path, old: str, new: str) -> None:
    text, written = path.read_text(), path.stat().st_mtime
    assert old in text
    path.write_text(text.replace(old, new))
    # Of the same second and the same length it would be what was compiled already.
    os.utime(path, (written + 2, written + 2))


def test_what_is_well_passes_twice_and_the_same(evaluate: Evaluate) -> None:
    code, first = evaluate()
    again, second = evaluate()
    assert (code, again) == (0, 0)
    assert set(outcomes(first).values()) == {"passed"} and len(first["cases"]) == 4
    for document in (first, second):
        for case in document["cases"]:
            for run in case["runs"]:
                run.pop("busy_ms")
    assert first["cases"] == second["cases"]


# ---- planted regressions ----


def test_a_tool_that_is_taken_from_the_agent(evaluate: Evaluate, project: Path) -> None:
    edit(project / "agents/clerk/agent.py", "tools=[count, order]", "tools=[order]")
    code, document = evaluate()
    assert code == 1
    assert "counts" in problems(document)
    assert "agent clerk has no tool count" in str(document)


def test_an_argument_that_is_renamed(evaluate: Evaluate, project: Path) -> None:
    edit(project / "agents/clerk/agent.py", "item: str) ->", "thing: str) ->")
    edit(project / "agents/clerk/agent.py", '{"item": item,', '{"item": thing,')
    code, document = evaluate("--filter", "counts")
    assert code == 1
    assert "tool_calls_valid" in problems(document)["counts"]


def test_a_role_that_is_given_too_much(evaluate: Evaluate, project: Path) -> None:
    edit(
        project / "policy.toml",
        'scopes = ["stock:read"]\n[roles.buyer]',
        'scopes = ["stock:read", "stock:write"]\n[roles.buyer]',
    )
    edit(project / "agents/clerk/agent.py", 'raise AssertionError("no case runs this for real")', 'return "ordered"')
    code, document = evaluate()
    assert code == 1
    assert problems(document) == {"a reader orders nothing": ["forbidden_calls"]}


def test_an_injection_check_that_is_blind(evaluate: Evaluate, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tool_answers.ToolAnswers, "_flag", lambda *_, **__: None)
    code, document = evaluate()
    assert code == 1
    assert problems(document) == {"an order in a result is not followed": ["flagged"]}


def test_an_engine_that_runs_what_was_not_granted(evaluate: Evaluate, monkeypatch: pytest.MonkeyPatch) -> None:
    def answered(_self: toolbox.Toolbox, _: object, call: Block) -> Any:
        return answer(call, "ordered", "ok")

    monkeypatch.setattr(toolbox.Toolbox, "not_granted", answered)
    code, document = evaluate()
    assert code == 1
    assert problems(document) == {"a reader orders nothing": ["forbidden_calls"]}


def test_a_prompt_that_makes_the_model_do_more_shows_as_a_script_that_is_over(evaluate: Evaluate, cases: Path) -> None:
    edit(cases, '        - { say: "There are 17 nails." }\n', "")
    code, document = evaluate("--filter", "counts")
    assert code == 1
    assert "the script is over after 1 answers" in document["cases"][0]["runs"][0]["error"]


# ---- choosing, repeating ----


def test_choosing_by_name_and_tag(evaluate: Evaluate) -> None:
    assert list(outcomes(evaluate("--filter", "orders")[1])) == ["orders", "a reader orders nothing"]
    assert len(evaluate("clerk", "--tag", "adversarial")[1]["cases"]) == 2
    assert evaluate("--filter", "nothing like it")[0] == 2
    code, document = evaluate("nobody")
    assert (code, document["error"]["code"]) == (2, "agent_not_found")


def test_flaky_is_told_from_wrong(evaluate: Evaluate, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = iter(range(100))
    real = tool_answers.ToolAnswers._flag
    monkeypatch.setattr(
        tool_answers.ToolAnswers, "_flag", lambda self, *a, **k: None if next(calls) % 2 else real(self, *a, **k)
    )
    code, document = evaluate("--repeat", "4", "--filter", "not followed")
    assert code == 1
    assert outcomes(document) == {"an order in a result is not followed": "flaky"}
    assert len(document["cases"][0]["runs"]) == 4


# ---- baselines ----


def test_a_baseline_names_case_score_and_step(evaluate: Evaluate, project: Path, tmp_path: Path) -> None:
    baseline = tmp_path / "baseline.json"
    assert CliRunner().invoke(app, ["eval", "run", "--json", str(baseline)]).exit_code == 0
    code, document = evaluate("--baseline", str(baseline))
    assert (code, document["regressions"]) == (0, [])
    edit(project / "agents/clerk/agent.py", '"count": 17', '"count": 18')
    code, document = evaluate("--baseline", str(baseline))
    assert code == 1
    [worse] = [one for one in document["regressions"] if one["what"] == "grounded"]
    assert worse["case"] == "clerk/counts"
    assert "17" in worse["why"] and "entry" in worse["why"]


def test_what_has_always_failed_is_no_regression(evaluate: Evaluate, project: Path, tmp_path: Path) -> None:
    edit(project / "agents/clerk/agent.py", '"count": 17', '"count": 18')
    baseline = tmp_path / "baseline.json"
    assert CliRunner().invoke(app, ["eval", "run", "--json", str(baseline)]).exit_code == 1
    assert evaluate("--baseline", str(baseline))[0] == 0


def test_a_case_that_is_gone_is_one_unless_it_was_not_asked_for(
    evaluate: Evaluate, cases: Path, tmp_path: Path
) -> None:
    baseline = tmp_path / "baseline.json"
    CliRunner().invoke(app, ["eval", "run", "--json", str(baseline)])
    assert evaluate("--baseline", str(baseline), "--filter", "counts")[0] == 0
    edit(cases, "name: counts", "name: counts them")
    code, document = evaluate("--baseline", str(baseline))
    assert code == 1 and document["regressions"][0]["case"] == "clerk/counts"


@pytest.mark.parametrize(("before", "now", "worse"), [(0, 1, True), (1, 4, True), (4, 4, False), (4, 1, False)])
def test_more_runs_that_cannot_be_played_are_worse(before: int, now: int, worse: bool) -> None:
    """Those that can be judged may be well as ever."""

    def results(broken: int) -> Results:
        well = Verdict(name="ended", value=1, passed=True)
        runs = [Run(error="the script is over") if n < broken else Run(verdicts=[well]) for n in range(5)]
        return Results(turnkeeper="1", at="-", cases=[CaseResult(agent="clerk", case="a", file="f", runs=runs)])

    found = [one.what for one in regressions(results(before), results(now))]
    assert found == (["the case"] if worse else [])


def test_a_baseline_that_is_none(evaluate: Evaluate, tmp_path: Path) -> None:
    (tmp_path / "b.json").write_text("[]")
    assert evaluate("--baseline", str(tmp_path / "b.json"))[1]["error"]["code"] == "invalid_baseline"


# ---- reports ----


def test_junit_and_html(evaluate: Evaluate, project: Path, tmp_path: Path) -> None:
    edit(project / "agents/clerk/agent.py", '"count": 17', '"count": "<b>18</b>"')
    junit, html = tmp_path / "out" / "junit.xml", tmp_path / "out" / "page.html"
    assert evaluate("--junit", str(junit), "--html", str(html))[0] == 1
    [suite] = ElementTree.parse(junit).getroot()
    assert (suite.get("tests"), suite.get("failures"), suite.get("errors")) == ("4", "1", "0")
    [failure] = suite.iter("failure")
    assert "grounded" in (failure.get("message") or "") and "count ok" in (failure.text or "")
    page = html.read_text()
    assert "3 of 4 cases passed" in page and "clerk/counts" in page
    assert "<script" not in page and "http" not in page.replace("https://json", "")


# ---- files of cases ----


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("- Grounded", "- Grounding", "Grounding"),
        ("name: counts", "nam: counts", "nam"),
        ("  - name: counts\n    metadata", "  - metadata", "has no name"),
        ("name: counts", 'name: " "', "has no name"),
        ("name: counts", 'name: "counts\\ntwice"', "has no name of one line"),
        ("name: counts", 'name: "\\ud800"', "has no name of one line"),
        ("name: orders", "name: counts", "counts"),
        ("mode: exact", "mode: precisely", "precisely"),
        ("{ say: ", "{ sing: ", "sing"),
        ("cases:", "cases: [", "stock.yaml"),
        ("role: buyer", "role: thief", "no role 'thief'"),
        ("tools: { order", "tools: { pay", "no tool pay"),
    ],
)
def test_a_mistake_in_a_file_is_told(evaluate: Evaluate, cases: Path, old: str, new: str, told: str) -> None:
    edit(cases, old, new)
    code, document = evaluate()
    assert code == 1
    assert told in json.dumps(document)


def test_evaluators_of_ones_own(evaluate: Evaluate, cases: Path) -> None:
    cases.with_name("evaluators.py").write_text(
        "from dataclasses import dataclass\n"
        "from turnkeeper import Score\n\n"
        "@dataclass(frozen=True)\n"
        "class Polite:\n"
        "    word: str = 'please'\n\n"
        "    def score(self, trajectory):\n"
        "        yield Score.check('polite', self.word in trajectory.output_text, f'{self.word} was looked for')\n"
    )
    edit(cases, "- Grounded", "- Grounded\n      - Polite: { word: nails }\n      - Polite")
    code, document = evaluate("--filter", "counts")
    assert code == 1
    [run] = document["cases"][0]["runs"]
    assert {verdict["name"]: verdict["passed"] for verdict in run["verdicts"] if "polite" in verdict["name"]} == {
        "polite": True,
        "polite_2": False,
    }


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ("word: str = 'nails'", "Mine"),
        ("strict: bool = False\n    _: KW_ONLY\n    word: str", "Mine: { word: nails }"),
        ("word: str = field(init=False, default='nails')", "Mine"),
        ("word: Word = 'nails'", "Mine"),
    ],
)
def test_evaluators_of_any_dataclass(evaluate: Evaluate, cases: Path, fields: str, named: str) -> None:
    cases.with_name("evaluators.py").write_text(
        "from __future__ import annotations\n"
        "from dataclasses import KW_ONLY, dataclass, field\n"
        "from typing import TYPE_CHECKING\n"
        "from turnkeeper import Score\n"
        "if TYPE_CHECKING:\n    from nowhere import Word\n\n"
        f"@dataclass(frozen=True)\nclass Mine:\n    {fields}\n\n"
        "    def score(self, trajectory):\n"
        "        yield Score.check('mine', self.word in trajectory.output_text, '')\n\n"
        "Yours = Mine\n"
    )
    edit(cases, "- Grounded", f"- Grounded\n      - {named}")
    code, document = evaluate("--filter", "counts")
    assert code == 0, document
    assert "mine" in {verdict["name"] for verdict in document["cases"][0]["runs"][0]["verdicts"]}


def test_an_evaluator_that_ends_the_process_when_it_is_made_ends_no_run_well(evaluate: Evaluate, cases: Path) -> None:
    cases.with_name("evaluators.py").write_text(
        "from dataclasses import dataclass\n\n"
        "@dataclass\nclass Mine:\n"
        "    def __post_init__(self):\n        raise SystemExit(0)\n\n"
        "    def score(self, trajectory):\n        return ()\n"
    )
    edit(cases, "- Grounded", "- Mine")
    code, document = evaluate()
    assert (code, document["error"]["code"]) == (1, "invalid_cases")


@pytest.mark.parametrize("error", ["SystemExit(0)", "GeneratorExit()", "ValueError('no')"])
def test_evaluators_that_cannot_be_imported_are_no_run_that_went_well(
    evaluate: Evaluate, cases: Path, error: str
) -> None:
    cases.with_name("evaluators.py").write_text(f"raise {error}")
    code, document = evaluate()
    assert (code, document["error"]["code"]) == (1, "invalid_cases")


def test_a_reason_that_quotes_half_a_character_can_be_written(evaluate: Evaluate, cases: Path, tmp_path: Path) -> None:
    cases.with_name("evaluators.py").write_text(
        "from dataclasses import dataclass\n"
        "from turnkeeper import Score\n\n"
        "@dataclass(frozen=True)\n"
        "class Odd:\n"
        "    def score(self, trajectory):\n"
        "        yield Score.check('odd', False, '\\ud800')\n"
    )
    edit(cases, "- Grounded", "- Odd")
    code, document = evaluate("--filter", "counts", "--junit", str(tmp_path / "j.xml"), "--html", str(tmp_path / "h"))
    told = {verdict["name"]: verdict["reason"] for verdict in document["cases"][0]["runs"][0]["verdicts"]}
    assert (code, told["odd"]) == (1, "\ufffd")


def test_the_published_schema_is_that_of_the_code() -> None:
    assert (REPOSITORY / "agents" / "cases.schema.json").read_text() == schema(), "turnkeeper eval schema > agents/..."


def test_the_samples_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TURNKEEPER_PROJECT", str(REPOSITORY))
    monkeypatch.delenv("TURNKEEPER_AGENTS", raising=False)
    done = CliRunner().invoke(app, ["eval", "run", "--json"])
    document = json.loads(done.stdout)
    assert problems(document) == {} and done.exit_code == 0
    for agent in ("support", "analyst"):
        tags = [tag for case in document["cases"] if case["agent"] == agent for tag in case["tags"]]
        assert len(tags) >= 10 and {"happy", "hard", "adversarial"} == set(tags)


def test_a_fake_takes_no_arguments_that_the_tool_would_not(evaluate: Evaluate, cases: Path) -> None:
    before = 'amount: 20 } }\n        - { say: "I have'
    edit(cases, before, before.replace("20", "some"))
    _, document = evaluate("--filter", "clerk/orders")
    assert sorted(problems(document)["orders"]) == ["calls_match", "tool_calls_valid"]


def test_no_real_tool_is_changed(evaluate: Evaluate) -> None:
    body = Tool.__dataclass_fields__["body"]
    evaluate()
    assert Tool.__dataclass_fields__["body"] is body


def test_a_check_may_be_called_as_if_an_evaluator_had_failed(evaluate: Evaluate, cases: Path) -> None:
    own = """
from dataclasses import dataclass
from turnkeeper import Score


@dataclass(frozen=True)
class PaymentFailed:
    def score(self, trajectory):
        yield Score.check("payment_failed", True, "as it should")
"""
    (cases.parent / "evaluators.py").write_text(own)
    cases.write_text(cases.read_text().replace("[ToolCallsValid, Ended]", "[ToolCallsValid, Ended, PaymentFailed]"))
    code, document = evaluate()
    assert code == 0, document


def test_a_date_without_quotes_is_the_text_that_a_model_would_send(evaluate: Evaluate, cases: Path) -> None:
    cases.write_text(cases.read_text().replace("item: nails", "item: 2026-03-05"))
    code, document = evaluate("--filter", "counts")
    assert code == 0, document


def test_two_cases_of_one_name_hide_each_other_and_are_refused(evaluate: Evaluate, cases: Path) -> None:
    (cases.parent / "again.yaml").write_text(cases.read_text())
    code, document = evaluate()
    assert code != 0
    assert "counts" in str(document)


def test_a_new_case_that_fails_is_not_known_and_fails_the_run(evaluate: Evaluate, cases: Path, tmp_path: Path) -> None:
    before = tmp_path / "before.json"
    everything = cases.read_text()
    cases.write_text(everything[: everything.index("  - name: orders")])
    CliRunner().invoke(app, ["eval", "run", "--json", str(before)])
    cases.write_text(everything.replace("order, outcome: ok", "order, outcome: denied"))
    code, document = evaluate("--baseline", str(before))
    assert code == 1
    assert [one["case"] for one in document["regressions"]] == ["clerk/orders"]
