"""What a person should hear about, and one dashboard to look at when they do.

The parts stand in :mod:`turnkeeper_infra.watching`; here they are given the stacks that they watch.
"""

from __future__ import annotations

from collections.abc import Mapping

import aws_cdk as cdk
from aws_cdk import aws_cloudwatch as cloudwatch
from constructs import Construct

from turnkeeper_infra import names
from turnkeeper_infra.alarms import Heard, alarm
from turnkeeper_infra.api import ApiStack
from turnkeeper_infra.config import Config
from turnkeeper_infra.state import StateStack
from turnkeeper_infra.watching import board, quality
from turnkeeper_infra.watching.emitted import Emitted
from turnkeeper_infra.watching.money import MoneyAlarms

_MINUTE = cdk.Duration.minutes(1)
_FIVE_MINUTES = cdk.Duration.minutes(5)
_JOBS_WAIT_MINUTES = 15


class ObserveStack(cdk.Stack):
    """Cloud only: the emulator has nobody to wake."""

    def __init__(self, scope: Construct, id: str, *, config: Config, state: StateStack, api: ApiStack) -> None:
        super().__init__(scope, id, description="Turnkeeper: alarms and dashboard")
        self._state = state
        self._api = api
        self._heard = Heard(state.alerts, config.runbook_url)
        self._emitted = Emitted(config.name)
        self._functions = {"Turn": api.turn, "FrontDoor": api.front_door, "Observer": api.observer}
        self._functions |= {"Scorer": api.scorer, "Sweep": api.sweep}
        money = MoneyAlarms(
            self, emitted=self._emitted, heard=self._heard, usd_per_hour=config.spend_alarm_usd_per_hour
        )
        self._alarms = list(money.all)
        quality.watch_turns(self._ring, self._emitted)
        self._watch_queue(config.name)
        self._watch_wakes(config.name)
        self._watch_functions()
        self._watch_streams()
        self._watch_traces()
        self._watch_hooks()
        self._watch_table()
        self._server_errors = api.http_api.metric_server_error(period=_FIVE_MINUTES, statistic="Sum")
        self._ring("ApiErrors", self._server_errors, 5, "The API answers with server errors", section="functions")
        self._draw(config)

    def _watch_queue(self, name: str) -> None:
        self._dead_letters = self._state.dead_letters.metric_approximate_number_of_messages_visible(
            period=_MINUTE, statistic="Maximum"
        )
        what, section = "Jobs that cannot work: `turnkeeper redrive` after a look", "queue-and-worker"
        self._ring("JobsSetAside", self._dead_letters, 1, what, section=section)
        # Not the age of the oldest message: a job stays on the queue while it is worked on, for hours if it has to.
        self._waiting = self._state.queue.metric_approximate_number_of_messages_visible(
            period=_MINUTE, statistic="Minimum"
        )
        what = f"For {_JOBS_WAIT_MINUTES} minutes there were always jobs that nobody took: does the worker run?"
        self._ring("JobsWaiting", self._waiting, 1, what, section=section, periods=_JOBS_WAIT_MINUTES)
        quality.watch_worker(self._ring, self._waiting, name)

    def _watch_wakes(self, name: str) -> None:
        self._wakes_failed = cloudwatch.Metric(
            namespace=names.metric_namespace(name),
            metric_name=names.WAKES_FAILED,
            period=_FIVE_MINUTES,
            statistic="Sum",
        )
        what = "ECS cannot be asked for workers: is the service there, and reached?"
        self._ring("WakesFailed", self._wakes_failed, 3, what, section="queue-and-worker")

    def _watch_functions(self) -> None:
        for name, function in self._functions.items():
            errors = function.metric_errors(period=_FIVE_MINUTES, statistic="Sum")
            throttles = function.metric_throttles(period=_FIVE_MINUTES, statistic="Sum")
            what = f"{name} fails outside of what it handles"
            self._ring(f"{name}Errors", errors, 3, what, section="functions")
            what = f"{name} is throttled: raise its or the account's concurrency"
            self._ring(f"{name}Throttled", throttles, 5, what, section="functions")
        sweeps = self._api.sweep.metric_invocations(period=_FIVE_MINUTES, statistic="Sum")
        what = "No sweep for 10 minutes: dead runners and lost handoffs are not found"
        self._ring("SweepStopped", sweeps, 1, what, section="functions", periods=2, below=True)

    def _watch_streams(self) -> None:
        section = "streams-and-scores"
        self._behind = []
        for id, function, failures, lost in (
            ("Observer", self._api.observer, self._api.observer_failures, "not looked at, nor alerted"),
            ("Scorer", self._api.scorer, self._api.scorer_failures, "not scored"),
        ):
            iterator_age = function.metric("IteratorAge", period=_FIVE_MINUTES, statistic="Maximum", label=id)
            self._behind.append(iterator_age)
            what = f"{id}, which reads the stream, is 10 minutes behind"
            self._ring(f"{id}Behind", iterator_age, 10 * 60_000, what, section=section)
            set_aside = failures.metric_approximate_number_of_messages_visible(
                period=_FIVE_MINUTES, statistic="Maximum"
            )
            self._ring(f"{id}Failures", set_aside, 1, f"Changes that were {lost}: see the queue", section=section)
        aside = self._emitted.one("turns_set_aside", service="score")
        what = "Turns that cannot be scored: the scorer's log says why"
        self._ring("TurnsSetAside", aside, 1, what, section=section)

    def _watch_traces(self) -> None:
        if self._api.traces is None:
            return
        failed = self._emitted.one("traces_failed", service="trace")
        what = "For 15 minutes traces could not be sent: is the receiver there, and does it let us in?"
        self._ring("TracesFailed", failed, 1, what, section="traces", periods=3)

    def _watch_hooks(self) -> None:
        dead = self._emitted.one("deliveries", service="deliver", outcome="dead")
        what = "Word of turns that was not taken for a day, or by a receiver that is gone: `turnkeeper hooks list`"
        self._ring("DeliveriesDead", dead, 1, what, section="webhooks")

    def _watch_table(self) -> None:
        """Throttling is counted for the table and for each index apart; a hot index holds up the table's writes."""
        table = {"TableName": self._state.table.table_name}
        self._throttles = []
        for kind in ("Read", "Write"):
            throttles = _throttles(kind, table)
            self._throttles.append(throttles)
            what = f"{kind}s of the table are throttled: is one key hot?"
            self._ring(f"Table{kind}sThrottled", throttles, 10, what, section="table")
        for index in names.INDEXES:
            throttles = _throttles("Write", {**table, "GlobalSecondaryIndexName": index})
            id = "".join(word.capitalize() for word in index.split("_"))
            what = f"The index {index} holds up writes: is one key hot?"
            self._ring(f"{id}IndexThrottled", throttles, 10, what, section="table")

    def _draw(self, config: Config) -> None:
        # An account's dashboards are those of all of its regions: a second region needs another name.
        # What is spent in five minutes is drawn as a rate: a longer period would make more of it.
        inherit = cloudwatch.PeriodOverride.INHERIT
        dashboard = cloudwatch.Dashboard(
            self,
            "Dashboard",
            dashboard_name=f"{config.name}-{cdk.Aws.REGION}",
            default_interval=cdk.Duration.hours(6),
            period_override=inherit,
        )
        board.draw(
            dashboard,
            board.sections(self._emitted, self._machines(config.name)),
            alarms=self._alarms,
            log_group=self._api.observer.log_group.log_group_name,
            runbook_url=config.runbook_url,
        )

    def _machines(self, name: str) -> board.Machines:
        api, functions = self._api.http_api, self._functions.items()
        in_hand = self._state.queue.metric_approximate_number_of_messages_not_visible(statistic="Maximum")
        load = [(one, f"{one}Utilization") for one in ("CPU", "Memory")]
        return board.Machines(
            api=[api.metric_count(), api.metric_client_error(), self._server_errors],
            queue=[self._waiting, in_hand],
            dead_letters=[self._dead_letters],
            tasks=[quality.tasks(name)],
            worker_load=[quality.of_the_worker(name, metric, "Maximum", label=one) for one, metric in load],
            errors=[f.metric_errors(label=name) for name, f in functions],
            throttles=[f.metric_throttles(label=name) for name, f in functions],
            durations=[f.metric_duration(label=name, statistic="p95") for name, f in functions],
            concurrency=[
                f.metric("ConcurrentExecutions", label=name, statistic="Maximum", period=_MINUTE)
                for name, f in functions
            ],
            streams=self._behind,
            table=self._throttles,
            wakes_failed=self._wakes_failed,
        )

    def _ring(
        self,
        id: str,
        metric: cloudwatch.IMetric,
        threshold: float,
        what: str,
        *,
        section: str,
        periods: int = 1,
        below: bool = False,
    ) -> None:
        made = alarm(
            self, id, metric, threshold, what, heard=self._heard, section=section, periods=periods, below=below
        )
        self._alarms.append(made)


def _throttles(kind: str, dimensions: Mapping[str, str]) -> cloudwatch.Metric:
    return cloudwatch.Metric(
        namespace="AWS/DynamoDB",
        metric_name=f"{kind}ThrottleEvents",
        dimensions_map=dict(dimensions),
        period=_FIVE_MINUTES,
        statistic="Sum",
    )
