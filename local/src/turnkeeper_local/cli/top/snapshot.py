"""What a kit is doing at one moment."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from turnkeeper.core.lost_runners import OpenCall, runner_id
from turnkeeper.core.money import format_usd
from turnkeeper.core.session import Head

Document = dict[str, Any]

#: Over which spend and trips are looked at.
WINDOW_SECONDS = 300


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A session that runs, or is on its way to a runner."""

    session_id: str
    tenant_id: str
    user_id: str
    agent: str
    status: str
    turn: int
    #: Model calls of this turn.
    step: int
    runner: str | None
    #: When the turn began.
    since: str
    cost_nanousd: int
    doing: str
    doing_since: str | None

    def document(self) -> Document:
        fields = {name: getattr(self, name) for name in self.__slots__ if name != "cost_nanousd"}
        return {**fields, "cost_usd": format_usd(self.cost_nanousd)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    at: str
    #: ``None``: all tenants.
    tenant_id: str | None
    #: How many there are of each status, and those that are looked at more closely, longest first.
    running: int
    queued: int
    sessions: Sequence[Row] = ()
    #: Sessions by the runner that has them.
    runners: Counter[str] = field(default_factory=Counter)
    #: Worker processes that are up; ``None`` where nobody can tell.
    workers: int | None = None
    #: ``None`` before it is known: of one tenant, by its counter, which is looked at twice for it.
    spend_per_minute_nanousd: int | None = None
    #: Turns that a cap, a breaker or a fault ended within the window, by stop reason.
    trips: Counter[str] = field(default_factory=Counter)
    #: ``queue``, ``in_flight``, ``dead_letters``: of all tenants.
    queues: dict[str, int] = field(default_factory=dict)

    def document(self) -> Document:
        spend = self.spend_per_minute_nanousd
        return {
            "at": self.at,
            "tenant_id": self.tenant_id,
            "running": self.running,
            "queued": self.queued,
            "spend_per_minute_usd": None if spend is None else format_usd(spend),
            "trips": dict(self.trips),
            "window_seconds": WINDOW_SECONDS,
            **self.queues,
            "workers": self.workers,
            "runners": dict(self.runners),
            "sessions": [row.document() for row in self.sessions],
        }


def row_of(head: Head, open_calls: Sequence[OpenCall]) -> Row:
    """A session as its head says, and the tool calls that no entry answers yet."""
    doing, since = _doing(head, open_calls)
    return Row(
        session_id=head.session_id,
        tenant_id=head.tenant_id,
        user_id=head.user_id,
        agent=head.agent,
        status=head.status,
        turn=head.turn.number,
        step=head.turn.iterations,
        runner=runner_of(head),
        since=head.turn.started_at,
        cost_nanousd=head.account.cost_nanousd,
        doing=doing,
        doing_since=since,
    )


def runner_of(head: Head) -> str | None:
    return f"{head.runner} {runner_id(head.lease.owner)}" if head.lease.owner else None


def _doing(head: Head, open_calls: Sequence[OpenCall]) -> tuple[str, str | None]:
    pending, handoff = head.account.pending, head.handoff
    if handoff is not None:
        to = "the worker" if handoff.to == "queue" else "the turn Lambda"
        waits = "waits for money in flight, then " if head.turn.put_backs else ""
        return f"{waits}on its way to {to}", handoff.at
    if pending is not None:
        return f"model call {pending.call}, {pending.model}", pending.at
    if open_calls:
        names = Counter(call.tool for call in open_calls)
        tools = ", ".join(name if times == 1 else f"{name} x{times}" for name, times in names.items())
        return f"tool {tools}", head.updated_at
    if head.turn.attempts:
        return f"tries the model again, {head.turn.attempts} failed", head.updated_at
    return "prepares its next call, or waits for money", head.updated_at
