"""What a kit costs at list prices: while nothing happens, and for a million turns.

What is there by the month is counted in the synthesized templates. What a turn does is measured: the engine runs it
over the table in memory, which tells each item that is written and each change of an index. Prices, with the pages that
they are from, stand in `prices.toml`; what nobody can measure here is in `ASSUMED`. `make docs` writes it all into
docs/cost.md.
"""

from __future__ import annotations

import json
import tempfile
import tomllib
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import takewhile
from math import ceil
from pathlib import Path
from typing import Any, Final, Literal

from benchmarks._results import Results
from benchmarks.gate import Bench
from fargate_worker.announcing import LOOK_SECONDS, SPARE_SHARE
from functions.api.stages.wait import looks
from turnkeeper.ports import ModelReply, ModelRequest
from turnkeeper.runtime.leases import CANCEL_POLL_SECONDS
from turnkeeper.runtime.store import keys
from turnkeeper.table import Item
from turnkeeper.testing.clock import ManualClock, SeededIds
from turnkeeper_infra import names
from turnkeeper_infra.config import Config

Prices = Mapping[str, Mapping[str, float]]
Items = Mapping[str, float]
PRICES: Final[Any] = tomllib.loads((Path(__file__).parent / "prices.toml").read_text())
MILLION: Final = 1_000_000
#: Of the turns of the page.
STEPS: Final = 3

#: What a turn takes besides what is measured. Seconds are the model's above all.
ASSUMED: Final = {
    "step_seconds": 5.0,
    "sweep_seconds": 0.2,
    "observer_seconds": 0.1,
    "word_seconds": 0.1,
    "scorer_seconds": 0.1,
    #: Of a whole processor, for each request, measured; the table's answers come on top.
    "front_door_cpu_seconds": 0.010,
    "front_door_other_seconds": 0.020,
    "poll_seconds": 2.0,
    "cold_starts_share": 0.01,
    "log_bytes_a_step": 2_000,
    "sessions_a_task": 8,
}
IDENTITY: Final = {"identity": "jwt", "jwt_issuer": "https://issuer.example", "jwt_audience": ["turnkeeper"]}
#: What a stage says that says nothing.
CONFIG: Final = Config.of(IDENTITY)
WHOLE_PROCESSOR_MB: Final = 1769
NETWORKS: Final[Mapping[str, Mapping[str, Any]]] = {
    "one NAT gateway (`prod`)": {},
    "two NAT gateways": {"nat_gateways": 2},
    "no NAT gateway (`dev`)": {"stage": "dev"},
    "a VPC that is there": {"vpc_id": "vpc-0123456789abcdef0", "vpc_subnet_ids": ["subnet-0123456789abcdef0"]},
}


# At rest ------------------------------------------------------------------------------------------------------------


def at_rest(templates: list[Mapping[str, Any]], prices: Prices = PRICES) -> Items:
    """USD a month of a kit that nobody uses, by item, from its templates."""
    resources = [one for template in templates for one in template["Resources"].values()]
    kinds = Counter(one["Type"] for one in resources)
    hours, network, function, other = (prices[name] for name in ("month", "network", "lambda", "other"))
    cached_gb = sum(
        one["Properties"]["MemorySize"] / 1024
        for one in resources
        if one["Type"] == "AWS::Lambda::Function" and "SnapStart" in one["Properties"]
    )
    alarms = [one["Properties"] for one in resources if one["Type"] == "AWS::CloudWatch::Alarm"]
    watched = sum(_metrics_of(alarm) for alarm in alarms)
    zones = len({zone for one in resources for zone in one.get("Properties", {}).get("SubnetIds", []) if zone})
    sweeps = hours["hours"] * 60
    return {
        "NAT gateways": kinds["AWS::EC2::NatGateway"] * network["nat_gateway_hour"] * hours["hours"],
        "public addresses": kinds["AWS::EC2::EIP"] * network["public_address_hour"] * hours["hours"],
        "interface endpoints": sum(
            max(1, len(one["Properties"].get("SubnetIds", [])), zones if zones else 1)
            for one in resources
            if one["Type"] == "AWS::EC2::VPCEndpoint" and one["Properties"].get("VpcEndpointType") == "Interface"
        )
        * network["interface_endpoint_hour"]
        * hours["hours"],
        "the turn runner's snapshot (one version)": cached_gb
        * function["snapshot_cache_gb_second"]
        * hours["hours"]
        * 3600,
        "secrets": kinds["AWS::SecretsManager::Secret"] * other["secret_month"],
        "alarms": watched * other["alarm_metric_month"]
        + kinds["AWS::CloudWatch::CompositeAlarm"] * other["composite_alarm_month"],
        "dashboard": kinds["AWS::CloudWatch::Dashboard"] * other["dashboard_month"],
        "the sweep, every minute": sweeps
        * (
            function["request"]
            + ASSUMED["sweep_seconds"] * CONFIG.memory_mb.sweep / 1024 * function["arm_gb_second"]
            + keys.DUE_SHARDS * 0.5 * prices["dynamodb"]["read_unit"]
        ),
    }


