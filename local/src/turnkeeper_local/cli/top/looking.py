"""Looking at a kit's table, queues and metrics, as an operator may.

What runs is read from the index of what is due, which holds every session that a runner has or that is on its way to
one, of all tenants and nothing else: four queries, however many sessions have rested. What was spent and what tripped
of all tenants is in the metrics that the observer prints; of one tenant, in its counter and its list.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

from turnkeeper.bootstrap import Kit
from turnkeeper.core.ledger import iso
from turnkeeper.core.scopes import SHARDED
from turnkeeper.core.session import Head
from turnkeeper.core.stops import STOPS
from turnkeeper_local.cli.logs import GroupSource, groups
from turnkeeper_local.cli.place import Place
from turnkeeper_local.cli.status import alive
from turnkeeper_local.cli.top.snapshot import WINDOW_SECONDS, Snapshot, row_of, runner_of

#: Sessions that are looked at more closely.
MOST_ROWS = 40
_MINUTE = timedelta(minutes=1)


class Overview:
    """Looks again and again; what it saw before tells what was spent since."""

    def __init__(self, kit: Kit, place: Place, queue_depths: Any, tenant_id: str | None = None) -> None:
        self._kit, self._place, self._tenant_id = kit, place, tenant_id
        self._queue_depths = queue_depths
        self._metered = None if tenant_id else Metered(sources(place))
        self._spent: tuple[datetime, int] | None = None

    def look(self) -> Snapshot:
        now = self._kit.clock.now()
        heads = sorted(self._heads(), key=lambda head: (head.status != "running", head.turn.started_at))
        counts = Counter(head.status for head in heads)
        spend, trips = self._metered.read(now) if self._metered else self._of_tenant(now)
        return Snapshot(
            at=iso(now),
            tenant_id=self._tenant_id,
            running=counts["running"],
            queued=counts["queued"],
            sessions=tuple(row_of(head, self._open_calls(head)) for head in heads[:MOST_ROWS]),
            runners=Counter(name for head in heads if (name := runner_of(head)) is not None),
            workers=workers(self._place),
            spend_per_minute_nanousd=spend,
            trips=trips,
            queues=self._queue_depths(),
        )

    def _heads(self) -> Iterator[Head]:
        if self._tenant_id is None:
            # Money that is left behind at rest is due, too: that is no session that runs.
            yield from (head for head in self._kit.sessions.under_way() if not head.resting)
            return
        for status in ("running", "queued"):
            cursor = None
            while True:
                heads, cursor = self._kit.sessions.lists.page(
                    self._tenant_id, None, status=status, limit=100, cursor=cursor
                )
                yield from heads
                if cursor is None:
                    break

    def _open_calls(self, head: Head) -> Any:
        """Only where nothing else says what it does: that takes a read."""
        busy = head.handoff is not None or head.account.pending is not None
        return () if busy else self._kit.sessions.open_calls(head)

    def _of_tenant(self, now: datetime) -> tuple[int | None, Counter[str]]:
        assert self._tenant_id is not None
        kit = self._kit
        terms = kit.tenants.terms(self._tenant_id)
        _, state = kit.treasury.shards(terms, terms.caps.period(SHARDED.name, now))
        before, self._spent = self._spent, (now, state.spent)
        rate = None
        if before is not None and now > before[0]:
            # With a new month the counter begins anew.
            rate = int(max(0, state.spent - before[1]) * (_MINUTE / (now - before[0])))
        since = iso(now - timedelta(seconds=WINDOW_SECONDS))
        stopped, _ = kit.sessions.lists.page(self._tenant_id, None, status="stopped", limit=100, cursor=None)
        reasons = (head.stop.reason for head in stopped if head.stop is not None and head.updated_at >= since)
        return rate, Counter(str(reason) for reason in reasons if STOPS[reason].alert)


class Metered:
    """What the observer's metrics say of the latest minutes."""

    def __init__(self, sources: Iterable[GroupSource]) -> None:
        self._sources = list(sources)
        self._found: list[tuple[datetime, dict[str, Any]]] = []

    def read(self, now: datetime) -> tuple[int | None, Counter[str]]:
        """Nano-dollars of the last minute, and trips within the window; no amount where there are no metrics."""
        for source in self._sources:
            lines = (metrics_in(message) for _, message in source.events())
            self._found += [(_at(line), line) for line in lines if line is not None]
        since = now - timedelta(seconds=WINDOW_SECONDS)
        self._found = [(at, line) for at, line in self._found if at >= since]
        trips: Counter[str] = Counter()
        for _, line in self._found:
            row = next((row for reason, row in STOPS.items() if reason == line.get("reason")), None)
            if row is not None and row.alert and "turns" in line:
                trips[line["reason"]] += _sum(line["turns"])
        spend = sum(_sum(line.get("cost_nanousd", 0)) for at, line in self._found if at >= now - _MINUTE)
        return (spend if self._sources else None), trips


def metrics_in(message: str) -> dict[str, Any] | None:
    """A line of CloudWatch's embedded metric format; ``None`` for every other one."""
    try:
        line = json.loads(message) if '"_aws"' in message else None
    except ValueError:
        return None
    stamped = isinstance(line, dict) and isinstance(line.get("_aws"), dict) and "Timestamp" in line["_aws"]
    return line if stamped else None


def _at(line: dict[str, Any]) -> datetime:
    return datetime.fromtimestamp(int(line["_aws"]["Timestamp"]) / 1000, UTC)


def _sum(value: Any) -> int:
    return int(sum(value) if isinstance(value, list) else value)


def sources(place: Place) -> Iterator[GroupSource]:
    """The observer's log group."""
    if place.database_url is not None:
        return  # nobody keeps what the observer says: the amount is told where metrics are read
    since = datetime.now(UTC).timestamp() - WINDOW_SECONDS
    yield from groups(place, since, lambda part: part == "observe")


def workers(place: Place) -> int | None:
    """Worker processes that are up: this machine's, or the tasks of a deployed kit's service."""
    if place.database_url is not None and not place.local:
        return None
    if place.local:
        return int(alive(int(place.document["worker_pid"])))
    from botocore.exceptions import BotoCoreError, ClientError

    make: Any = place.session.client
    try:
        [stack] = make("cloudformation").describe_stacks(StackName=f"{place.stacks}Worker")["Stacks"]
        named = {each["OutputKey"]: each["OutputValue"] for each in stack.get("Outputs", [])}
        asked = make("ecs").describe_services(cluster=named["ClusterName"], services=[named["ServiceName"]])
        return int(asked["services"][0]["runningCount"])
    except (BotoCoreError, ClientError, KeyError, IndexError):
        return None
