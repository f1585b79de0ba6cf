"""What a run came to: numbers by kind of traffic, kills, memory, and each invariant: "held", or what broke it."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from tests.load.evidence import Evidence
from tests.load.memory import growth

#: As many of what broke an invariant as people are told; the file has all.
_SHOWN = 5


def document(
    seen: Evidence, verdicts: Mapping[str, Sequence[str]], *, settings: Mapping[str, Any], kills: Sequence[int],
    seconds: float, drain_seconds: float,
) -> dict[str, Any]:  # fmt: skip
    record = seen.record
    lost = [event for events in seen.events.values() for event in events if event["type"] == "runner_lost"]
    stops = Counter(session["stop"]["reason"] for session in seen.sessions.values() if session["stop"])
    return {
        "broken": sum(map(bool, verdicts.values())),
        "settings": dict(settings),
        "seconds": round(seconds, 1),
        "seconds_to_rest": round(drain_seconds, 1),
        "sessions": len(seen.sessions),
        "statuses": dict(Counter(session["status"] for session in seen.sessions.values())),
        "stops": dict(stops),
        "events": sum(map(len, seen.events.values())),
        "kinds": _kinds(seen),
        "kills": len(kills),
        "runners_lost": dict(Counter(f"{each['runner']} to {each['taken_over_by']}" for each in lost)),
        "handoffs": sum(map(_handoffs, seen.events.values())),
        "effects": {"once": len(seen.once), "idempotent": len(seen.keyed)},
        "dead_letters": len(seen.dead),
        "memory": [
            {**dataclasses.asdict(found), "percent": round(found.percent, 2)}
            for curve in seen.curves
            if (found := growth(curve)) is not None
        ],
        "curves": [dataclasses.asdict(curve) for curve in seen.curves],
        "not_at_rest_while_waited_for": record.slow,
        "invariants": {name: list(broken) or "held" for name, broken in verdicts.items()},
    }


def _kinds(seen: Evidence) -> dict[str, Any]:
    record = seen.record
    latencies = {**record.latencies, **_latencies_of_jobs(seen)}
    kinds = {}
    for kind, answers in sorted(record.answers.items()):
        times = sorted(latencies.get(kind, ()))
        inputs = sum(said.kind == kind for said in record.inputs)
        kinds[kind] = {"inputs": inputs, "answers": dict(answers), "seconds": _percentiles(times)}
    return kinds


def _latencies_of_jobs(seen: Evidence) -> dict[str, list[float]]:
    """From when they were sent until the transcript says that they rest."""
    found: dict[str, list[float]] = {}
    for said in seen.record.inputs:
        events = seen.events.get(said.session_id or "", [])
        if said.kind in {"jobs", "twins"} and events and events[-1]["type"] == "status":
            rested = datetime.fromisoformat(events[-1]["at"]).timestamp()
            found.setdefault(said.kind, []).append(max(0.0, rested - said.at))
    return found


def _percentiles(times: Sequence[float]) -> dict[str, float]:
    if not times:
        return {}
    at = {"p50": 0.5, "p95": 0.95, "max": 1.0}
    return {name: round(times[min(len(times) - 1, int(share * len(times)))], 2) for name, share in at.items()}


def _handoffs(events: Sequence[Mapping[str, Any]]) -> int:
    """Turns that moved in their middle: on their way to the worker with answers before."""
    answered, moved = False, 0
    for event in events:
        if event["type"] == "assistant":
            answered = True
        elif event["type"] == "user":
            answered = False
        elif event["type"] == "status" and event.get("status") == "queued" and answered:
            moved += 1
    return moved


def lines(report: Mapping[str, Any]) -> Iterator[str]:
    """The report for people."""
    yield (
        f"{report['sessions']} sessions, {report['events']} events in {report['seconds']:.0f} s, "
        f"and {report['seconds_to_rest']:.0f} s until all was at rest"
    )
    yield f"{'kind':<14}{'inputs':>7}{'p50':>8}{'p95':>8}{'max':>8}  answers"
    for kind, found in report["kinds"].items():
        times = "".join(f"{found['seconds'].get(name, '-'):>8}" for name in ("p50", "p95", "max"))
        answers = ", ".join(f"{what} x{times}" for what, times in sorted(found["answers"].items()))
        yield f"{kind:<14}{found['inputs']:>7}{times}  {answers}"
    for name in ("statuses", "stops", "runners_lost", "effects"):
        counts = ", ".join(f"{key} {count}" for key, count in report[name].items())
        yield f"{name.replace('_', ' ')}: {counts or 'none'}"
    yield f"kills {report['kills']}, handoffs {report['handoffs']}, dead letters {report['dead_letters']}"
    for each in report["memory"]:
        yield (
            f"memory of {each['process']} {each['pid']}: "
            f"{each['first_quarter_mib']:.1f} to {each['last_quarter_mib']:.1f} MiB in {each['seconds']:.0f} s, "
            f"{each['mib_per_minute']:+.2f} MiB a minute, {each['percent']:+.1f} %"
        )
    for name, verdict in report["invariants"].items():
        broken = [] if verdict == "held" else verdict
        yield f"{'BROKEN' if broken else 'held  '}  {name}"
        yield from (f"          {line}" for line in broken[:_SHOWN])
        if len(broken) > _SHOWN:
            yield f"          and {len(broken) - _SHOWN} more"
    yield "everything held" if not report["broken"] else f"{report['broken']} of {len(report['invariants'])} broke"
