"""Alarms that a person should hear about, and one dashboard to look at when they ring."""

from __future__ import annotations

import aws_cdk as cdk
from aws_cdk import aws_cloudwatch as cloudwatch
from aws_cdk import aws_cloudwatch_actions as actions
from constructs import Construct

from infra.api import ApiStack
from infra.config import Config
from infra.functions import KitFunction
from infra.state import StateStack

_MINUTE = cdk.Duration.minutes(1)
_FIVE_MINUTES = cdk.Duration.minutes(5)


class ObserveStack(cdk.Stack):
    """Cloud only: the emulator has nobody to wake."""

    def __init__(self, scope: Construct, id: str, *, config: Config, state: StateStack, api: ApiStack) -> None:
        super().__init__(scope, id, description="Turnkeeper: alarms and dashboard")
        self._state = state
        functions = {"Turn": api.turn, "FrontDoor": api.front_door, "Observer": api.observer, "Sweep": api.sweep}

        dead_letters = state.dead_letters.metric_approximate_number_of_messages_visible(
            period=_MINUTE, statistic="Maximum"
        )
        # Messages received three times or more drop out of this metric; the dead-letter alarm sees those.
        oldest = state.queue.metric_approximate_age_of_oldest_message(period=_MINUTE, statistic="Maximum")
        self._alarm("JobsSetAside", dead_letters, 1, "Jobs that cannot work: `turnkeeper redrive` after a look")
        self._alarm("JobsWaiting", oldest, 15 * 60, "Jobs wait over 15 minutes: is the worker running?", periods=5)
        for name, function in functions.items():
            self._watch(name, function)
        iterator_age = api.observer.metric("IteratorAge", period=_FIVE_MINUTES, statistic="Maximum")
        self._alarm("ObserverBehind", iterator_age, 10 * 60_000, "The stream's consumer is 10 minutes behind")
        server_errors = api.http_api.metric_server_error(period=_FIVE_MINUTES, statistic="Sum")
        self._alarm("ApiErrors", server_errors, 5, "The API answers with server errors")
        table_throttles = cloudwatch.Metric(
            namespace="AWS/DynamoDB",
            metric_name="ThrottledRequests",
            dimensions_map={"TableName": state.table.table_name},
            period=_FIVE_MINUTES,
            statistic="Sum",
        )
        self._alarm("TableThrottled", table_throttles, 10, "The table throttles: is one key hot?")

        dashboard = cloudwatch.Dashboard(self, "Dashboard", dashboard_name=config.name)
        dashboard.add_widgets(
            _graph("Queue", [state.queue.metric_approximate_number_of_messages_visible(period=_MINUTE), oldest]),
            _graph("Dead letters", [dead_letters]),
            _graph("API", [api.http_api.metric_count(), api.http_api.metric_client_error(), server_errors]),
        )
        dashboard.add_widgets(
            _graph("Errors", [f.metric_errors(label=name) for name, f in functions.items()]),
            _graph("Throttles", [f.metric_throttles(label=name) for name, f in functions.items()]),
            _graph("Duration", [f.metric_duration(label=name, statistic="p95") for name, f in functions.items()]),
        )

    def _watch(self, name: str, function: KitFunction) -> None:
        errors = function.metric_errors(period=_FIVE_MINUTES, statistic="Sum")
        throttles = function.metric_throttles(period=_FIVE_MINUTES, statistic="Sum")
        self._alarm(f"{name}Errors", errors, 3, f"{name} fails outside of what it handles")
        self._alarm(f"{name}Throttled", throttles, 5, f"{name} is throttled: raise its or the account's concurrency")

    def _alarm(self, id: str, metric: cloudwatch.IMetric, threshold: int, what: str, *, periods: int = 1) -> None:
        cloudwatch.Alarm(
            self,
            id,
            metric=metric,
            threshold=threshold,
            evaluation_periods=periods,
            comparison_operator=cloudwatch.ComparisonOperator.GREATER_THAN_OR_EQUAL_TO_THRESHOLD,
            treat_missing_data=cloudwatch.TreatMissingData.NOT_BREACHING,
            alarm_description=what,
        ).add_alarm_action(actions.SnsAction(self._state.alerts))


def _graph(title: str, metrics: list[cloudwatch.IMetric]) -> cloudwatch.GraphWidget:
    return cloudwatch.GraphWidget(title=title, left=metrics, width=8)
