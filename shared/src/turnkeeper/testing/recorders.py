"""Ports that only take note, for tests to look at."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from turnkeeper.core.spans import Trace


@dataclass
class RecordedTurns:
    """A :class:`turnkeeper.ports.Turns`: notes each start, and hands it to ``on_start``."""

    on_start: Callable[[str, str], None] | None = None
    started: list[tuple[str, str]] = field(default_factory=list)

    def start(self, tenant_id: str, session_id: str) -> None:
        self.started.append((tenant_id, session_id))
        if self.on_start:
            self.on_start(tenant_id, session_id)


@dataclass
class RecordedWakes:
    """A :class:`turnkeeper.ports.Wakes`."""

    asked: list[int] = field(default_factory=list)

    def at_least(self, tasks: int) -> None:
        self.asked.append(tasks)


@dataclass
class RecordedTraceQueue:
    """A :class:`turnkeeper.runtime.tracing.TraceQueue`: keeps what is sent, in order."""

    bodies: list[str] = field(default_factory=list)
    put_back: list[tuple[str, int]] = field(default_factory=list)

    def send(self, body: str, *, group: str) -> None:  # noqa: ARG002 - the port's
        self.bodies.append(body)

    def put_off(self, receipt: str, receives: int) -> None:
        self.put_back.append((receipt, receives))


@dataclass
class RecordedTraces:
    """A :class:`turnkeeper.runtime.tracing.TraceReceiver`."""

    traces: list[Trace] = field(default_factory=list)
    #: What it raises instead of taking one.
    away: Exception | None = None

    def send(self, trace: Trace) -> None:
        if self.away is not None:
            raise self.away
        self.traces.append(trace)


@dataclass(frozen=True, slots=True)
class Alert:
    kind: str
    subject: str
    data: Mapping[str, Any]


@dataclass
class RecordedAlerts:
    """A :class:`turnkeeper.ports.Alerts`."""

    alerts: list[Alert] = field(default_factory=list)

    def alert(self, kind: str, subject: str, data: Mapping[str, Any]) -> None:
        self.alerts.append(Alert(kind, subject, dict(data)))
