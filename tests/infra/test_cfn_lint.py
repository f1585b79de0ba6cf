"""CloudFormation's own schemas take the templates of every variant."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.infra.rules.rule import first, planted
from tests.infra.variants import REGION, Variants

# The CDK names as a dependency what a property refers to as well.
ACCEPTED = "W3005"
_CLI = "from cfnlint.runner import main; main()"


def linted(templates: dict[str, dict[str, Any]], folder: Path) -> list[str]:
    """What cfn-lint says, a line for each finding."""
    files = []
    for name, template in templates.items():
        files.append(folder / f"{name}.json")
        files[-1].write_text(json.dumps(template))
    command = [sys.executable, "-c", _CLI, "--format", "json", "--regions", REGION, "--ignore-checks", ACCEPTED]
    done = subprocess.run([*command, "--", *files], check=False, capture_output=True, text=True)
    assert done.stdout.startswith("["), done.stderr
    return [
        f"{Path(one['Filename']).stem} {one['Location']['Path']}: {one['Rule']['Id']} {one['Message']}"
        for one in json.loads(done.stdout)
    ]


def test_cfn_lint_finds_nothing_in_any_variant(variants: Variants, tmp_path: Path) -> None:
    """Each template once: most stacks are the same in many variants."""
    different = {
        json.dumps(template, sort_keys=True): (f"{variant.name}.{stack}", template)
        for variant in variants.values()
        for stack, template in variant.templates.items()
    }
    assert len(different) > len(variants)
    assert linted(dict(different.values()), tmp_path) == []


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
    whole = variants["prod-jwt"]
    broken = planted(whole, lambda templates: first(templates, kind)["Properties"].update({setting: wrong}))
    changed = {stack: one for stack, one in broken.templates.items() if one != whole.templates[stack]}
    assert any(setting in line for line in linted(changed, tmp_path))
