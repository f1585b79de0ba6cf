"""How a new version of a function takes over: a part of the calls first, and back at once when it fails."""

from __future__ import annotations

from dataclasses import dataclass

import aws_cdk as cdk
from aws_cdk import aws_cloudwatch as cloudwatch
from aws_cdk import aws_codedeploy as codedeploy
from aws_cdk import aws_lambda as lambda_

from turnkeeper_infra import names
from turnkeeper_infra.acknowledge import acknowledge
from turnkeeper_infra.alarms import Heard, alarm
from turnkeeper_infra.config import Config
from turnkeeper_infra.functions import KitFunction

ERRORS_TO_ROLL_BACK = 3
SERVER_ERRORS_TO_ROLL_BACK = 5
SECTION = "releases"
"""Of the runbook."""


@dataclass(frozen=True)
class Release:
    """How callers are given a function."""

    alias: lambda_.Alias
    group: codedeploy.LambdaDeploymentGroup | None
    """What moves the alias; `None` on the emulator, which has no CodeDeploy."""

    def roll_back_on(self, errors: cloudwatch.IMetric, *, heard: Heard) -> None:
        """Take a release back on what the function answers, too: what it handles is no failure of the function."""
        if self.group is None:
            return
        failing = alarm(
            self.alias.stack,
            f"{self.alias.node.id}Answers",
            errors,
            SERVER_ERRORS_TO_ROLL_BACK,
            "The API answers with server errors; a deployment that is under way is rolled back",
            heard=heard,
            section=SECTION,
        )
        self.group.add_alarm(failing)


def publish(function: KitFunction, *, config: Config, heard: Heard) -> Release:
    """The alias `live` of a function, which callers are given. In production a deployment moves a tenth of the calls to
    the new version and the rest after five minutes, and rolls back when calls of the alias fail meanwhile."""
    scope, id = function.stack, function.node.id
    alias = lambda_.Alias(scope, f"{id}Live", alias_name=names.LIVE_ALIAS, version=function.current_version)
    if config.local:  # the emulator has no CodeDeploy
        return Release(alias, None)
    failing = alarm(
        scope,
        f"{id}LiveErrors",
        alias.metric_errors(period=cdk.Duration.minutes(1), statistic="Sum"),
        ERRORS_TO_ROLL_BACK,
        f"{id} fails; a deployment that is under way is rolled back",
        heard=heard,
        section=SECTION,
    )
    group = codedeploy.LambdaDeploymentGroup(
        scope,
        f"{id}Releases",
        alias=alias,
        deployment_config=(
            codedeploy.LambdaDeploymentConfig.CANARY_10_PERCENT_5_MINUTES
            if config.stage == "prod"
            else codedeploy.LambdaDeploymentConfig.ALL_AT_ONCE
        ),
        alarms=[failing],
        auto_rollback=codedeploy.AutoRollbackConfig(
            failed_deployment=True, stopped_deployment=True, deployment_in_alarm=True
        ),
    )
    assert group.role is not None
    acknowledge(
        group.role,
        "AwsSolutions-IAM4[Policy::arn:<AWS::Partition>:iam::aws:policy/service-role/AWSCodeDeployRoleForLambdaLimited]",
        "AWS's own policy for moving an alias; it changes with what CodeDeploy needs, and calls no function of ours.",
    )
    return Release(alias, group)
