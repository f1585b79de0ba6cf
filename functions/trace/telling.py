"""Metrics of traces, printed as CloudWatch's embedded metric format."""

from __future__ import annotations

import os
from collections.abc import Mapping

from aws_lambda_powertools.metrics import EphemeralMetrics, MetricUnit

from functions.observe.metering import NAMESPACE

#: Every metric that is emitted, with what it is split by; as in :mod:`functions.observe.metering`.
METRICS: Mapping[str, tuple[str, ...]] = {"traces_exported": (), "traces_failed": ()}


class Telling:
    """What a batch adds up to."""

    def __init__(self) -> None:
        self._counts = dict.fromkeys(METRICS, 0)

    def exported(self) -> None:
        self._counts["traces_exported"] += 1

    def failed(self) -> None:
        self._counts["traces_failed"] += 1

    def flush(self) -> None:
        metrics = EphemeralMetrics(namespace=os.environ.get("POWERTOOLS_METRICS_NAMESPACE") or NAMESPACE)
        for name, count in self._counts.items():
            if count:
                metrics.add_metric(name, MetricUnit.Count, count)
        if any(self._counts.values()):
            metrics.flush_metrics()
