"""What a change of a session says in metrics: a pure function of what was and what is, whoever looks.

The observer looks at the table's stream, a worker at its own writes; both count the same, and a change that is seen
twice is the only way to count twice. What is counted over a turn stands in the head: see
:class:`turnkeeper.core.session.Tally`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any, Final, get_args

from turnkeeper.core.ledger import Resolution
from turnkeeper.core.lifecycle.change import Change
from turnkeeper.core.scopes import SCOPES
from turnkeeper.core.session import Head, Stop, Tally
from turnkeeper.core.stops import STOPS
from turnkeeper.core.tools import Outcome
from turnkeeper.core.usage import Usage
from turnkeeper.telemetry.metrics import Sample, sample

#: In the place of a value that a dimension does not have, as a later version may write one.
OTHER: Final = "other"
#: In the place of an agent, for calls of the gateway's tokens. No agent is called so.
GATEWAY: Final = "!gateway"
#: What model APIs answer; https://docs.claude.com/en/api/errors and what stands before them.
STATUSES: Final = frozenset({400, 401, 402, 403, 404, 408, 409, 413, 422, 424, 429, 500, 502, 503, 504, 529})


def of_change(before: Head, after: Head, change: Change | None) -> Iterator[Sample]:
    """A write of a session; ``change`` is ``None`` where nothing but the head was written."""
    yield from of_heads(before, after)
    if change is None:
        return
    if (resolved := change.resolved) is not None:
        record = {**resolved.detail, "state": resolved.resolution, "spent_nanousd": resolved.spent_nanousd}
        yield from of_resolved_call(record)
    for audited in change.audit:
        if audited.kind == "tool_call":
            yield from of_tool_call(audited.outcome)


def of_heads(before: Head, after: Head) -> Iterator[Sample]:
    """A session's head, before a write and after it."""
    agent = after.agent
    # A call may end with the turn that it belongs to, and never after it.
    was = before.turn.tally if before.turn.number == after.turn.number else Tally()
    counts = {
        **_grown(before.account.usage, after.account.usage),
        "steps": after.steps - before.steps,
        "model_calls": after.account.calls - before.account.calls,
        "cost_nanousd": after.account.cost_nanousd - before.account.cost_nanousd,
        "repairs": after.repairs - before.repairs,
        **{name: getattr(after.turn.tally, name) - getattr(was, name) for name in ("retries", "compactions", "flags")},
    }
    for name, by in counts.items():
        if by > 0:
            yield sample(name, by, agent=agent)
    yield from _of_money(before, after, counts["cost_nanousd"], after.turn.tally.money_ms - was.money_ms)
    yield from _of_runners(before, after, after.turn.tally.queue_ms - was.queue_ms)
    if after.resting and not before.resting and after.status != "erased":
        yield from _of_end(after)


def of_resolved_call(record: Mapping[str, Any]) -> Iterator[Sample]:
    """The ledger's record of a call that was pending and is not any more."""
    state = _known(record.get("state"), get_args(Resolution))
    yield sample("reservations", state=state)
    if state == "in_doubt":
        yield sample("in_doubt_nanousd", int(record.get("spent_nanousd", 0)), state=state)
    if "status_code" in record:  # It says how an attempt failed.
        yield sample("provider_errors", status=_status(record["status_code"]))


def of_token(before: Usage, after: Usage, *, calls: int, cost_nanousd: int) -> Iterator[Sample]:
    """A token of the gateway, whose calls belong to no session: what they used and cost since it was looked at last."""
    for name, by in {**_grown(before, after), "model_calls": calls, "cost_nanousd": cost_nanousd}.items():
        if by > 0:
            yield sample(name, by, agent=GATEWAY)
    if cost_nanousd > 0:
        yield sample("spend_nanousd", cost_nanousd)


def of_tool_call(outcome: object) -> Iterator[Sample]:
    """The audit record of a tool call."""
    yield sample("tool_calls", outcome=_known(outcome, get_args(Outcome)))


def _grown(before: Usage, after: Usage) -> dict[str, int]:
    return {name: getattr(after, name) - getattr(before, name) for name in Usage.model_fields}


def _of_money(before: Head, after: Head, cost: int, waited_ms: int) -> Iterator[Sample]:
    agent = after.agent
    if cost > 0:
        yield sample("spend_nanousd", cost)
        # What was in flight on a runner that was lost is its own, whoever books it.
        if (runner := before.runner or after.runner) is not None:
            yield sample("runner_cost_nanousd", cost, runner=runner)
    pending = after.account.pending
    if pending is not None and (before.account.pending is None or before.account.pending.call != pending.call):
        yield sample("reserved_nanousd", pending.amount_nanousd, agent=agent)
    if waited_ms > 0:
        yield sample("money_waits", agent=agent)
        yield sample("money_wait", waited_ms, agent=agent)


def _of_runners(before: Head, after: Head, on_its_way_ms: int) -> Iterator[Sample]:
    agent = after.agent
    if after.handoff is not None and before.handoff is None:
        # From a runner that lives, or taken from a dead one; or a new turn on its way to its first.
        if before.lease.owner is not None:
            yield sample("handoffs", agent=agent)
    elif after.handoff is not None and before.handoff is not None and after.handoff.sends > before.handoff.sends:
        yield sample("handoffs_sent_again", agent=agent)
    claimed = after.lease.fencing_token > before.lease.fencing_token
    if claimed and before.lease.owner is not None:
        yield sample("leases_taken_over", agent=agent)
    elif claimed and before.handoff is not None and after.lease.owner is not None:
        name = "handoff_latency" if before.turn.tally.runs else "queue_wait"
        yield sample(name, max(0, on_its_way_ms), agent=agent)


def _of_end(head: Head) -> Iterator[Sample]:
    tally, agent = head.turn.tally, head.agent
    yield sample("turns", agent=agent, reason=head.stop.reason if head.stop else OTHER)
    began, ended = (datetime.fromisoformat(at) for at in (head.turn.started_at, head.updated_at))
    duration = max(0, round((ended - began).total_seconds() * 1000))
    rest = duration - tally.model_ms - tally.tool_ms - tally.queue_ms - tally.money_ms
    times = {"turn_duration": duration, "model_time": tally.model_ms, "tool_time": tally.tool_ms}
    for name, millis in {**times, "kit_time": max(0, rest)}.items():
        yield sample(name, millis, agent=agent)
    if head.stop is not None and (kind := _trip(head.stop)) is not None:
        yield sample("trips", kind=kind)


def _trip(stop: Stop) -> str | None:
    if stop.reason == "cost_cap":
        return f"cost_cap:{_known(stop.detail.get('scope'), SCOPES)}"
    return stop.reason if STOPS[stop.reason].alert == "breaker_trip" else None


def _status(code: object) -> str:
    if code is None:
        return "none"
    return str(code) if code in STATUSES else OTHER


def _known(value: object, known: Any) -> str:
    return str(value) if value in known else OTHER
