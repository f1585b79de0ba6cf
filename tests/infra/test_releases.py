"""A new version takes over step by step, and a bad one goes back: on the templates, and on broken ones."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest

from tests.infra.reading import Deployment
from tests.infra.release_rules import (
    aliases_that_jump,
    functions_called_past_their_alias,
    releases_that_do_not_come_back,
    releases_that_do_not_hear_of_answers,
    versions_that_go_too_soon,
)
from tests.infra.variants import Variant, Variants


def problems(variant: Variant, templates: Any = None) -> list[str]:
    deployment = Deployment(templates or variant.templates)
    stage = variant.settings.get("stage", "prod")
    return [
        *aliases_that_jump(deployment, stage),
        *releases_that_do_not_come_back(deployment),
        *releases_that_do_not_hear_of_answers(deployment),
        *functions_called_past_their_alias(deployment),
        *(versions_that_go_too_soon(deployment) if stage == "prod" else []),
    ]


def test_every_release_can_be_taken_back(variants: Variants) -> None:
    for name, variant in variants.items():
        aliases = list(Deployment(variant.templates).all("AWS::Lambda::Alias"))
        streams = {"StreamLi"} if "streaming" in variant.settings else set()
        assert {alias.id[:8] for alias in aliases} == {"TurnLive", "FrontDoo"} | streams
        assert problems(variant) == [], name


def _first(templates: Any, kind: str) -> dict[str, Any]:
    found: dict[str, Any] = next(one for one in templates["Api"]["Resources"].values() if one["Type"] == kind)
    return found


def moved_at_once(templates: Any) -> None:
    del _first(templates, "AWS::Lambda::Alias")["UpdatePolicy"]


def another_pace(templates: Any) -> None:
    group = _first(templates, "AWS::CodeDeploy::DeploymentGroup")
    group["Properties"]["DeploymentConfigName"] = "CodeDeployDefault.LambdaAllAtOnce"


def no_alarm(templates: Any) -> None:
    del _first(templates, "AWS::CodeDeploy::DeploymentGroup")["Properties"]["AlarmConfiguration"]


def only_failures_of_the_function(templates: Any) -> None:
    for one in templates["Api"]["Resources"].values():
        if one["Type"] == "AWS::CodeDeploy::DeploymentGroup":
            alarms = one["Properties"]["AlarmConfiguration"]["Alarms"]
            alarms[:] = [alarm for alarm in alarms if "Answers" not in alarm["Name"]["Ref"]]


def an_alarm_that_is_not_listened_to(templates: Any) -> None:
    group = _first(templates, "AWS::CodeDeploy::DeploymentGroup")["Properties"]
    group["AutoRollbackConfiguration"]["Events"] = ["DEPLOYMENT_FAILURE"]


def an_alarm_on_another_alias(templates: Any) -> None:
    for alarm in templates["Api"]["Resources"].values():
        if alarm["Type"] == "AWS::CloudWatch::Alarm":
            alarm["Properties"]["Dimensions"][-1]["Value"] = "another:live"


def versions_removed_at_once(templates: Any) -> None:
    _first(templates, "AWS::Lambda::Version")["DeletionPolicy"] = "Delete"


def called_past_its_alias(templates: Any) -> None:
    function = next(
        id
        for id, one in templates["Api"]["Resources"].items()
        if one["Type"] == "AWS::Lambda::Function" and id.startswith("FrontDoor")
    )
    integration = _first(templates, "AWS::ApiGatewayV2::Integration")
    integration["Properties"]["IntegrationUri"] = {"Fn::GetAtt": [function, "Arn"]}


@pytest.mark.parametrize(
    "plant",
    [
        moved_at_once,
        another_pace,
        no_alarm,
        only_failures_of_the_function,
        an_alarm_that_is_not_listened_to,
        an_alarm_on_another_alias,
        versions_removed_at_once,
        called_past_its_alias,
    ],
)
def test_a_planted_fault_is_found(plant: Callable[[Any], None], variants: Variants) -> None:
    templates = copy.deepcopy(variants["prod-jwt"].templates)
    plant(templates)
    assert problems(variants["prod-jwt"], templates)
