"""Metrics of what lands in the table, summed over a batch and printed as CloudWatch's embedded metric format.

Everything is told from how a head changed, so that a change that is seen twice is the only way to count twice. Money is
in nano-dollars, as everywhere. Tenants and tools are no dimensions: their names come from outside, without end.
"""

from __future__ import annotations

import json
import os
from collections import defaultdict
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from aws_lambda_powertools.metrics import EphemeralMetrics, MetricUnit

from functions.observe.records import Changed
from turnkeeper.core.session import RESTING
from turnkeeper.core.usage import Usage

#: Where nobody says which deployment it is.
NAMESPACE = "Turnkeeper"

#: Every metric that is emitted, with what it is split by. All have the dimension ``service`` besides, as the library
#: that prints them adds it.
METRICS: Mapping[str, tuple[str, ...]] = {
    **dict.fromkeys(Usage.model_fields, ("agent",)),
    "steps": ("agent",),
    "cost_nanousd": ("agent",),
    "model_calls": ("agent",),
    "handoffs": ("agent",),
    "handoffs_sent_again": ("agent",),
    "leases_taken_over": ("agent",),
    "turns": ("agent", "reason"),
    "turn_duration": ("agent",),
    "tool_calls": ("outcome",),
    "reservations": ("state",),
    "in_doubt_nanousd": ("state",),
}

Dimensions = tuple[tuple[str, str], ...]


class Tally:
    """What a batch adds up to."""

    def __init__(self) -> None:
        self.counts: dict[Dimensions, dict[str, int]] = defaultdict(lambda: defaultdict(int))
        self.times: dict[Dimensions, dict[str, list[int]]] = defaultdict(lambda: defaultdict(list))

    def see(self, change: Changed) -> None:
        if change.sk == "HEAD" and change.old is not None:
            self._head(change.old, change.new)
        elif change.sk.startswith("CALL#") and change.old is not None:
            self._call(change.old, change.new)
        elif change.sk.startswith("AUDIT#") and change.inserted and change.new.get("kind") == "tool_call":
            self._count("tool_calls", outcome=str(change.new.get("outcome")))

    def _head(self, old: Mapping[str, Any], new: Mapping[str, Any]) -> None:
        agent = str(new["agent"])
        before, after = Usage.model_validate_json(old["usage"]), Usage.model_validate_json(new["usage"])
        for name in Usage.model_fields:
            self._count(name, getattr(after, name) - getattr(before, name), agent=agent)
        for name, metric in (("steps", "steps"), ("cost_nanousd", "cost_nanousd"), ("calls", "model_calls")):
            self._count(metric, int(new[name]) - int(old[name]), agent=agent)
        if "handoff" in new and "handoff" not in old:
            # From a runner that lives; taken from a dead one; or a new turn on its way to its first.
            if old.get("lease_owner") is not None:
                self._count("handoffs", agent=agent)
        elif "handoff" in new and _sends(new) > _sends(old):
            self._count("handoffs_sent_again", agent=agent)
        if old.get("lease_owner") is not None and int(new["fencing_token"]) > int(old["fencing_token"]):
            self._count("leases_taken_over", agent=agent)
        if old["status"] not in RESTING and new["status"] in RESTING and new["status"] != "erased":
            stop = json.loads(new["stop"]) if "stop" in new else {}
            self._count("turns", agent=agent, reason=str(stop.get("reason")))
            seconds = _moment(new["updated_at"]) - _moment(new["turn_started_at"])
            self.times[_dimensions("turn_duration", agent=agent)]["turn_duration"].append(max(0, round(seconds * 1000)))

    def _call(self, old: Mapping[str, Any], new: Mapping[str, Any]) -> None:
        if old.get("state") != "pending" or new.get("state") == "pending":
            return
        self._count("reservations", state=str(new.get("state")))
        if new.get("state") == "in_doubt":
            self._count("in_doubt_nanousd", int(new.get("spent_nanousd", 0)), state="in_doubt")

    def _count(self, name: str, by: int = 1, **dimensions: str) -> None:
        if by > 0:
            self.counts[_dimensions(name, **dimensions)][name] += by

    def flush(self) -> None:
        """Print what was counted, one line for each set of dimensions."""
        for dimensions in self.counts.keys() | self.times.keys():
            metrics = EphemeralMetrics(namespace=os.environ.get("POWERTOOLS_METRICS_NAMESPACE") or NAMESPACE)
            for name, value in dimensions:
                metrics.add_dimension(name, value)
            for name, count in self.counts.get(dimensions, {}).items():
                metrics.add_metric(name, MetricUnit.Count, count)
            for name, millis in self.times.get(dimensions, {}).items():
                for one in millis:
                    metrics.add_metric(name, MetricUnit.Milliseconds, one)
            metrics.flush_metrics()
        self.counts.clear()
        self.times.clear()


def _dimensions(metric: str, **values: str) -> Dimensions:
    return tuple((name, values[name]) for name in METRICS[metric])


def _sends(head: Mapping[str, Any]) -> int:
    return int(json.loads(head["handoff"])["sends"]) if "handoff" in head else 0


def _moment(at: str) -> float:
    return datetime.fromisoformat(at).timestamp()