def _metrics_of(alarm: Mapping[str, Any]) -> int:
    """How many an alarm is billed for. A band is two besides what it is around; a query is billed by the metrics that
    it finds, of which there are none at rest, and one is counted."""
    band = 2 if "ThresholdMetricId" in alarm else 0
    return band + max(1, sum("MetricStat" in one for one in alarm.get("Metrics", [])))


def templates_of(settings: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Synthesize a deployment."""
    import aws_cdk as cdk

    from turnkeeper_infra.app import build
    from turnkeeper_infra.config import Config

    with tempfile.TemporaryDirectory() as folder:
        # What is only priced is not validated: CDK's rules take ten seconds to load.
        app = cdk.App(outdir=folder, builtin_cloud_formation_validation=False)
        build(app, Config.of({**IDENTITY, **settings}))
        app.synth()
        return [json.loads(path.read_text()) for path in sorted(Path(folder).glob("*.template.json"))]


# A million turns ----------------------------------------------------------------------------------------------------


class Turn(Bench):
    """A turn through the real engine, with a model that takes its time; what the table would bill for it."""

    def __init__(self, steps: int) -> None:
        self._clock = ManualClock()
        super().__init__(steps, self._clock, SeededIds())
        self.index_units = 0
        head = self.run()
        assert (head.status, head.steps) == ("idle", steps), head.stop
        self.write_units = sum(tally.units for tally in self.tallies)
        self.requests = sum((tally.requests for tally in self.tallies), Counter[str]())

    def call(self, request: ModelRequest, *, timeout_seconds: float, on_event: object = None) -> ModelReply:  # noqa: ARG002 - the port's
        self._clock.advance(ASSUMED["step_seconds"])
        return super().call(request, timeout_seconds=timeout_seconds)

    @property
    def reads(self) -> int:
        return sum(count for name, count in self.requests.items() if name in {"GetItem", "BatchGetItem", "Query"})

    def _changed(self, before: Item | None, after: Item | None) -> None:
        super()._changed(before, after)
        for partition, sort in names.INDEXES.values():
            was, is_ = (_entry(item, partition, sort) for item in (before, after))
            if was != is_:  # taken out where it was, put in where it is
                self.index_units += (was is not None) + (is_ is not None)


def _entry(item: Item | None, *attributes: str) -> tuple[Any, ...] | None:
    values = tuple((item or {}).get(name) for name in attributes)
    return None if None in values else values


@dataclass(frozen=True)
class Traffic:
    """Turns that begin independently of each other: so many a second, for a share of the time."""

    turns_a_second: float
    share: float = 1.0


STEADY: Final = Traffic(10)
#: The same number, all of it in one of six minutes.
BURSTY: Final = Traffic(60, 1 / 6)

#: Where turns run, as `auto_placement` says; `job`: on a worker that is kept busy by jobs.
Way = Literal["latency", "economy", "job"]


def a_million(
    steps: int, way: Way, traffic: Traffic = STEADY, *, polls: bool = False, prices: Prices = PRICES
) -> Items:
    """USD for a million turns of so many steps, by item. Whoever asked waits, or (``polls``) asks now and then."""
    turn, seconds = Turn(steps), steps * ASSUMED["step_seconds"]
    table, function, other = prices["dynamodb"], prices["lambda"], prices["other"]
    tasks, on_worker = fleet(traffic, seconds) if way == "economy" else (0, float(way == "job"))
    if way == "job":
        asked, waited, looks = 0, 0.0, 0
    elif polls:
        asked, waited, looks = 1 + ceil(seconds / ASSUMED["poll_seconds"]), 0.0, 0
    else:
        asked, waited, looks = ceil(seconds / CONFIG.default_wait_seconds), seconds, _looks(seconds)
    memory = CONFIG.memory_mb
    mean_rate = traffic.turns_a_second * traffic.share
    worker_seconds = tasks / mean_rate if way == "economy" else on_worker * seconds / ASSUMED["sessions_a_task"]
    told = tasks / LOOK_SECONDS / mean_rate
    reads = turn.reads + looks + seconds / CANCEL_POLL_SECONDS + (polls and asked)
    each = {
        "API": asked * other["api_request"],
        "queue": 3 * on_worker * other["queue_request"],
        "table: items written": (turn.write_units + told) * table["write_unit"],
        "table: indexes": turn.index_units * table["write_unit"],
        "table: reads": reads * table["read_unit"],
        "front door": asked * function["request"]
        + (waited + asked * _front_door_seconds()) * memory.front_door / 1024 * function["arm_gb_second"],
        "turn runner": (1 - on_worker) * (function["request"] + _on_lambda(seconds, memory.turn / 1024, prices)),
        "worker": _worker_second(prices) * worker_seconds,
        "observer and scorer": 2 * function["request"]
        + ASSUMED["observer_seconds"] * memory.observer / 1024 * function["arm_gb_second"]
        + ASSUMED["scorer_seconds"] * memory.scorer / 1024 * function["arm_gb_second"],
        # Where nobody else hears of it: put on the queue and taken from it, who is to hear read, put on the bus.
        "word that it ended": function["request"]
        + ASSUMED["word_seconds"] * 0.5 * function["arm_gb_second"]
        + 3 * other["queue_request"]
        + table["read_unit"]
        + other["bus_event"],
        "logs": steps * ASSUMED["log_bytes_a_step"] / 1e9 * other["log_gb"],
    }
    return {name: MILLION * usd for name, usd in each.items()}


def fleet(traffic: Traffic, seconds: float) -> tuple[int, float]:
    """Tasks that such turns bring up, and the share of turns that find a slot: Erlang's formula for calls that are not
    held in a queue. Nothing lowers the number while turns come at least every ten minutes."""
    slots, load = CONFIG.worker_concurrency, traffic.turns_a_second * seconds
    tasks = min(CONFIG.worker_max_tasks, ceil((load + SPARE_SHARE * slots) / slots))
    refused = 1.0
    for taken in range(1, tasks * slots + 1):
        refused = load * refused / (taken + load * refused)
    return tasks, 1 - refused


def _front_door_seconds() -> float:
    share = min(1.0, CONFIG.memory_mb.front_door / WHOLE_PROCESSOR_MB)
    return ASSUMED["front_door_cpu_seconds"] / share + ASSUMED["front_door_other_seconds"]


def _on_lambda(seconds: float, gb: float, prices: Prices) -> float:
    function = prices["lambda"]
    restored = ASSUMED["cold_starts_share"] * function["snapshot_restore_gb"]
    return gb * (seconds * function["arm_gb_second"] + restored)


def _looks(seconds: float) -> int:
    """How often the front door looks for an answer that takes so long."""
    return sum(1 for _ in takewhile(lambda at: at < seconds, looks())) + 1


def model_usd(steps: int, prices: Prices = PRICES) -> float:
    """What the model takes for a million of these turns, to compare with."""
    tokens = [(500 + 800 * made, 60) for made in range(steps)]
    model = prices["model"]
    return MILLION * sum(i * model["input_token"] + o * model["output_token"] for i, o in tokens)


def _worker_second(prices: Prices) -> float:
    fargate = prices["fargate"]
    return (fargate["arm_cpu_hour"] + 4 * fargate["arm_gb_hour"]) / 3600


# The page -----------------------------------------------------------------------------------------------------------


def columns() -> tuple[dict[str, Items], dict[str, Items]]:
    """USD a month at rest by network, and USD a million turns by way."""
    rest = {name: at_rest(templates_of(settings)) for name, settings in NETWORKS.items()}
    return rest, {
        "`latency`": a_million(STEPS, "latency"),
        "`economy`, steady": a_million(STEPS, "economy"),
        "`economy`, bursty": a_million(STEPS, "economy", BURSTY),
        "`economy`, steady, polled": a_million(STEPS, "economy", polls=True),
        "jobs": a_million(STEPS, "job"),
    }


def documentation() -> dict[str, str]:
    """The generated parts of docs/cost.md, by name."""
    rest, turns = columns()
    measured = "\n".join(f"- {_measured(steps)}" for steps in (1, STEPS))
    model = f"For comparison, the model: {model_usd(STEPS):,.0f} USD."
    seconds = STEPS * ASSUMED["step_seconds"]
    fleets = "\n".join(
        f"- {name}: {tasks} tasks of {CONFIG.worker_concurrency} slots; {found:.0%} of the turns find one"
        for name, (tasks, found) in {"steady": fleet(STEADY, seconds), "bursty": fleet(BURSTY, seconds)}.items()
    )
    return {
        "at rest": "\n".join(_table("USD a month", rest)),
        "a million turns": "\n".join(_table("USD a million turns", turns)) + f"\n\n{model}",
        "measured": measured,
        "fleets": fleets,
        "prices": (
            f"Prices are those of us-east-1. On {PRICES['compared_on']} they were compared with what others quote of "
            f"AWS's pages, but for these, from memory: {', '.join(map('`{}`'.format, PRICES['not_compared']))}."
        ),
    }


def _measured(steps: int) -> str:
    turn = Turn(steps)
    requests, units = turn.requests.total(), turn.write_units
    kinds = f"{units} write units of the table, {turn.index_units} of its indexes, {turn.reads} reads"
    return f"{steps} step{'s' * (steps > 1)}: {requests} requests to the table; {kinds}"


def _table(corner: str, columns: Mapping[str, Items]) -> Iterator[str]:
    yield f"| {corner} | {' | '.join(columns)} |"
    yield f"|---|{'---:|' * len(columns)}"
    rows = list(dict.fromkeys(name for items in columns.values() for name in items))
    for row in rows:
        if any(items[row] for items in columns.values()):
            yield f"| {row} | {' | '.join(_usd(items[row]) for items in columns.values())} |"
    yield f"| **all** | {' | '.join(f'**{_usd(sum(items.values()))}**' for items in columns.values())} |"


def _usd(amount: float) -> str:
    return f"{amount:,.2f}" if amount else ""


def main() -> int:
    rest, turns = columns()
    with Results("cost", about={"prices compared on": str(PRICES["compared_on"])}) as results:
        for name, items in rest.items():
            results.count("a month at rest", "USD", sum(items.values()), of=name)
        for name, items in turns.items():
            for item, usd in items.items():
                if usd:
                    results.count("a million turns", "USD", usd, of=name, item=item)
            results.count("a million turns", "USD", sum(items.values()), of=name, steps=STEPS)
        results.count("a million turns", "USD", model_usd(STEPS), of="the model", steps=STEPS)
    return 0


if __name__ == "__main__":
    main()
