"""The kit's own metrics, as the stacks name them, and the ways in which one is drawn and watched.

Most are split by agent, and which agents there are is not known when the stacks are made. So a graph finds its lines
by a search, and an alarm asks Metrics Insights for all of them together: CloudWatch refuses an alarm on a search.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import aws_cdk as cdk
from aws_cdk import aws_cloudwatch as cloudwatch

from turnkeeper_infra import names

FIVE_MINUTES: Final = cdk.Duration.minutes(5)

SERVICE: Final = "service"
"""The dimension that the library which prints the metrics adds: who counted."""

METRICS: Final[Mapping[str, tuple[str, ...]]] = {
    **dict.fromkeys(
        (
            *("input_tokens", "output_tokens", "cache_read_input_tokens", "cache_creation_input_tokens"),
            *("steps", "model_calls", "cost_nanousd", "reserved_nanousd"),
            *("turn_duration", "model_time", "tool_time", "kit_time", "queue_wait", "handoff_latency"),
            *("money_waits", "money_wait", "handoffs", "handoffs_sent_again", "leases_taken_over"),
            *("repairs", "compactions", "retries", "flags"),
        ),
        ("agent",),
    ),
    **dict.fromkeys(("spend_nanousd", "turns_set_aside", "traces_exported", "traces_failed"), ()),
    **dict.fromkeys(("score", "checks_failed"), ("agent", "evaluator")),
    "runner_cost_nanousd": ("runner",),
    "deliveries": ("outcome",),
    "turns": ("agent", "reason"),
    "trips": ("kind",),
    "tool_calls": ("outcome",),
    "reservations": ("state",),
    "in_doubt_nanousd": ("state",),
    "provider_errors": ("status",),
}
"""By name: what it is split by, besides `service`. A test holds it against the table in the code that emits them."""

MOST_LINES: Final = 20
"""Lines that a search draws, those with the most first: agents and evaluators come without end, a graph takes 500."""

NANO: Final = 1_000_000_000
"""Of a dollar."""


@dataclass(frozen=True)
class Emitted:
    """The kit's own metrics, of one deployment."""

    deployment: str

    @property
    def namespace(self) -> str:
        return names.metric_namespace(self.deployment)

    def one(
        self,
        metric: str,
        *,
        service: str = "observe",
        statistic: str = "Sum",
        period: cdk.Duration = FIVE_MINUTES,
        label: str | None = None,
        **values: str,
    ) -> cloudwatch.Metric:
        """A single series, by the value of each of its dimensions."""
        assert tuple(values) == METRICS[metric], metric
        return cloudwatch.Metric(
            namespace=self.namespace,
            metric_name=metric,
            dimensions_map={**values, SERVICE: service},
            period=period,
            statistic=statistic,
            label=label,
        )

    def each(
        self, metric: str, statistic: str = "Sum", *, label: str = "", times: str = ""
    ) -> cloudwatch.MathExpression:
        """For graphs: a line for each value of its dimensions. `times` is what is made of it, such as `/1000`."""
        return _drawn(f"SORT({self._search(metric, statistic)},SUM,DESC,{MOST_LINES}){times}", label)

    def total(self, metric: str, *, label: str = "", times: str = "") -> cloudwatch.MathExpression:
        """For graphs: all together, in one line."""
        return _drawn(f"SUM({self._search(metric, 'Sum')}){times}", label)

    def share(self, of: str, among: tuple[str, ...], *, label: str) -> cloudwatch.MathExpression:
        """For graphs: one metric in percent of several, over all agents."""
        whole = "+".join(f"SUM({self._search(one, 'Sum')})" for one in among)
        return _drawn(f"100*SUM({self._search(of, 'Sum')})/({whole})", label)

    def together(
        self, metric: str, function: str = "SUM", *, period: cdk.Duration = FIVE_MINUTES
    ) -> cloudwatch.MathExpression:
        """For alarms: all together, whatever values its dimensions have. Everything is in quotes, since any word may be
        one of the query language's own."""
        labels = ", ".join(f'"{one}"' for one in (self.namespace, *METRICS[metric], SERVICE))
        query = f'SELECT {function}("{metric}") FROM SCHEMA({labels})'  # noqa: S608 - names of ours, and CloudWatch's own language
        return cloudwatch.MathExpression(expression=query, using_metrics={}, label=metric, period=period)

    def _search(self, metric: str, statistic: str) -> str:
        # In quotes, since a deployment's name may have hyphens.
        schema = ",".join((f'"{self.namespace}"', *METRICS[metric], SERVICE))
        return f"""SEARCH('{{{schema}}} MetricName="{metric}"', '{statistic}', 300)"""


def _drawn(expression: str, label: str) -> cloudwatch.MathExpression:
    return cloudwatch.MathExpression(expression=expression, using_metrics={}, label=label, period=FIVE_MINUTES)
