"""Every log group of the kit: how long it keeps what, with which key, and whether it outlives its stack."""

from __future__ import annotations

import aws_cdk as cdk
from aws_cdk import aws_logs as logs
from constructs import Construct

from turnkeeper_infra import names
from turnkeeper_infra.config import Config
from turnkeeper_infra.keys import key_of

_RETENTIONS = {
    7: logs.RetentionDays.ONE_WEEK,
    30: logs.RetentionDays.ONE_MONTH,
    90: logs.RetentionDays.THREE_MONTHS,
    365: logs.RetentionDays.ONE_YEAR,
    731: logs.RetentionDays.TWO_YEARS,
}


def count_failed_wakes(log: logs.LogGroup, config: Config) -> None:
    """Count the lines that say that the worker could not be woken. From the log, since whoever failed to reach ECS may
    be any of five processes, and has a request to answer."""
    log.add_metric_filter(
        "WakesFailed",
        filter_pattern=logs.FilterPattern.string_value("$.code", "=", names.WAKE_FAILED),
        metric_namespace=names.metric_namespace(config.name),
        metric_name=names.WAKES_FAILED,
    )


def log_group(scope: Construct, id: str, config: Config) -> logs.LogGroup:
    """A log group as the stage wants it."""
    return logs.LogGroup(
        scope,
        id,
        retention=_RETENTIONS[config.log_retention_days],
        removal_policy=cdk.RemovalPolicy.RETAIN if config.keeps_data else cdk.RemovalPolicy.DESTROY,
        encryption_key=key_of(scope, f"{id}Key", config.kms_key_arn),
    )
