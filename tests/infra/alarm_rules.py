"""What must hold of everything that is watched. Each rule takes a deployment and tells what is wrong, in words."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from tests.infra.aws_metrics import AWS_METRICS, Dimensions
from tests.infra.reading import Deployment, Resource, as_list
from turnkeeper.telemetry.metrics import METRICS
from turnkeeper_infra import names, setting_keys

ALARM = "AWS::CloudWatch::Alarm"
CLOUDWATCH = "cloudwatch.amazonaws.com"

#: The library that prints the kit's metrics adds this to what `METRICS` names.
KIT_METRICS = {name: frozenset({frozenset((*metric.dimensions, "service"))}) for name, metric in METRICS.items()}


@dataclass(frozen=True)
class Watched:
    where: str
    namespace: str
    metric: str
    dimensions: Dimensions


def metrics_that_do_not_exist(deployment: Deployment) -> list[str]:
    """Alarms and graphs of what nobody publishes."""
    counted, published = _counted_from_logs(deployment), _published(deployment)
    return [
        f"{one.where}: {one.namespace} {one.metric} has no dimensions {sorted(one.dimensions)}"
        for one in watched(deployment)
        if one.dimensions not in published.get(one.namespace, {}).get(one.metric, ())
        and (one.dimensions or (one.namespace, one.metric) not in counted)
    ]


def wakers_whose_failures_are_not_counted(deployment: Deployment) -> list[str]:
    """Processes that may wake the worker, and whose log nobody reads for where they could not."""
    pattern = f'{{ $.code = "{names.WAKE_FAILED}" }}'
    counted = {
        deployment.text(one.stack, one.properties["LogGroupName"])
        for one in deployment.all("AWS::Logs::MetricFilter")
        if one.properties["FilterPattern"] == pattern
    }
    functions = {
        str(one): deployment.text(one.stack, one.properties["LoggingConfig"]["LogGroup"])
        for one in deployment.all("AWS::Lambda::Function")
        if setting_keys.WORKER_SERVICE in one.properties.get("Environment", {}).get("Variables", {})
    }
    tasks = {
        str(task): deployment.text(task.stack, one["LogConfiguration"]["Options"]["awslogs-group"])
        for task in deployment.all("AWS::ECS::TaskDefinition")
        for one in task.properties["ContainerDefinitions"]
    }
    return [where for where, log in {**functions, **tasks}.items() if log not in counted]


def alarms_on_the_age_of_jobs(deployment: Deployment) -> list[str]:
    """The age of the oldest message counts those that are worked on, and nothing bounds how long a job may take."""
    return [
        one.where
        for one in watched(deployment, ALARM)
        if (one.namespace, one.metric) == ("AWS/SQS", "ApproximateAgeOfOldestMessage")
    ]


def alarms_that_reach_nobody(deployment: Deployment) -> list[str]:
    """Alarms without an action, and those whose topic keeps CloudWatch out."""
    problems = []
    for alarm in deployment.all(ALARM):
        actions = [deployment.follow(alarm.stack, action) for action in alarm.properties.get("AlarmActions", [])]
        problems += [f"{alarm} does nothing"] * (not actions)
        problems += [f"{alarm} names what is not here"] * (None in actions)
        problems += [
            f"{alarm} cannot publish to {topic}"
            for topic in actions
            if topic is not None and topic.kind == "AWS::SNS::Topic" and not _takes_alarms(deployment, topic)
        ]
    return problems


def dead_letters_without_an_alarm(deployment: Deployment) -> list[str]:
    """Queues that something is set aside on, and nobody hears of it."""
    watched_queues = {
        str(queue)
        for alarm in deployment.all(ALARM)
        if alarm.properties.get("MetricName") == "ApproximateNumberOfMessagesVisible"
        for dimension in alarm.properties["Dimensions"]
        if (queue := deployment.follow(alarm.stack, dimension["Value"])) is not None
    }
    return sorted(set(_set_aside_on(deployment)) - watched_queues)


RULES = (
    metrics_that_do_not_exist,
    wakers_whose_failures_are_not_counted,
    alarms_on_the_age_of_jobs,
    alarms_that_reach_nobody,
    dead_letters_without_an_alarm,
)


def watched(deployment: Deployment, *kinds: str) -> Iterator[Watched]:
    """Every metric of every alarm and every graph."""
    for one in deployment.all(*(kinds or (ALARM, "AWS::CloudWatch::Dashboard"))):
        yield from _of_alarm(one) if one.kind == ALARM else _of_dashboard(deployment, one)


def _of_alarm(alarm: Resource) -> Iterator[Watched]:
    stats = [one["MetricStat"]["Metric"] for one in alarm.properties.get("Metrics", []) if "MetricStat" in one]
    for metric in stats or [alarm.properties]:
        dimensions = frozenset(one["Name"] for one in metric.get("Dimensions", []))
        yield Watched(str(alarm), metric["Namespace"], metric["MetricName"], dimensions)


def _of_dashboard(deployment: Deployment, dashboard: Resource) -> Iterator[Watched]:
    body = json.loads(deployment.text(dashboard.stack, dashboard.properties["DashboardBody"]))
    for widget in body["widgets"]:
        where = f"{dashboard} {widget['properties'].get('title')}"
        for row in widget["properties"].get("metrics", []):
            words = [part for part in row if isinstance(part, str)]
            if words:
                yield Watched(where, words[0], words[1], frozenset(words[2::2]))
            for expression in (part["expression"] for part in row if isinstance(part, dict) and "expression" in part):
                yield from _of_search(where, expression)


def _of_search(where: str, expression: str) -> Iterator[Watched]:
    for schema, metric in re.findall(r"""\{([^}]+)\} MetricName="(\w+)\"""", expression):
        namespace, *dimensions = schema.split(",")
        yield Watched(where, namespace.strip('"'), metric, frozenset(dimensions))


