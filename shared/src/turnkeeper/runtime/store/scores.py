"""Scores of turns: kept with the session, listed by the worst, and summed up by hour and version.

A turn is assessed once: its item and the sums are written in one transaction, on the condition that the item is not
there. So a change that the stream tells twice, or again after an outage, counts once.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from turnkeeper.core.companion import CompanionOf
from turnkeeper.core.ledger import iso
from turnkeeper.core.scoring import Score
from turnkeeper.core.session import Head
from turnkeeper.core.stops import STOPS
from turnkeeper.runtime.store import keys
from turnkeeper.table import ABSENT, Check, Cond, ConditionFailed, Item, Key, Put, Table, Update

if TYPE_CHECKING:
    from turnkeeper.core.trajectory import Trajectory

#: Spreads the writes of one agent's hour.
SHARDS = 4
#: Sums are kept for so long.
KEEP_DAYS = 90
#: Scores are whole thousandths in the table, which has no floats.
MILLI = 1000


@dataclass(frozen=True, slots=True)
class Assessment:
    """What the evaluators made of one turn."""

    turn: int
    at: str
    agent: str
    version: str | None
    scores: tuple[Score, ...]

    @property
    def worst(self) -> Score | None:
        """The lowest of those that say whether it is good enough."""
        judged = [score for score in self.scores if score.passed is not None]
        return min(judged, key=lambda score: score.value, default=None)


@dataclass
class Sums:
    """What the turns of some hours add up to."""

    turns: int = 0
    cost_nanousd: int = 0
    steps: int = 0
    busy_ms: int = 0
    #: Ended by a cap, a breaker or a fault.
    trips: int = 0
    #: By score: how many, their sum in thousandths, the sum of their squares in millionths, how many failed.
    scores: dict[str, list[int]] = field(default_factory=lambda: defaultdict(lambda: [0, 0, 0, 0]))

    def add(self, item: Mapping[str, Any]) -> None:
        for name in _COUNTS:
            setattr(self, name, getattr(self, name) + int(item.get(name, 0)))
        for name, value in item.items():
            kind, _, score = name.partition(":")
            if score and kind in _KINDS:
                self.scores[score][_KINDS.index(kind)] += int(value)

    def mean(self, score: str) -> float | None:
        count, total, _, _ = self.scores.get(score, (0, 0, 0, 0))
        return total / MILLI / count if count else None


_COUNTS = ("turns", "cost_nanousd", "steps", "busy_ms", "trips")
_KINDS = ("n", "sum", "squares", "failed")


class Scores:
    def __init__(self, table: Table) -> None:
        self._table = table

    # ---- turns ----

    def keep(self, head: Head, trajectory: Trajectory, scores: Sequence[Score], now: datetime) -> bool:
        """Write down what became of a turn that has ended; whether it was new. Of a session that was erased meanwhile,
        nothing is kept."""
        made = Assessment(head.turn.number, iso(now), head.agent, head.version, tuple(scores))
        key = keys.assessment_key(head.tenant_id, head.session_id, head.turn.number)
        not_erased = Check(keys.head_key(head.tenant_id, head.session_id), (Cond("status", "<>", "erased"),))
        try:
            self._table.write(
                [
                    Put(key, _item(head.tenant_id, head.session_id, made), (ABSENT,)),
                    not_erased,
                    _sums(head, trajectory, made, now),
                ]
            )
        except ConditionFailed:
            return False
        return True

    def keep_verdict(self, about: CompanionOf, score: Score, now: datetime) -> bool:
        """Write down what a judge made of a turn; as :meth:`keep`. The turn itself is counted there."""
        made = Assessment(about.turn, iso(now), about.agent, about.version, (score,))
        key = keys.verdict_key(about.tenant_id, about.session_id, about.turn)
        not_erased = Check(keys.head_key(about.tenant_id, about.session_id), (Cond("status", "<>", "erased"),))
        item = _item(about.tenant_id, about.session_id, made)
        sums = _added(about.session_id, made, {}, now)
        try:
            self._table.write([Put(key, item, (ABSENT,)), not_erased, sums])
        except ConditionFailed:
            return False
        return True

    def of_session(self, tenant_id: str, session_id: str) -> list[Assessment]:
        """By turn; those of turns that nobody assessed are missing."""
        pk = keys.session_pk(tenant_id, session_id)
        return [_assessment(item) for item in self._table.query_all(pk, first="ASSESSED#", last="ASSESSED#~")]

    def worst_first(self, tenant_id: str, *, below: float = 1.0) -> Iterator[Key]:
        """Keys of heads whose latest or earlier turns have a score under ``below``, worst first; a session once."""
        seen: set[str] = set()
        cursor: str | None = None
        last = f"{_thousandths(below) - 1:04d}~"
        while below > 0:
            page = self._table.query(keys.by_score(tenant_id), index="by_status", last=last, limit=200, cursor=cursor)
            for item in page.items:
                if item["pk"] not in seen:
                    seen.add(item["pk"])
                    yield Key(item["pk"], "HEAD")
            if (cursor := page.cursor) is None:
                return

    # ---- sums ----

    def sums(self, agent: str, since: datetime, until: datetime) -> dict[str, Sums]:
        """By version, over the hours from that of ``since`` up to that of ``until``, which is not counted."""
        found: dict[str, Sums] = defaultdict(Sums)
        first, last = f"HOUR#{_hour(since)}", f"HOUR#{_hour(until)}"
        for item in self._table.query_all(keys.scores_pk(agent), first=first, last=last):
            found[item["version"]].add(item)
        return dict(found)

    def tell_of_fall(self, agent: str, score: str, now: datetime, *, again_after: timedelta) -> bool:
        """Whether people have not been told of this for a while; then it is noted that they are."""
        key = keys.fall_key(agent, score)
        found = self._table.batch_get([key])
        item = found[0] if found else None
        if item is not None and item["at"] > iso(now - again_after):
            return False
        unchanged = ABSENT if item is None else Cond("at", "=", item["at"])
        try:
            self._table.write([Put(key, {"at": iso(now)}, (unchanged,))])
        except ConditionFailed:
            return False
        return True


def _item(tenant_id: str, session_id: str, made: Assessment) -> Item:
    """Numbers apart from reasons, which an erasure takes away."""
    values = [[score.name, _thousandths(score.value), score.passed, score.seq] for score in made.scores]
    item: Item = {
        "turn": made.turn,
        "at": made.at,
        "agent": made.agent,
        "version": made.version or "",
        "scores": json.dumps(values, separators=(",", ":")),
        "reasons": json.dumps([score.reason for score in made.scores], separators=(",", ":")),
    }
    if (worst := made.worst) is not None:
        place = f"{_thousandths(worst.value):04d}#{made.at}#{session_id}#{made.turn}"
        item |= {"status_key": keys.by_score(tenant_id), "created_key": place}
    return item


def _assessment(item: Mapping[str, Any]) -> Assessment:
    values = json.loads(item["scores"])
    reasons = json.loads(item["reasons"]) if "reasons" in item else [""] * len(values)
    # An earlier release kept whatever an evaluator said for a reason and an entry.
    scores = tuple(
        Score(name, thousandths / MILLI, passed, str(reason), seq if type(seq) is int else None)
        for (name, thousandths, passed, seq), reason in zip(values, reasons, strict=True)
    )
    return Assessment(int(item["turn"]), item["at"], item["agent"], item["version"] or None, scores)


def _sums(head: Head, trajectory: Trajectory, made: Assessment, now: datetime) -> Update:
    counts: dict[str, int] = {
        "turns": 1,
        "cost_nanousd": trajectory.cost_nanousd,
        "steps": len(trajectory.steps),
        "busy_ms": trajectory.busy_ms,
        "trips": int(head.stop is not None and STOPS[head.stop.reason].alert is not None),
    }
    return _added(head.session_id, made, counts, now)


def _added(session_id: str, made: Assessment, counts: dict[str, int], now: datetime) -> Update:
    """The counts and the scores, onto the sums of the hour."""
    shard = sha256(session_id.encode()).digest()[0] % SHARDS
    for score in made.scores:
        value = _thousandths(score.value)
        parts = (1, value, value * value, int(score.passed is False))
        counts |= {f"{kind}:{score.name}": part for kind, part in zip(_KINDS, parts, strict=True)}
    version = made.version or "none"
    return Update(
        keys.hour_key(made.agent, _hour(now), version, shard),
        set={"version": version, "expires_at_epoch": int((now + timedelta(days=KEEP_DAYS)).timestamp())},
        add={name: count for name, count in counts.items() if count},
    )


def _hour(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H")


def _thousandths(value: float) -> int:
    return round(value * MILLI)


def merged(sums: Iterable[Sums]) -> Sums:
    """One for all of them."""
    total = Sums()
    for one in sums:
        for name in _COUNTS:
            setattr(total, name, getattr(total, name) + getattr(one, name))
        for score, parts in one.scores.items():
            total.scores[score] = [a + b for a, b in zip(total.scores[score], parts, strict=True)]
    return total
