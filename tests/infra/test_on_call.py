"""docs/operations/alarms.md names everything that rings, and nothing else, each with a command."""

from __future__ import annotations

import re
import typing

import pytest

from tests.infra.alarm_rules import ALARM
from tests.infra.reading import Deployment
from tests.infra.variants import Variants
from tests.support.snippet_checks import shell_problems
from tests.support.snippets import ROOT, Block
from turnkeeper.core.stops import AlertKind

PAGE = ROOT / "docs/operations/alarms.md"
#: What CDK adds to an id.
_HASH = re.compile(r"[0-9A-F]{8}$")


def rows(title: str) -> dict[str, str]:
    """First cell to last cell of the table below a heading; `the same` stands for what is above."""
    (section,) = re.findall(rf"^## {title}\n(.*?)(?=^## )", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    found: dict[str, str] = {}
    for line in section.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split(" | ")]
        if name := re.fullmatch(r"`(\w+)`", cells[0].strip()):
            last = list(found.values())[-1] if cells[-1] == "the same" else cells[-1]
            found[name[1]] = last
    return found


def rings(deployment: Deployment) -> set[str]:
    """Ids of the alarms that somebody hears. Those that only scale the worker have no one to tell."""
    heard = set()
    for one in deployment.all(ALARM):
        told = [deployment.follow(one.stack, action) for action in one.properties["AlarmActions"]]
        if any(target is not None and target.kind == "AWS::SNS::Topic" for target in told):
            heard.add(_HASH.sub("", one.id))
    return heard


def test_the_page_names_every_alarm_and_no_other(variants: Variants) -> None:
    every = set().union(*(rings(Deployment(variant.templates)) for variant in variants.values()))
    assert set(rows("Alarms")) == every


def test_the_page_names_every_alert() -> None:
    raised = set(typing.get_args(AlertKind))
    sources = [*(ROOT / "functions").rglob("*.py"), *(ROOT / "shared/src/turnkeeper/runtime").rglob("*.py")]
    for source in sources:
        raised |= set(re.findall(r"(?:\.alert\(\s*|^KIND = )\"(\w+)\"", source.read_text(), re.MULTILINE))
    assert set(rows("Alerts")) == raised


@pytest.mark.parametrize("title", ["Alarms", "Alerts"])
def test_each_has_a_command_that_exists(title: str) -> None:
    for name, last in rows(title).items():
        commands = [code for code in re.findall(r"`([^`]+)`", last) if code.split()[0] in {"turnkeeper", "aws"}]
        assert commands, f"{name} has no command"
        for command in commands:
            assert not list(shell_problems(Block(PAGE, 0, "shell", command, False))), name
