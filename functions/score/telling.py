"""Metrics of scores, printed as CloudWatch's embedded metric format. Reasons are no part of them: they quote users."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterable, Mapping

from aws_lambda_powertools.metrics import EphemeralMetrics, MetricUnit

from functions.observe.metering import NAMESPACE
from turnkeeper.core.scoring import Score

#: Every metric that is emitted, with what it is split by; as in :mod:`functions.observe.metering`.
METRICS: Mapping[str, tuple[str, ...]] = {
    "score": ("agent", "evaluator"),
    "checks_failed": ("agent", "evaluator"),
    "turns_set_aside": (),
}


class Telling:
    """What a batch adds up to."""

    def __init__(self) -> None:
        self._values: dict[tuple[str, str], list[float]] = defaultdict(list)
        self._failed: dict[tuple[str, str], int] = defaultdict(int)
        self._aside = 0

    def scored(self, agent: str, scores: Iterable[Score]) -> None:
        for score in scores:
            self._values[agent, score.name].append(score.value)
            self._failed[agent, score.name] += score.passed is False

    def set_aside(self) -> None:
        self._aside += 1

    def flush(self) -> None:
        for (agent, score), values in self._values.items():
            metrics = _metrics()
            for dimension, value in zip(METRICS["score"], (agent, score), strict=True):
                metrics.add_dimension(dimension, value)
            for one in values:
                metrics.add_metric("score", MetricUnit.NoUnit, one)
            metrics.add_metric("checks_failed", MetricUnit.Count, self._failed[agent, score])
            metrics.flush_metrics()
        if self._aside:
            metrics = _metrics()
            metrics.add_metric("turns_set_aside", MetricUnit.Count, self._aside)
            metrics.flush_metrics()


def _metrics() -> EphemeralMetrics:
    return EphemeralMetrics(namespace=os.environ.get("POWERTOOLS_METRICS_NAMESPACE") or NAMESPACE)
