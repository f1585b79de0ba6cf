"""JUnit's XML, which every CI shows."""

from __future__ import annotations

import re
from pathlib import Path
from xml.etree import ElementTree

from turnkeeper_local.evals.results import CaseResult, Results

#: What XML 1.0 cannot hold.
_NO_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def write(results: Results, path: Path) -> None:
    """One suite an agent, one test a case. What could not be played is an error, the rest a failure."""
    root = ElementTree.Element("testsuites", name="turnkeeper eval")
    for agent in dict.fromkeys(case.agent for case in results.cases):
        cases = [case for case in results.cases if case.agent == agent]
        suite = ElementTree.SubElement(
            root,
            "testsuite",
            name=agent,
            tests=str(len(cases)),
            failures=str(sum(case.outcome in ("failed", "flaky") for case in cases)),
            errors=str(sum(case.outcome == "error" for case in cases)),
            timestamp=results.at,
        )
        for case in cases:
            _case(suite, case)
    path.parent.mkdir(parents=True, exist_ok=True)
    ElementTree.indent(root)
    ElementTree.ElementTree(root).write(path, encoding="utf-8", xml_declaration=True)


def _case(suite: ElementTree.Element, case: CaseResult) -> None:
    seconds = sum(run.busy_ms for run in case.runs) / 1000
    test = ElementTree.SubElement(
        suite,
        "testcase",
        classname=f"evals.{case.agent}",
        name=_clean(case.case),
        file=_clean(case.file),
        time=f"{seconds:.3f}",
    )
    if case.outcome == "passed":
        return
    kind = "error" if case.outcome == "error" else "failure"
    problem = ElementTree.SubElement(
        test, kind, message=_clean(case.first_problem)[:500], type="flaky" if case.outcome == "flaky" else kind
    )
    lines = [f"{verdict.name}: {verdict.reason}" for run in case.runs for verdict in run.failed]
    worst = next(run for run in case.runs if not run.passed)
    problem.text = _clean("\n".join([*dict.fromkeys(lines), "", *worst.story]))


def _clean(text: str) -> str:
    return _NO_XML.sub("\ufffd", text)
