"""What one worker counts, in the format that Prometheus reads: the metrics of what it wrote itself, and how it is.

The same samples as the observer's, of one process; over all workers, the front door and the sweep there is CloudWatch.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from fargate_worker.worker import Worker
from turnkeeper.core.lifecycle.change import Change
from turnkeeper.core.session import Head
from turnkeeper.telemetry.measuring import of_change
from turnkeeper.telemetry.metrics import METRICS

logger = logging.getLogger(__name__)

PREFIX: Final = "turnkeeper"
#: From a quick tool to a turn that is at its deadline.
_SECONDS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 900, 3_600)


class Page:
    """Counts in a registry of its own, beside whatever else the process registers."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        rows = [row for row in METRICS.values() if row.by == "observe"]
        self._counters = {
            row.name: Counter(f"{PREFIX}_{row.name}", row.about, row.dimensions, registry=self.registry)
            for row in rows
            if row.unit == "Count"
        }
        self._times = {
            row.name: Histogram(
                f"{PREFIX}_{row.name}_seconds", row.about, row.dimensions, registry=self.registry, buckets=_SECONDS
            )
            for row in rows
            if row.unit == "Milliseconds"
        }

    def see(self, before: Head, after: Head, change: Change | None) -> None:
        """Count a write of this process. Never raises: it is called where the write is done."""
        try:
            for one in of_change(before, after, change):
                if one.metric in self._counters:
                    counter = self._counters[one.metric]
                    (counter.labels(*one.labels) if one.labels else counter).inc(one.value)
                else:
                    self._times[one.metric].labels(*one.labels).observe(one.value / 1000)
        except Exception:
            logger.exception("a write could not be counted")

    def watch(self, worker: Worker) -> None:
        """Serve how this worker is, as it is when it is asked."""
        self.registry.register(_Gauges(worker))

    def text(self) -> bytes:
        return generate_latest(self.registry)


class _Gauges(Collector):
    def __init__(self, worker: Worker) -> None:
        self._worker = worker

    def collect(self) -> Iterator[Metric]:
        worker = self._worker
        gauges = {
            "sessions_held": ("Sessions that run here now.", worker.running()),
            "slots": ("Sessions that may run here at once.", worker.options.concurrency),
            "sessions_followed": ("Messages kept for a session that another runner has.", len(worker.followers)),
            "draining": ("1 while it takes no more and hands on what runs.", int(worker.draining)),
            "queue_receive_age_seconds": (
                "Since it last began to receive from the queue; nothing is expected while draining.",
                worker.quiet_seconds(),
            ),
        }
        for name, (about, value) in gauges.items():
            yield GaugeMetricFamily(f"{PREFIX}_worker_{name}", about, value=value)
