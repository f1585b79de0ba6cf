"""Alarms on money, and the one that says that it is being burnt (docs/decisions/0113)."""

from __future__ import annotations

from typing import Final

import aws_cdk as cdk
from aws_cdk import aws_cloudwatch as cloudwatch
from aws_cdk import aws_cloudwatch_actions as actions
from constructs import Construct

from turnkeeper_infra.alarms import Heard, alarm
from turnkeeper_infra.watching.emitted import NANO, SERVICE, Emitted

SECTION: Final = "money"

_HOUR: Final = cdk.Duration.hours(1)
_QUARTER: Final = cdk.Duration.minutes(15)

BAND: Final = 3
"""Standard deviations around what this hour of the week usually costs."""

TRIPS: Final = 20
"""In a quarter of an hour. Single trips are caps and breakers at work; each of them is an alert of its own."""

IN_DOUBT_USD: Final = 1
"""In an hour. The kit books what is in doubt as spent, so nothing is owed; a human holds it against the bill."""

MONEY_WAITS: Final = 50
"""Calls in a quarter of an hour that waited for money that others had reserved."""


class MoneyAlarms:
    """`all`: what was made in `scope`, the one to be woken by first."""

    def __init__(self, scope: Construct, *, emitted: Emitted, heard: Heard, usd_per_hour: float) -> None:
        self._scope = scope
        self._emitted = emitted
        self._heard = heard
        high = self._high(usd_per_hour)
        unusual = self._unusual()
        trips = self._alarm(
            "TripsMany",
            emitted.together("trips", period=_QUARTER),
            TRIPS,
            f"{TRIPS} caps and breakers tripped in 15 minutes: runaways, or caps that are too low",
        )
        in_doubt = self._alarm(
            "MoneyInDoubt",
            emitted.one("in_doubt_nanousd", state="in_doubt", period=_HOUR),
            IN_DOUBT_USD * NANO,
            f"{IN_DOUBT_USD} USD in an hour (in nano-dollars here) went to model calls whose answer was lost",
        )
        contended = self._alarm(
            "MoneyContended",
            emitted.together("money_waits", period=_QUARTER),
            MONEY_WAITS,
            f"{MONEY_WAITS} model calls in 15 minutes waited for money that other calls had reserved",
        )
        burning = self._burning(high, unusual, trips, in_doubt)
        self.all: tuple[cloudwatch.IAlarm, ...] = (burning, high, unusual, trips, in_doubt, contended)

    def _high(self, usd_per_hour: float) -> cloudwatch.Alarm:
        spent = self._emitted.one("spend_nanousd", period=_QUARTER)
        rate = cloudwatch.MathExpression(
            expression=f"spent*4/{NANO}", using_metrics={"spent": spent}, label="USD an hour", period=_QUARTER
        )
        return self._alarm(
            "SpendHigh",
            rate,
            usd_per_hour,
            f"For 15 minutes spending ran at {usd_per_hour:g} USD an hour or more (spend_alarm_usd_per_hour)",
        )

    def _unusual(self) -> cloudwatch.Alarm:
        """Out of the band in which the spending of such an hour usually is, upwards."""
        spent = self._emitted.one("spend_nanousd", period=_HOUR)
        # Made by a resource: one that the alarm brings along by itself stays when the stack goes.
        detector = cloudwatch.CfnAnomalyDetector(
            self._scope,
            "UsualSpend",
            namespace=spent.namespace,
            metric_name=spent.metric_name,
            stat="Sum",
            dimensions=[cloudwatch.CfnAnomalyDetector.DimensionProperty(name=SERVICE, value="observe")],
        )
        what = f"More was spent in an hour than such an hour usually costs ({BAND} standard deviations)"
        made = cloudwatch.AnomalyDetectionAlarm(
            self._scope,
            "SpendUnusual",
            metric=spent,
            std_devs=BAND,
            evaluation_periods=1,
            comparison_operator=cloudwatch.ComparisonOperator.GREATER_THAN_UPPER_THRESHOLD,
            treat_missing_data=cloudwatch.TreatMissingData.NOT_BREACHING,
            alarm_description=self._heard.described(what, SECTION),
        )
        made.node.add_dependency(detector)
        made.add_alarm_action(actions.SnsAction(self._heard.alerts))
        return made

    def _burning(
        self, high: cloudwatch.IAlarm, unusual: cloudwatch.IAlarm, trips: cloudwatch.IAlarm, in_doubt: cloudwatch.IAlarm
    ) -> cloudwatch.CompositeAlarm:
        """Either the rate that the operator chose is passed, or the hour is unusual and something besides says that it
        is not just a busy one. Trips alone are money that was kept, and a busy Monday alone is business."""
        rule, state = cloudwatch.AlarmRule, cloudwatch.AlarmState.ALARM
        fires = [rule.from_alarm(one, state) for one in (high, unusual, trips, in_doubt)]
        what = "Money is being burnt: the rate is passed, or an unusual hour with trips or calls in doubt"
        made = cloudwatch.CompositeAlarm(
            self._scope,
            "MoneyBurning",
            alarm_rule=rule.any_of(fires[0], rule.all_of(fires[1], rule.any_of(fires[2], fires[3]))),
            alarm_description=self._heard.described(what, SECTION),
        )
        made.add_alarm_action(actions.SnsAction(self._heard.alerts))
        return made

    def _alarm(self, id: str, metric: cloudwatch.IMetric, threshold: float, what: str) -> cloudwatch.Alarm:
        return alarm(self._scope, id, metric, threshold, what, heard=self._heard, section=SECTION)
