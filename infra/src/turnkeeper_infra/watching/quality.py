"""Alarms on how turns go: the model's provider, tools, waiting, and whether there is a worker at all."""

from __future__ import annotations

from collections.abc import Callable

import aws_cdk as cdk
from aws_cdk import aws_cloudwatch as cloudwatch

from turnkeeper_infra import names
from turnkeeper_infra.watching.emitted import FIVE_MINUTES, Emitted

Ring = Callable[..., None]
"""Makes an alarm: its id, metric, threshold, what it says, and the section of the runbook."""

PROVIDER_ERRORS = 10
QUEUE_WAIT_MINUTES = 10
"""A worker that has to be started takes a minute or two."""
HANDOFF_MINUTES = 5
WORKER_MISSING_MINUTES = 6
_MINUTE = cdk.Duration.minutes(1)


def watch_turns(ring: Ring, emitted: Emitted) -> None:
    ring(
        "OutcomesUnknown",
        emitted.one("tool_calls", outcome="unknown"),
        1,
        "Nobody knows whether a tool that may run only once has run: its runner died meanwhile",
        section="tools",
    )
    ring(
        "ProviderErrors",
        emitted.together("provider_errors"),
        PROVIDER_ERRORS,
        f"For 15 minutes {PROVIDER_ERRORS} or more calls of the model's API failed in each five",
        section="model-api",
        periods=3,
    )
    ring(
        "QueueWaitLong",
        emitted.together("queue_wait", "MAX"),
        QUEUE_WAIT_MINUTES * 60_000,
        f"A turn waited {QUEUE_WAIT_MINUTES} minutes or longer for its first runner (in milliseconds here)",
        section="queue-and-worker",
    )
    ring(
        "HandoffsSlow",
        emitted.together("handoff_latency", "MAX"),
        HANDOFF_MINUTES * 60_000,
        f"A session was on its way between runners for {HANDOFF_MINUTES} minutes or longer (in milliseconds here)",
        section="queue-and-worker",
    )


def watch_worker(ring: Ring, waiting: cloudwatch.IMetric, deployment: str) -> None:
    missing = cloudwatch.MathExpression(
        # Each running task reports its use once a minute; where there is none, nothing is reported, which is none.
        expression="IF(waiting > 0 AND FILL(tasks, 0) == 0, waiting, 0)",
        using_metrics={"waiting": waiting, "tasks": tasks(deployment)},
        label="Jobs without a worker",
        period=_MINUTE,
    )
    ring(
        "WorkerMissing",
        missing,
        1,
        f"For {WORKER_MISSING_MINUTES} minutes jobs waited and no worker ran: does a task start?",
        section="queue-and-worker",
        periods=WORKER_MISSING_MINUTES,
    )


def tasks(deployment: str) -> cloudwatch.Metric:
    """Tasks of the worker that run."""
    return of_the_worker(deployment, "CPUUtilization", "SampleCount", label="tasks", period=_MINUTE)


def of_the_worker(
    deployment: str, metric: str, statistic: str, *, label: str, period: cdk.Duration = FIVE_MINUTES
) -> cloudwatch.Metric:
    """By the names of cluster and service, which are known before they are made."""
    cluster, service = names.worker_service(deployment).split("/")
    return cloudwatch.Metric(
        namespace="AWS/ECS",
        metric_name=metric,
        dimensions_map={"ClusterName": cluster, "ServiceName": service},
        period=period,
        statistic=statistic,
        label=label,
    )
