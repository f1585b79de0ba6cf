"""An alarm that a person hears of, through the alert topic, and that says where it stands what to do."""

from __future__ import annotations

from dataclasses import dataclass

from aws_cdk import aws_cloudwatch as cloudwatch
from aws_cdk import aws_cloudwatch_actions as actions
from aws_cdk import aws_sns as sns
from constructs import Construct


@dataclass(frozen=True)
class Heard:
    """Who hears of an alarm, and which page its sections are on."""

    alerts: sns.ITopic
    runbook_url: str

    def described(self, what: str, section: str) -> str:
        return f"{what}\nRunbook: {self.runbook_url}#{section}"


def alarm(
    scope: Construct,
    id: str,
    metric: cloudwatch.IMetric,
    threshold: float,
    what: str,
    *,
    heard: Heard,
    section: str,
    periods: int = 1,
    below: bool = False,
) -> cloudwatch.Alarm:
    """Rings at the threshold and above it, or ``below`` it, where silence counts as nothing at all.

    `section` is the runbook's: the anchor of its heading.
    """
    comparison, missing = cloudwatch.ComparisonOperator, cloudwatch.TreatMissingData
    made = cloudwatch.Alarm(
        scope,
        id,
        metric=metric,
        threshold=threshold,
        evaluation_periods=periods,
        comparison_operator=comparison.LESS_THAN_THRESHOLD if below else comparison.GREATER_THAN_OR_EQUAL_TO_THRESHOLD,
        treat_missing_data=missing.BREACHING if below else missing.NOT_BREACHING,
        alarm_description=heard.described(what, section),
    )
    made.add_alarm_action(actions.SnsAction(heard.alerts))
    return made
