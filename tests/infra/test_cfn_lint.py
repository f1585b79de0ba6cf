"""CloudFormation's own schemas take the templates of every variant."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from tests.infra.rules.rule import first, planted
from tests.infra.variants import REGION, Template, Variants

# The CDK names as a dependency what a property refers to as well.
ACCEPTED = "W3005"


def linted(templates: dict[str, Template], folder: Path) -> list[str]:
    """What cfn-lint says, a line for each finding."""
    from cfnlint.api import lint_by_config  # Which takes a second to import, in each process that collects tests.
    from cfnlint.config import ManualArgs

    files = []
    for name, template in templates.items():
        files.append(folder / f"{name}.json")
        files[-1].write_text(json.dumps(template))
    arguments = ManualArgs(templates=[str(file) for file in files], regions=[REGION], ignore_checks=[ACCEPTED])
    return [
        f"{Path(one.filename).stem} {[*one.path]}: {one.rule.id} {one.message}" for one in lint_by_config(arguments)
    ]


class Unseen:
    """Of one template after the other what no template had before: most stacks are much the same in many variants.

    What a template has is its named parts: resources, outputs, parameters. A part that is new comes with the resources
    that refer to it and with all that these refer to in turn, for cfn-lint judges some parts by others.
    """

    def __init__(self) -> None:
        self._seen: set[str] = set()

    def of(self, stack: str, template: Template) -> Template:
        sections = {name: section for name, section in template.items() if isinstance(section, dict)}
        written = {
            part: json.dumps([stack, name, part, content], sort_keys=True)
            for name, section in sections.items()
            for part, content in section.items()
        }
        refers = {part: set(re.findall(r"\w+", text)) & written.keys() for part, text in written.items()}
        new = {part for part, text in written.items() if text not in self._seen}
        self._seen.update(written.values())
        taken: set[str] = set()
        left = new | {id for id in template["Resources"] if refers[id] & new}
        while left:
            taken |= left
            left = set().union(*(refers[part] for part in left)) - taken
        kept = {
            name: {part: content for part, content in section.items() if part in taken}
            for name, section in sections.items()
        }
        return {name: section for name, section in {**template, **kept}.items() if section}


@pytest.mark.long
@pytest.mark.timeout(900)  # A minute of a processor, which four others ask for as well.
def test_cfn_lint_finds_nothing_in_any_variant(variants: Variants, tmp_path: Path) -> None:
    """Of those that have been chosen for what differs; `make test` lints one of them whole."""
    unseen = Unseen()
    different = {
        f"{variant.name}.{stack}": unseen.of(stack, template)
        for variant in variants.values()
        for stack, template in variant.templates.items()
    }
    some = {name: template for name, template in different.items() if "Resources" in template}
    assert len(some) > len(variants)
    assert linted(some, tmp_path) == []


def test_cfn_lint_finds_nothing_in_production(variants: Variants, tmp_path: Path) -> None:
    assert linted(dict(variants["prod-jwt"].templates), tmp_path) == []


def test_whatever_differs_anywhere_is_looked_at(variants: Variants) -> None:
    """With all that it refers to; and nothing is looked at because it is there once more."""
    unseen, looked_at, there = Unseen(), set[str](), set[str]()
    for variant in variants.values():
        for stack, template in variant.templates.items():
            kept = unseen.of(stack, template)
            for section, parts in template.items():
                for part, content in parts.items() if isinstance(parts, dict) else ():
                    there.add(text := json.dumps([stack, section, part, content], sort_keys=True))
                    if part in kept.get(section, {}):
                        looked_at.add(text)
            assert unseen.of(stack, template).keys() <= {"AWSTemplateFormatVersion", "Description"}
    assert looked_at == there


@pytest.mark.parametrize(
    ("kind", "setting", "wrong"),
    [
        ("AWS::DynamoDB::Table", "BillingMode", "PAY_LATER"),
        ("AWS::SQS::Queue", "VisibilityTimeout", 99_999),
        ("AWS::ECS::Service", "LaunchTime", "soon"),
        ("AWS::Lambda::Function", "Role", {"Fn::GetAtt": ["Nowhere", "Arn"]}),
    ],
)
def test_a_planted_fault_is_found(variants: Variants, tmp_path: Path, kind: str, setting: str, wrong: Any) -> None:
    """In a variant like one before, but for the fault."""
    whole, unseen = variants["prod-jwt"], Unseen()
    broken = planted(whole, lambda templates: first(templates, kind)["Properties"].update({setting: wrong}))
    for stack, template in whole.templates.items():
        unseen.of(stack, template)
    changed = {stack: unseen.of(stack, template) for stack, template in broken.templates.items()}
    found = linted({stack: one for stack, one in changed.items() if "Resources" in one}, tmp_path)
    assert any(setting in line for line in found)
