"""A moment of a kit as a terminal shows it: a function of the snapshot alone."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

from rich.console import Group
from rich.table import Table
from rich.text import Text

from turnkeeper.core.money import format_usd
from turnkeeper_local.cli.tables import add_row, table_of
from turnkeeper_local.cli.text import age, clock, plain, short, usd
from turnkeeper_local.cli.top.snapshot import WINDOW_SECONDS, Snapshot

_DOING_WIDTH = 60


def frame(snapshot: Snapshot) -> Group:
    return Group(*_lines(snapshot), _table(snapshot), *_rest(snapshot))


def _lines(snapshot: Snapshot) -> Iterator[Text]:
    whose = f"tenant {plain(snapshot.tenant_id)}" if snapshot.tenant_id else "all tenants"
    busy = ", ".join(f"{plain(name)} ({count})" for name, count in snapshot.runners.most_common(6))
    up = "?" if snapshot.workers is None else str(snapshot.workers)
    spend = snapshot.spend_per_minute_nanousd
    rate = "not known yet" if spend is None else f"{usd(format_usd(spend))} a minute"
    trips = ", ".join(f"{reason} {count}" for reason, count in snapshot.trips.most_common()) or "none"
    queues = snapshot.queues
    dead = queues.get("dead_letters", 0)
    yield Text.assemble(
        (clock(snapshot.at), "bold"), f"  {whose}  {snapshot.running} running, {snapshot.queued} queued"
    )
    yield Text.assemble(
        f"queue {queues.get('queue', 0)} waiting, {queues.get('in_flight', 0)} in hand  ",
        (f"dead letters {dead}", "bold red" if dead else ""),
        ("  workers " + up, "bold red" if snapshot.workers == 0 and snapshot.queued else ""),
        f"  sessions by runner: {busy or 'none'}",
    )
    yield Text.assemble(
        f"spend {rate}  ",
        (f"trips in {WINDOW_SECONDS // 60} min: {trips}", "yellow" if snapshot.trips else ""),
    )


def _table(snapshot: Snapshot) -> Table:
    columns = ("session", "tenant", "user", "agent", "turn", "step", "for", "cost", "runner", "doing", "since")
    table = table_of(*columns, right=("turn", "step", "for", "cost", "since"))
    for row in snapshot.sessions:
        cells = (
            *(row.session_id, row.tenant_id, row.user_id, row.agent, row.turn, row.step),
            *(_for(row.since, snapshot.at), usd(format_usd(row.cost_nanousd)), row.runner or "-"),
            *(short(row.doing, _DOING_WIDTH), _for(row.doing_since, snapshot.at)),
        )
        add_row(table, cells)
    return table


def _rest(snapshot: Snapshot) -> Iterator[Text]:
    more = snapshot.running + snapshot.queued - len(snapshot.sessions)
    if more > 0:
        yield Text(f"and {more} more", style="dim")
    if not snapshot.sessions:
        yield Text("nothing runs", style="dim")


def _for(since: str | None, now: str) -> str:
    if since is None:
        return "-"
    try:
        span = datetime.fromisoformat(now) - datetime.fromisoformat(since)
    except ValueError:
        return "-"
    return age(max(0, int(span.total_seconds())))
