"""What must hold of everything that is watched. Each rule takes a deployment and tells what is wrong, in words."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from tests.infra import runbook
from tests.infra.aws_metrics import AWS_METRICS, Dimensions
from tests.infra.reading import Deployment, Resource, as_list
from turnkeeper.telemetry.metrics import METRICS
from turnkeeper_infra import names

ALARM, COMPOSITE = "AWS::CloudWatch::Alarm", "AWS::CloudWatch::CompositeAlarm"
BOARD = "AWS::CloudWatch::Dashboard"
CLOUDWATCH = "cloudwatch.amazonaws.com"

#: The library that prints the kit's metrics adds this to what the table names.
KIT_METRICS = {name: frozenset({frozenset((*metric.dimensions, "service"))}) for name, metric in METRICS.items()}

#: Quotas: https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/cloudwatch_limits.html and
#: .../cloudwatch-metrics-insights-limits.html
METRICS_OF_AN_ALARM, QUERY_ALARMS, LINES_OF_A_GRAPH, LINES_OF_A_BOARD, WIDGETS = 10, 200, 500, 2500, 500
ALARMS_OF_A_WIDGET = 100


@dataclass(frozen=True)
class Watched:
    where: str
    namespace: str
    metric: str
    dimensions: Dimensions
    service: str | None = None
    """Who has to have counted it, where that is said."""


def metrics_that_do_not_exist(deployment: Deployment) -> list[str]:
    """Alarms and graphs of what nobody publishes."""
    counted, published = _counted_from_logs(deployment), _published(deployment)
    return [
        f"{one.where}: {one.namespace} {one.metric} has no dimensions {sorted(one.dimensions)}"
        for one in watched(deployment)
        if one.dimensions not in published.get(one.namespace, {}).get(one.metric, ())
        and (one.dimensions or (one.namespace, one.metric) not in counted)
    ]


def metrics_of_another_service(deployment: Deployment) -> list[str]:
    """Of the kit's own, where what is watched names a service by which they are not emitted."""
    spaces = _published(deployment).keys() - AWS_METRICS.keys()
    return [
        f"{one.where}: {one.metric} is not emitted by {one.service}"
        for one in watched(deployment)
        if one.namespace in spaces and one.service is not None and one.metric in METRICS
        if one.service != METRICS[one.metric].by
    ]


def metrics_that_nobody_watches(deployment: Deployment) -> list[str]:
    """What the kit emits and no alarm and no graph shows: it is paid for, and found by nobody."""
    namespaces = _published(deployment).keys() - AWS_METRICS.keys()
    seen = {(one.namespace, one.metric) for one in watched(deployment)}
    return [f"{space} {name} is nowhere" for space in namespaces for name in KIT_METRICS if (space, name) not in seen]


def alarms_that_cloudwatch_refuses(deployment: Deployment) -> list[str]:
    """An alarm takes one line out of at most ten metrics, no search, and a query only by itself."""
    problems, queries = [], 0
    for alarm in deployment.all(ALARM):
        parts = alarm.properties.get("Metrics", [])
        texts = [deployment.text(alarm.stack, one["Expression"]) for one in parts if "Expression" in one]
        asks = [text for text in texts if text.startswith("SELECT")]
        queries += len(asks)
        problems += [f"{alarm} searches" for text in texts if "SEARCH(" in text or "METRICS(" in text]
        problems += [f"{alarm} asks and computes"] * bool(asks and len(parts) > 1)
        problems += [f"{alarm} asks for lines without end" for text in asks if "GROUP BY" in text]
        problems += [f"{alarm} watches too many"] * (sum("MetricStat" in one for one in parts) > METRICS_OF_AN_ALARM)
    return problems + ["too many queries"] * (queries > QUERY_ALARMS)


def boards_that_cloudwatch_cuts(deployment: Deployment) -> list[str]:
    """A search finds as many lines as there are agents: what is drawn of it is bounded, and all of it fits."""
    problems = []
    for one in deployment.all(BOARD):
        widgets = _widgets(deployment, one)
        lines = {f"{one} {widget['properties'].get('title')}": _lines(widget) for widget in widgets}
        problems += [f"{where} draws a search without end" for where, count in lines.items() if count is None]
        counts = {where: count or 0 for where, count in lines.items()}
        problems += [f"{where} has {count} lines" for where, count in counts.items() if count > LINES_OF_A_GRAPH]
        fits = sum(counts.values()) <= LINES_OF_A_BOARD and len(widgets) <= WIDGETS
        problems += [f"{one} has too much on it"] * (not fits)
        problems += [
            f"{one} shows too many alarms"
            for widget in widgets
            if len(widget["properties"].get("alarms", [])) > ALARMS_OF_A_WIDGET
        ]
    return problems


