"""The dashboard, as data: sections in the order in which somebody looks who was woken at three in the morning.

First whether it is up, then whether it burns money, then why: trips, money in doubt, time, errors, tokens, scores; what
the machines do comes last, since an alarm that is about them says so.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from aws_cdk import aws_cloudwatch as cloudwatch

from turnkeeper_infra.watching.emitted import NANO, Emitted

WIDE: Final = 24
"""Columns of a dashboard."""

USD: Final = f"/{NANO}"
USD_AN_HOUR: Final = f"*12/{NANO}"
"""Of what five minutes cost."""
SECONDS: Final = "/1000"

Line = cloudwatch.IMetric


@dataclass(frozen=True)
class Graph:
    title: str
    lines: Sequence[Line]


@dataclass(frozen=True)
class Query:
    """Over log lines, for what has no end of values, as tenants have; a table."""

    title: str
    text: Sequence[str]


@dataclass(frozen=True)
class Section:
    """A row or two under a heading, with what to run for more."""

    title: str
    note: str
    panels: Sequence[Graph | Query]


@dataclass(frozen=True)
class Machines:
    """What AWS counts of the parts, to be drawn."""

    api: Sequence[Line]
    queue: Sequence[Line]
    dead_letters: Sequence[Line]
    tasks: Sequence[Line]
    worker_load: Sequence[Line]
    errors: Sequence[Line]
    throttles: Sequence[Line]
    durations: Sequence[Line]
    concurrency: Sequence[Line]
    streams: Sequence[Line]
    table: Sequence[Line]
    wakes_failed: Line


TOP_TENANTS: Final = (
    'filter message = "spent"',
    f"stats sum(cost_nanousd)/{NANO} as usd, sum(steps) as steps, sum(trips) as trips by tenant_id",
    "sort usd desc",
    "limit 20",
)
TOP_TRIPS: Final = (
    'filter message = "spent" and trips > 0',
    f"stats sum(trips) as trips, sum(cost_nanousd)/{NANO} as usd by tenant_id, agent",
    "sort trips desc",
    "limit 20",
)


def sections(kit: Emitted, parts: Machines) -> list[Section]:
    """Everything that is drawn, below the alarms."""
    return [
        Section(
            "Is it up",
            "`turnkeeper doctor` looks at every part; `turnkeeper top` shows what runs now.",
            [
                Graph("API", parts.api),
                Graph("Turns by how they ended", [kit.each("turns")]),
                Graph("Errors of functions", parts.errors),
            ],
        ),
        Section(
            "Is money being burnt",
            "`turnkeeper spend report --by tenant`; what a tenant has left: `turnkeeper spend --tenant T`. "
            "To stop one: `turnkeeper tenant pause T`.",
            [
                Graph("USD an hour", [_usd_an_hour(kit)]),
                Graph("USD an hour, by agent", [kit.each("cost_nanousd", times=USD_AN_HOUR)]),
                Graph("USD an hour, by runner", [kit.each("runner_cost_nanousd", times=USD_AN_HOUR)]),
                Graph("USD set aside for calls, by agent", [kit.each("reserved_nanousd", times=USD)]),
                Query("Tenants that spend most", TOP_TENANTS),
            ],
        ),
        Section(
            "What was stopped",
            "Caps and breakers at work: `turnkeeper explain SESSION` says why, and how near others are.",
            [
                Graph("Trips, by kind", [kit.each("trips")]),
                Graph("Calls that waited for money", [kit.each("money_waits")]),
                Graph("Seconds that they waited, p95", [kit.each("money_wait", "p95", times=SECONDS)]),
                Query("Tenants that trip most", TOP_TRIPS),
            ],
        ),
        Section(
            "In doubt",
            "Calls whose answer was lost are booked as spent: `turnkeeper reconcile` holds them against the bill.",
            [
                Graph("USD in doubt", [kit.each("in_doubt_nanousd", times=USD)]),
                Graph("Reservations, by how they ended", [kit.each("reservations")]),
            ],
        ),
        Section("Time", "Seconds, by agent.", _time(kit)),
        Section(
            "What went wrong",
            "`turnkeeper logs --session SESSION`, `turnkeeper explain SESSION`.",
            [
                Graph("Tool calls, by outcome", [kit.each("tool_calls")]),
                Graph("Provider errors, by status", [kit.each("provider_errors")]),
                Graph("Model calls tried again", [kit.each("retries")]),
                Graph("Results that gave instructions", [kit.each("flags")]),
                Graph("Histories repaired and shortened", [kit.each("repairs"), kit.each("compactions")]),
                Graph("Runners lost, handoffs", [kit.total(one, label=one) for one in _MOVES]),
            ],
        ),
        Section("Tokens", "A cache share that falls costs up to ten times as much for what was cached.", _tokens(kit)),
        Section(
            "Scores",
            "`turnkeeper sessions --scored-below 0.5`, `turnkeeper rollout show AGENT`.",
            [
                Graph("Scores", [kit.each("score", "Average")]),
                Graph("Checks failed", [kit.each("checks_failed")]),
                Graph("Turns that could not be scored", [kit.one("turns_set_aside", service="score")]),
            ],
        ),
        Section(
            "Queue and worker",
            "`turnkeeper dead list`.",
            [
                Graph("Jobs", parts.queue),
                Graph("Dead letters", parts.dead_letters),
                Graph("Tasks of the worker", parts.tasks),
                Graph("Its processor and memory, in percent", parts.worker_load),
                Graph("Failed wakes", [parts.wakes_failed]),
            ],
        ),
        Section(
            "Functions, streams, table",
            "`turnkeeper doctor` knows the account's limits.",
            [
                Graph("Concurrency", parts.concurrency),
                Graph("Throttled calls", parts.throttles),
                Graph("Milliseconds, p95", parts.durations),
                Graph("Milliseconds that readers of the stream are behind", parts.streams),
                Graph("Throttled reads and writes of the table", parts.table),
                Graph("Deliveries", [kit.one("deliveries", service="deliver", outcome=one) for one in _OUTCOMES]),
                Graph("Traces", [kit.one(one, service="trace") for one in ("traces_exported", "traces_failed")]),
            ],
        ),
    ]


_OUTCOMES: Final = ("delivered", "failed", "dead")
_MOVES: Final = ("handoffs", "handoffs_sent_again", "leases_taken_over")
_INPUT: Final = ("input_tokens", "cache_read_input_tokens", "cache_creation_input_tokens")


def _usd_an_hour(kit: Emitted) -> Line:
    return cloudwatch.MathExpression(
        expression=f"spent{USD_AN_HOUR}", using_metrics={"spent": kit.one("spend_nanousd")}, label="all agents"
    )


def _time(kit: Emitted) -> list[Graph | Query]:
    turns = [kit.each("turn_duration", one, times=SECONDS, label=one) for one in ("p50", "p95")]
    where = [kit.each(one, "Average", times=SECONDS, label=one) for one in ("model_time", "tool_time", "kit_time")]
    return [
        Graph("Turns, p50 and p95", turns),
        Graph("Where it went, on average", where),
        Graph("Wait for the first runner, p95", [kit.each("queue_wait", "p95", times=SECONDS)]),
        Graph("Handoffs, p95", [kit.each("handoff_latency", "p95", times=SECONDS)]),
    ]


def _tokens(kit: Emitted) -> list[Graph | Query]:
    return [
        Graph("Tokens", [kit.total(one, label=one) for one in (*_INPUT, "output_tokens")]),
        Graph("Read from the cache, in percent of the input", [kit.share(_INPUT[1], _INPUT, label="share")]),
        Graph("Steps and model calls", [kit.total(one, label=one) for one in ("steps", "model_calls")]),
    ]


def draw(
    dashboard: cloudwatch.Dashboard,
    laid_out: Sequence[Section],
    *,
    alarms: Sequence[cloudwatch.IAlarm],
    log_group: str,
    runbook_url: str,
) -> None:
    """Lay sections out as widgets, three graphs a row. `log_group` is the observer's, which tells who spends."""
    rang = f"Something rang: its description names a section of {runbook_url}"
    _add_text(dashboard, f"# What rings\n{rang}")
    dashboard.add_widgets(cloudwatch.AlarmStatusWidget(title="Alarms", alarms=[*alarms], width=WIDE))
    for section in laid_out:
        _add_text(dashboard, f"## {section.title}\n{section.note}")
        graphs = [one for one in section.panels if isinstance(one, Graph)]
        for start in range(0, len(graphs), 3):
            row = graphs[start : start + 3]
            dashboard.add_widgets(*(_graph(one, WIDE // len(row)) for one in row))
        for query in section.panels:
            if isinstance(query, Query):
                dashboard.add_widgets(_table(query, log_group))


def _add_text(dashboard: cloudwatch.Dashboard, markdown: str) -> None:
    dashboard.add_widgets(cloudwatch.TextWidget(markdown=markdown, width=WIDE, height=2))


def _graph(graph: Graph, width: int) -> cloudwatch.GraphWidget:
    return cloudwatch.GraphWidget(title=graph.title, left=[*graph.lines], width=width)


def _table(query: Query, log_group: str) -> cloudwatch.LogQueryWidget:
    return cloudwatch.LogQueryWidget(
        title=query.title,
        log_group_names=[log_group],
        query_lines=[*query.text],
        view=cloudwatch.LogQueryVisualizationType.TABLE,
        width=WIDE,
    )
