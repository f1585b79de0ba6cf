"""What a person should hear about, and one dashboard to look at when they do.

CloudWatch takes an alarm on a metric that nobody publishes, and the alarm then waits for ever:
`tests/infra/test_alarms.py` holds each metric here against what AWS documents and what the kit emits.
"""

from __future__ import annotations

from collections.abc import Mapping

import aws_cdk as cdk
from aws_cdk import aws_cloudwatch as cloudwatch
from constructs import Construct

from turnkeeper_infra import names
from turnkeeper_infra.alarms import alarm
from turnkeeper_infra.api import ApiStack
from turnkeeper_infra.config import Config
from turnkeeper_infra.state import StateStack

_MINUTE = cdk.Duration.minutes(1)
_FIVE_MINUTES = cdk.Duration.minutes(5)
_JOBS_WAIT_MINUTES = 15


class ObserveStack(cdk.Stack):
    """Cloud only: the emulator has nobody to wake."""

    def __init__(self, scope: Construct, id: str, *, config: Config, state: StateStack, api: ApiStack) -> None:
        super().__init__(scope, id, description="Turnkeeper: alarms and dashboard")
        self._state = state
        self._api = api
        self._functions = {"Turn": api.turn, "FrontDoor": api.front_door, "Observer": api.observer}
        self._functions |= {"Scorer": api.scorer, "Sweep": api.sweep}
        self._watch_queue()
        self._watch_wakes(config.name)
        self._watch_functions()
        self._watch_streams(config.name)
        self._watch_table()
        self._server_errors = api.http_api.metric_server_error(period=_FIVE_MINUTES, statistic="Sum")
        self._alarm("ApiErrors", self._server_errors, 5, "The API answers with server errors")
        self._dashboard(config.name)

    def _watch_queue(self) -> None:
        self._dead_letters = self._state.dead_letters.metric_approximate_number_of_messages_visible(
            period=_MINUTE, statistic="Maximum"
        )
        self._alarm("JobsSetAside", self._dead_letters, 1, "Jobs that cannot work: `turnkeeper redrive` after a look")
        # Not the age of the oldest message: a job stays on the queue while it is worked on, for hours if it has to.
        self._waiting = self._state.queue.metric_approximate_number_of_messages_visible(
            period=_MINUTE, statistic="Minimum"
        )
        what = f"For {_JOBS_WAIT_MINUTES} minutes there were always jobs that nobody took: does the worker run?"
        self._alarm("JobsWaiting", self._waiting, 1, what, periods=_JOBS_WAIT_MINUTES)

    def _watch_wakes(self, name: str) -> None:
        failed = cloudwatch.Metric(
            namespace=names.metric_namespace(name),
            metric_name=names.WAKES_FAILED,
            period=_FIVE_MINUTES,
            statistic="Sum",
        )
        self._alarm("WakesFailed", failed, 3, "ECS cannot be asked for workers: is the service there, and reached?")

    def _watch_functions(self) -> None:
        for name, function in self._functions.items():
            errors = function.metric_errors(period=_FIVE_MINUTES, statistic="Sum")
            throttles = function.metric_throttles(period=_FIVE_MINUTES, statistic="Sum")
            self._alarm(f"{name}Errors", errors, 3, f"{name} fails outside of what it handles")
            self._alarm(
                f"{name}Throttled", throttles, 5, f"{name} is throttled: raise its or the account's concurrency"
            )
        sweeps = self._api.sweep.metric_invocations(period=_FIVE_MINUTES, statistic="Sum")
        self._alarm(
            "SweepStopped",
            sweeps,
            1,
            "No sweep for 10 minutes: dead runners and lost handoffs are not found",
            periods=2,
            below=True,
        )

    def _watch_streams(self, name: str) -> None:
        for id, function, failures, lost in (
            ("Observer", self._api.observer, self._api.observer_failures, "not looked at, nor alerted"),
            ("Scorer", self._api.scorer, self._api.scorer_failures, "not scored"),
        ):
            iterator_age = function.metric("IteratorAge", period=_FIVE_MINUTES, statistic="Maximum")
            self._alarm(f"{id}Behind", iterator_age, 10 * 60_000, f"{id}, which reads the stream, is 10 minutes behind")
            set_aside = failures.metric_approximate_number_of_messages_visible(
                period=_FIVE_MINUTES, statistic="Maximum"
            )
            self._alarm(f"{id}Failures", set_aside, 1, f"Changes that were {lost}: see the queue")
        aside = cloudwatch.Metric(
            namespace=names.metric_namespace(name),
            metric_name="turns_set_aside",
            dimensions_map={"service": "score"},
            period=_FIVE_MINUTES,
            statistic="Sum",
        )
        self._alarm("TurnsSetAside", aside, 1, "Turns that cannot be scored: the scorer's log says why")

    def _watch_table(self) -> None:
        """Throttling is counted for the table and for each index apart; a hot index holds up the table's writes."""
        table = {"TableName": self._state.table.table_name}
        self._alarm("TableReadsThrottled", _throttles("Read", table), 10, "Reads are throttled: is one key hot?")
        self._alarm("TableWritesThrottled", _throttles("Write", table), 10, "Writes are throttled: is one key hot?")
        for index in names.INDEXES:
            throttles = _throttles("Write", {**table, "GlobalSecondaryIndexName": index})
            id = "".join(word.capitalize() for word in index.split("_"))
            self._alarm(f"{id}IndexThrottled", throttles, 10, f"The index {index} holds up writes: is one key hot?")

    def _dashboard(self, name: str) -> None:
        api, functions = self._api.http_api, self._functions.items()
        # An account's dashboards are those of all of its regions: a second region needs another name.
        dashboard = cloudwatch.Dashboard(self, "Dashboard", dashboard_name=f"{name}-{cdk.Aws.REGION}")
        dashboard.add_widgets(
            _graph("Turns", [_of_the_kit(name, "turns", "agent", "reason")]),
            _graph("Cost in nano-dollars", [_of_the_kit(name, "cost_nanousd", "agent")]),
            _graph("Handoffs", [_of_the_kit(name, metric, "agent") for metric in ("handoffs", "leases_taken_over")]),
        )
        dashboard.add_widgets(
            _graph("Scores", [_of_the_kit(name, "score", "agent", "evaluator", statistic="Average")]),
            _graph("Checks failed", [_of_the_kit(name, "checks_failed", "agent", "evaluator")]),
        )
        dashboard.add_widgets(
            _graph("Queue", [self._waiting]),
            _graph("Dead letters", [self._dead_letters]),
            _graph("API", [api.metric_count(), api.metric_client_error(), self._server_errors]),
        )
        dashboard.add_widgets(
            _graph("Errors", [f.metric_errors(label=name) for name, f in functions]),
            _graph("Throttles", [f.metric_throttles(label=name) for name, f in functions]),
            _graph("Duration", [f.metric_duration(label=name, statistic="p95") for name, f in functions]),
        )

    def _alarm(
        self, id: str, metric: cloudwatch.IMetric, threshold: int, what: str, *, periods: int = 1, below: bool = False
    ) -> None:
        alarm(self, id, metric, threshold, what, alerts=self._state.alerts, periods=periods, below=below)


def _throttles(kind: str, dimensions: Mapping[str, str]) -> cloudwatch.Metric:
    return cloudwatch.Metric(
        namespace="AWS/DynamoDB",
        metric_name=f"{kind}ThrottleEvents",
        dimensions_map=dict(dimensions),
        period=_FIVE_MINUTES,
        statistic="Sum",
    )


def _of_the_kit(deployment: str, metric: str, *dimensions: str, statistic: str = "Sum") -> cloudwatch.MathExpression:
    """A metric that `functions.observe` or `functions.score` emits, one line for each
    agent (and whatever else it is split by)."""
    # In quotes, since a deployment's name may have hyphens.
    schema = ",".join((f'"{names.metric_namespace(deployment)}"', *dimensions, "service"))
    search = f"""SEARCH('{{{schema}}} MetricName="{metric}"', '{statistic}', 300)"""
    return cloudwatch.MathExpression(expression=search, using_metrics={}, label="", period=_FIVE_MINUTES)


def _graph(title: str, metrics: list[cloudwatch.IMetric]) -> cloudwatch.GraphWidget:
    return cloudwatch.GraphWidget(title=title, left=metrics, width=8)
