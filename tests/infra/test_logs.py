"""Logs are kept for as long as the stage says, all of them."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest

from tests.infra.reading import Deployment
from tests.infra.variants import SETTINGS, Synthesize, Variant, Variants
from turnkeeper.adapters.ecs import EcsWakes
from turnkeeper.adapters.logs import JsonLines
from turnkeeper.core.late import late
from turnkeeper.testing.clock import ManualClock
from turnkeeper_infra import names
from turnkeeper_local.cli.logs import part_of


def kept_otherwise(deployment: Deployment, days: int) -> list[str]:
    groups = list(deployment.all("AWS::Logs::LogGroup"))
    assert groups
    return [str(one) for one in groups if one.properties.get("RetentionInDays") != days]


@pytest.mark.parametrize("days", [7, 365])
def test_every_log_is_kept_as_long_as_the_stage_says(synthesize: Synthesize, days: int) -> None:
    for name in ("prod-jwt", "dev-jwt"):
        settings = {**SETTINGS[name], "log_retention_days": str(days)}
        variant = Variant(name, settings, synthesize(**settings))
        assert kept_otherwise(Deployment(variant.templates), days) == [], name


def test_a_log_with_a_mind_of_its_own_is_found(variants: Variants) -> None:
    templates = copy.deepcopy(variants["prod-jwt"].templates)
    for template in templates.values():
        for id, resource in template["Resources"].items():
            if resource["Type"] == "AWS::Logs::LogGroup" and id.startswith("AccessLog"):
                resource["Properties"]["RetentionInDays"] = 30
    (found,) = kept_otherwise(Deployment(templates), 90)
    assert found.startswith("Api/AccessLog")


def test_a_failed_wake_leaves_the_line_that_is_counted(caplog: pytest.LogCaptureFixture) -> None:
    def client() -> Any:
        raise TimeoutError

    EcsWakes(late(client), "Turnkeeper/worker", 10, ManualClock()).at_least(1)
    (record,) = caplog.records
    assert json.loads(JsonLines(None).format(record))["code"] == names.WAKE_FAILED


def test_the_command_line_shows_what_every_function_logs(templates: dict[str, dict[str, Any]]) -> None:
    ours = {
        id: resource["Properties"]["LoggingConfig"]["LogGroup"]["Ref"]
        for template in templates.values()
        for id, resource in template["Resources"].items()
        if resource["Type"] == "AWS::Lambda::Function"
        and resource["Properties"].get("Handler", "").startswith("functions.")
    }
    assert len(ours) > 4
    assert [id for id, group in ours.items() if part_of(group) is None] == []
