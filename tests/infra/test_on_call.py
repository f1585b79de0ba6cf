"""What whoever is woken reads leads on: alarms, alerts and the steps of incidents have commands that exist."""

from __future__ import annotations

import re
import typing

import pytest

from tests.infra import runbook
from tests.support.snippet_checks import shell_problems
from tests.support.snippets import ROOT, Block
from turnkeeper.core.stops import AlertKind

OPERATIONS = ROOT / "docs/operations"
ALARMS, INCIDENTS = OPERATIONS / "alarms.md", OPERATIONS / "incidents.md"
FEWER_THAN = 5


def commands(text: str) -> list[str]:
    return [code for code in re.findall(r"`([^`]+)`", text) if code.split()[0] in {"turnkeeper", "aws"}]


def problems(text: str) -> list[str]:
    """Of the commands that stand in a text."""
    return [
        problem for command in commands(text) for problem in shell_problems(Block(ALARMS, 0, "shell", command, False))
    ]


def test_the_page_names_every_alert() -> None:
    raised = set(typing.get_args(AlertKind))
    sources = [*(ROOT / "functions").rglob("*.py"), *(ROOT / "shared/src/turnkeeper/runtime").rglob("*.py")]
    for source in sources:
        raised |= set(re.findall(r"(?:\.alert\(\s*|^KIND = )\"(\w+)\"", source.read_text(), re.MULTILINE))
    assert set(runbook.rows(runbook.sections(ALARMS)["alerts"])) == raised


def test_each_alarm_and_alert_has_a_command_that_exists() -> None:
    told = {**runbook.rows(runbook.sections(ALARMS)["alerts"])}
    for text in runbook.sections().values():
        told |= runbook.rows(text)
    assert len(told) > 40
    for name, last in told.items():
        assert commands(last), f"{name} has no command"
        assert not problems(last), name


@pytest.mark.parametrize("section", runbook.sections())
def test_each_section_says_what_to_look_at_and_what_to_do(section: str) -> None:
    text = runbook.sections()[section]
    assert text.index("**Look at**") < text.index("**Do.**")
    assert not problems(text)


def test_what_stops_the_bleeding_works_today() -> None:
    page = runbook.PAGE.read_text()
    (table,) = re.findall(r"^\| stop \|.*?\n\n", page, re.MULTILINE | re.DOTALL)
    stops = table.splitlines()[2:-1]
    assert {"a tenant", "a rollout", "a version of an agent", "a worker"} <= {
        row.split("|")[1].strip() for row in stops
    }
    assert len(commands(table)) > 10
    assert not problems(table)


def incidents() -> dict[str, str]:
    return runbook.sections(INCIDENTS)


def test_there_are_seven_incidents() -> None:
    assert len(incidents()) == 7


@pytest.mark.parametrize("incident", incidents())
def test_an_incident_is_understood_in_fewer_than_five_commands(incident: str) -> None:
    steps = re.findall(r"^\d\. (`.*)$", incidents()[incident], re.MULTILINE)
    assert 0 < len(steps) < FEWER_THAN
    assert all(len(commands(step.split(":")[0])) == 1 for step in steps)
    assert "**Cause**" in incidents()[incident]
    assert not problems(incidents()[incident])


def test_what_rings_in_an_incident_is_an_alarm_or_an_alert() -> None:
    known = {*runbook.rows(runbook.sections(ALARMS)["alerts"])}
    known |= {name for text in runbook.sections().values() for name in runbook.rows(text)}
    for name, text in incidents().items():
        (rings,) = re.findall(r"^Rings: (.*)$", text, re.MULTILINE)
        named = set(re.findall(r"`(\w+)`", rings)) - {"contended", "denied"}
        assert named <= known, f"{name}: {named - known}"
