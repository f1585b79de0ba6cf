"""One page that a person can read in a pull request: no script, nothing from elsewhere."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from html import escape
from pathlib import Path

from turnkeeper.core.money import format_usd
from turnkeeper_local.evals.results import CaseResult, Regression, Results, Run

_STYLE = """
:root { color-scheme: light dark }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 64rem; margin: 2rem auto; padding: 0 1rem }
table { border-collapse: collapse; width: 100% } td, th { text-align: left; padding: .25rem .6rem .25rem 0 }
th { font-weight: 600; border-bottom: 1px solid #8884 } td { border-bottom: 1px solid #8882; vertical-align: top }
.passed { color: #18794e } .failed, .error { color: #c62a2f } .flaky { color: #ad5700 }
pre { white-space: pre-wrap; font-size: 13px; background: #8881; padding: .6rem; border-radius: 4px }
summary { cursor: pointer } .n { text-align: right; font-variant-numeric: tabular-nums } small { opacity: .7 }
"""


def write(results: Results, path: Path, *, worse: Iterable[Regression] = ()) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(_page(results, list(worse))) + "\n", encoding="utf-8")


def _page(results: Results, worse: list[Regression]) -> Iterator[str]:
    good = sum(case.outcome == "passed" for case in results.cases)
    title = f"{good} of {len(results.cases)} cases passed"
    yield "<!doctype html>"
    yield f'<html lang="en"><meta charset="utf-8"><title>{title}</title><style>{_STYLE}</style><body>'
    yield f"<h1>{title}</h1>"
    yield f"<p><small>{results.model} model, Turnkeeper {escape(results.turnkeeper)}, {escape(results.at)}</small></p>"
    if worse:
        yield '<h2 class="failed">Worse than the baseline</h2><ul>'
        yield from (f"<li>{escape(str(one))}</li>" for one in worse)
        yield "</ul>"
    yield "<table><thead><tr><th>case<th>outcome<th>why<th class=n>steps<th class=n>cost</tr></thead><tbody>"
    for case in sorted(results.cases, key=lambda case: case.outcome == "passed"):
        yield from _row(case)
    yield "</tbody></table></body></html>"


def _row(case: CaseResult) -> Iterator[str]:
    run = next((run for run in case.runs if not run.passed), case.runs[0])
    cost = format_usd(run.cost_nanousd)
    yield f"<tr><td><details><summary>{escape(case.name)}</summary>{''.join(_detail(run))}</details>"
    tags = f" <small>{escape(', '.join(case.tags))}</small>" if case.tags else ""
    yield f"<td class={case.outcome}>{case.outcome}{tags}<td>{escape(case.first_problem[:300])}"
    yield f"<td class=n>{run.steps}<td class=n>{cost}</tr>"


def _detail(run: Run) -> Iterator[str]:
    yield "<table>"
    for verdict in run.verdicts:
        word = "measured" if verdict.passed is None else "passed" if verdict.passed else "failed"
        yield f"<tr><td class={word}>{escape(verdict.name)}<td>{verdict.value:.2f}<td>{escape(verdict.reason)}</tr>"
    yield "</table>"
    yield f"<pre>{escape(chr(10).join(run.story) or run.error or '')}</pre>"