def _takes_alarms(deployment: Deployment, topic: Resource) -> bool:
    """A policy of the topic's own replaces the default one, which lets everybody of the account publish."""
    policies = [
        policy
        for policy in deployment.all("AWS::SNS::TopicPolicy")
        if topic in [deployment.follow(policy.stack, one) for one in policy.properties["Topics"]]
    ]
    statements = [one for policy in policies for one in policy.properties["PolicyDocument"]["Statement"]]
    return not policies or any(
        one["Effect"] == "Allow"
        and isinstance(one["Principal"], dict)
        and CLOUDWATCH in as_list(one["Principal"].get("Service", []))
        and "sns:publish" in [str(action).lower() for action in as_list(one["Action"])]
        and deployment.follow(topic.stack, as_list(one["Resource"])[0]) == topic
        and one.get("Condition") == {"StringEquals": {"aws:SourceAccount": {"Ref": "AWS::AccountId"}}}
        for one in statements
    )


def _published(deployment: Deployment) -> Mapping[str, Mapping[str, frozenset[Dimensions]]]:
    """By namespace: what AWS does, and what the observer is told to."""
    environments = [one.properties.get("Environment", {}) for one in deployment.all("AWS::Lambda::Function")]
    told = [one.get("Variables", {}).get(setting_keys.METRICS_NAMESPACE) for one in environments]
    return {**AWS_METRICS, **{namespace: KIT_METRICS for namespace in told if namespace}}


def _counted_from_logs(deployment: Deployment) -> set[tuple[str, str]]:
    return {
        (made["MetricNamespace"], made["MetricName"])
        for one in deployment.all("AWS::Logs::MetricFilter")
        for made in one.properties["MetricTransformations"]
    }


def _set_aside_on(deployment: Deployment) -> Iterator[str]:
    for queue in deployment.all("AWS::SQS::Queue"):
        if (redrive := queue.properties.get("RedrivePolicy")) is not None:
            yield str(deployment.follow(queue.stack, redrive["deadLetterTargetArn"]))
    for source in deployment.all("AWS::Lambda::EventSourceMapping"):
        if (failed := source.properties.get("DestinationConfig", {}).get("OnFailure")) is not None:
            yield str(deployment.follow(source.stack, failed["Destination"]))
