"""Metrics of the table, summed over a batch and printed as CloudWatch's embedded metric format, by Powertools."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterable

from aws_lambda_powertools.metrics import EphemeralMetrics, MetricUnit

from turnkeeper.telemetry.metrics import METRICS, Sample

#: Where nobody says which deployment it is.
NAMESPACE = "Turnkeeper"
_UNITS = {"Count": MetricUnit.Count, "Milliseconds": MetricUnit.Milliseconds, "None": MetricUnit.NoUnit}

_Dimensions = tuple[tuple[str, str], ...]


class Emf:
    """What a batch adds up to: counts are summed, of all else each value stays."""

    def __init__(self) -> None:
        self._values: dict[_Dimensions, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))

    def add(self, samples: Iterable[Sample]) -> None:
        for one in samples:
            metric = METRICS[one.metric]
            values = self._values[tuple(zip(metric.dimensions, one.labels, strict=True))][one.metric]
            if metric.unit == "Count" and values:
                values[0] += one.value
            else:
                values.append(one.value)

    def flush(self) -> None:
        """Print it, one line for each set of dimensions; the dimension ``service`` comes from the environment."""
        for dimensions, metrics in self._values.items():
            printed = EphemeralMetrics(namespace=os.environ.get("POWERTOOLS_METRICS_NAMESPACE") or NAMESPACE)
            for name, label in dimensions:
                printed.add_dimension(name, label)
            for name, values in metrics.items():
                for value in values:
                    printed.add_metric(name, _UNITS[METRICS[name].unit], value)
            printed.flush_metrics()
        self._values.clear()
