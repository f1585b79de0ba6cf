"""An alarm that a person hears of, through the alert topic."""

from __future__ import annotations

from aws_cdk import aws_cloudwatch as cloudwatch
from aws_cdk import aws_cloudwatch_actions as actions
from aws_cdk import aws_sns as sns
from constructs import Construct


def alarm(
    scope: Construct,
    id: str,
    metric: cloudwatch.IMetric,
    threshold: int,
    what: str,
    *,
    alerts: sns.ITopic,
    periods: int = 1,
    below: bool = False,
) -> cloudwatch.Alarm:
    """Rings at the threshold and above it, or ``below`` it, where silence counts as nothing at all."""
    comparison, missing = cloudwatch.ComparisonOperator, cloudwatch.TreatMissingData
    made = cloudwatch.Alarm(
        scope,
        id,
        metric=metric,
        threshold=threshold,
        evaluation_periods=periods,
        comparison_operator=comparison.LESS_THAN_THRESHOLD if below else comparison.GREATER_THAN_OR_EQUAL_TO_THRESHOLD,
        treat_missing_data=missing.BREACHING if below else missing.NOT_BREACHING,
        alarm_description=what,
    )
    made.add_alarm_action(actions.SnsAction(alerts))
    return made