def alarms_without_a_section(deployment: Deployment) -> list[str]:
    """Alarms that do not say, by its address, which section of the runbook is about them. One that is not there, or
    that does not list them, is none."""
    listed = {name: set(runbook.rows(text)) for name, text in runbook.sections().items()}
    problems = []
    for alarm in rings(deployment):
        found = re.search(r"\nRunbook: \S+#([\w-]+)$", alarm.properties.get("AlarmDescription", ""))
        if found is None or plain(alarm.id) not in listed.get(found[1], ()):
            problems.append(f"{alarm} names no section of the runbook that is about it")
    return problems


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
        if "TURNKEEPER_WORKER_SERVICE" in one.properties.get("Environment", {}).get("Variables", {})
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
    for alarm in deployment.all(ALARM, COMPOSITE):
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
    metrics_of_another_service,
    metrics_that_nobody_watches,
    alarms_that_cloudwatch_refuses,
    boards_that_cloudwatch_cuts,
    alarms_without_a_section,
    wakers_whose_failures_are_not_counted,
    alarms_on_the_age_of_jobs,
    alarms_that_reach_nobody,
    dead_letters_without_an_alarm,
)


def watched(deployment: Deployment, *kinds: str) -> Iterator[Watched]:
    """Every metric of every alarm and every graph."""
    for one in deployment.all(*(kinds or (ALARM, BOARD))):
        yield from _of_alarm(deployment, one) if one.kind == ALARM else _of_dashboard(deployment, one)


def rings(deployment: Deployment) -> Iterator[Resource]:
    """The alarms that somebody hears. Those that only scale the worker have no one to tell."""
    for one in deployment.all(ALARM, COMPOSITE):
        told = [deployment.follow(one.stack, action) for action in one.properties.get("AlarmActions", [])]
        if not told or any(target is not None and target.kind == "AWS::SNS::Topic" for target in told):
            yield one


def plain(id: str) -> str:
    """An id as it was given, without what CDK adds."""
    return re.sub(r"[0-9A-F]{8}$", "", id)


def _of_alarm(deployment: Deployment, alarm: Resource) -> Iterator[Watched]:
    asked = [
        found
        for one in alarm.properties.get("Metrics", [])
        for found in _of_expression(str(alarm), deployment.text(alarm.stack, one.get("Expression", "")))
    ]
    if asked:
        yield from asked
        return
    stats = [one["MetricStat"]["Metric"] for one in alarm.properties.get("Metrics", []) if "MetricStat" in one]
    for metric in stats or [alarm.properties]:
        values = {one["Name"]: one["Value"] for one in metric.get("Dimensions", [])}
        service = values.get("service")
        yield Watched(str(alarm), metric["Namespace"], metric["MetricName"], frozenset(values), service)


def _widgets(deployment: Deployment, dashboard: Resource) -> list[Any]:
    body = json.loads(deployment.text(dashboard.stack, dashboard.properties["DashboardBody"]))
    widgets: list[Any] = body["widgets"]
    return widgets


def _of_dashboard(deployment: Deployment, dashboard: Resource) -> Iterator[Watched]:
    for widget in _widgets(deployment, dashboard):
        where = f"{dashboard} {widget['properties'].get('title')}"
        for row in widget["properties"].get("metrics", []):
            words = [part for part in row if isinstance(part, str)]
            if words:
                values = dict(zip(words[2::2], words[3::2], strict=True))
                yield Watched(where, words[0], words[1], frozenset(values), values.get("service"))
            for expression in _expressions(row):
                yield from _of_expression(where, expression)


def _expressions(row: list[Any]) -> list[str]:
    return [part["expression"] for part in row if isinstance(part, dict) and "expression" in part]


def _lines(widget: Mapping[str, Any]) -> int | None:
    """How many a widget draws at most; ``None`` where a search has no bound. A total is one line."""
    count = 0
    for row in widget["properties"].get("metrics", []):
        for expression in _expressions(row):
            bound = re.match(r"SORT\(SEARCH\(.*\),SUM,DESC,(\d+)\)", expression)
            if "SEARCH(" in expression and bound is None and "SUM(SEARCH(" not in expression:
                return None
            count += int(bound[1]) if bound else 1
        count += not _expressions(row)
    return count


def _of_expression(where: str, expression: str) -> Iterator[Watched]:
    """Of a search, which finds metrics by the names of their dimensions, or of a query over a schema."""
    searched = re.findall(r"""\{([^}]+)\} MetricName="(\w+)\"""", expression)
    asked = re.findall(r"""SELECT \w+\("(\w+)"\) FROM SCHEMA\(([^)]+)\)""", expression)
    for schema, metric in [*searched, *((schema, metric) for metric, schema in asked)]:
        namespace, *dimensions = (part.strip().strip('"') for part in schema.split(","))
        yield Watched(where, namespace, metric, frozenset(dimensions))


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
    told = [one.get("Variables", {}).get("POWERTOOLS_METRICS_NAMESPACE") for one in environments]
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
