"""Ports that only take note, for tests to look at."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from turnkeeper.core.errors import NotPosted
from turnkeeper.core.inputs import invalid
from turnkeeper.core.spans import Trace
from turnkeeper.ports import Posted


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
    #: How many spans of each it says that it refuses.
    refuses: int = 0

    def send(self, trace: Trace) -> int:
        if self.away is not None:
            raise self.away
        self.traces.append(trace)
        return self.refuses


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


@dataclass
class RecordedBus:
    """A :class:`turnkeeper.ports.Bus`."""

    events: list[dict[str, Any]] = field(default_factory=list)
    #: What it raises instead of taking one.
    away: Exception | None = None

    def put(self, event_type: str, at: datetime, body: str) -> None:  # noqa: ARG002 - the port's
        if self.away is not None:
            raise self.away
        self.events.append(json.loads(body))


@dataclass(frozen=True, slots=True)
class Post:
    url: str
    headers: Mapping[str, str]
    body: bytes


@dataclass
class RecordedWebhooks:
    """A :class:`turnkeeper.ports.Webhooks`: keeps what is posted, and answers what :attr:`answer` says."""

    posts: list[Post] = field(default_factory=list)
    answer: Callable[[str], Posted | NotPosted] = lambda _url: Posted(204, "")

    def check(self, url: str, hosts: Collection[str]) -> None:
        host = url.partition("://")[2].partition("/")[0]
        if not url.startswith("https://") or host not in hosts:
            raise invalid(f"the plan's webhook_hosts do not name {host}", "webhook", "not named")

    def post(self, url: str, headers: Mapping[str, str], body: bytes, *, timeout_seconds: float) -> Posted:  # noqa: ARG002
        self.posts.append(Post(url, dict(headers), body))
        answer = self.answer(url)
        if isinstance(answer, NotPosted):
            raise answer
        return answer


@dataclass
class RecordedReplies:
    """A :class:`turnkeeper.ports.Replies` with one queue, ``results``."""

    sent: list[dict[str, Any]] = field(default_factory=list)
    names: Collection[str] = ("results",)
    #: What it raises instead of taking one.
    away: Exception | None = None

    def send(self, name: str, body: str, *, group: str, message_id: str) -> None:  # noqa: ARG002 - the port's
        if self.away is not None:
            raise self.away
        self.sent.append(json.loads(body))
