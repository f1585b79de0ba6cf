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
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final

from benchmarks.gate import Bench
from functions.api.stages.wait import until
from turnkeeper.ports import Item, ModelReply, ModelRequest
from turnkeeper.runtime.store import keys
from turnkeeper.testing.clock import ManualClock, SeededIds
from turnkeeper_infra import names

Prices = Mapping[str, Mapping[str, float]]
Items = Mapping[str, float]
PRICES: Final[Any] = tomllib.loads((Path(__file__).parent / "prices.toml").read_text())
MILLION: Final = 1_000_000

#: What a turn takes besides what is measured. Seconds are the model's above all.
ASSUMED: Final = {
    "step_seconds": 5.0,
    "sweep_seconds": 0.2,
    "observer_seconds": 0.1,
    "cold_starts_share": 0.01,
    "log_bytes_a_step": 2_000,
    "sessions_a_task": 8,
}
#: The longest that it waits.
WAIT_SECONDS: Final = 25

IDENTITY: Final = {"identity": "jwt", "jwt_issuer": "https://issuer.example", "jwt_audience": ["turnkeeper"]}
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
            + ASSUMED["sweep_seconds"] * 0.5 * function["arm_gb_second"]
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
        app = cdk.App(outdir=folder)
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


def a_million(steps: int, *, worker: bool, prices: Prices = PRICES) -> Items:
    """USD for a million turns of so many steps, by item: interactive ones, or jobs on a worker that is kept busy."""
    turn = Turn(steps)
    table, function, other = prices["dynamodb"], prices["lambda"], prices["other"]
    seconds = steps * ASSUMED["step_seconds"]
    waited = 0.0 if worker else min(seconds, WAIT_SECONDS)
    runner_gb = 1769 / 1024
    each = {
        "API and queue": other["queue_request"] * 3 if worker else other["api_request"],
        "table: items written": turn.write_units * table["write_unit"],
        "table: indexes": turn.index_units * table["write_unit"],
        "table: reads": (turn.reads + _looks(waited)) * table["read_unit"],
        "front door": 0.0 if worker else function["request"] + waited * function["arm_gb_second"],
        "turn runner": 0.0
        if worker
        else function["request"]
        + seconds * runner_gb * function["arm_gb_second"]
        + ASSUMED["cold_starts_share"] * runner_gb * function["snapshot_restore_gb"],
        "worker": _worker_second(prices) * seconds / ASSUMED["sessions_a_task"] if worker else 0.0,
        "observer": function["request"] + ASSUMED["observer_seconds"] * 0.5 * function["arm_gb_second"],
        "logs": steps * ASSUMED["log_bytes_a_step"] / 1e9 * other["log_gb"],
    }
    return {name: MILLION * usd for name, usd in each.items()}


def _looks(seconds: float) -> int:
    """How often the front door looks for an answer that takes so long."""
    clock, looked = ManualClock(), Counter[str]()
    head: Any = SimpleNamespace(tenant_id="", session_id="")
    sessions = SimpleNamespace(head=lambda *_: looked.update(["look"]) or head)
    kit: Any = SimpleNamespace(clock=clock, sessions=sessions)
    start = clock.monotonic()
    until(kit, head, lambda _: clock.monotonic() - start >= seconds, WAIT_SECONDS)
    return looked["look"]


def model_usd(steps: int, prices: Prices = PRICES) -> float:
    """What the model takes for a million of these turns, to compare with."""
    tokens = [(500 + 800 * made, 60) for made in range(steps)]
    model = prices["model"]
    return MILLION * sum(i * model["input_token"] + o * model["output_token"] for i, o in tokens)


def _worker_second(prices: Prices) -> float:
    fargate = prices["fargate"]
    return (fargate["arm_cpu_hour"] + 4 * fargate["arm_gb_hour"]) / 3600


# The page -----------------------------------------------------------------------------------------------------------


def documentation() -> dict[str, str]:
    """The generated parts of docs/cost.md, by name."""
    rest = {name: at_rest(templates_of(settings)) for name, settings in NETWORKS.items()}
    turns = {
        "interactive, 1 step": a_million(1, worker=False),
        "interactive, 4 steps": a_million(4, worker=False),
        "job, 4 steps": a_million(4, worker=True),
    }
    measured = "\n".join(f"- {_measured(steps)}" for steps in (1, 4))
    model = f"For comparison, the model: {model_usd(1):,.0f} USD for one step each, {model_usd(4):,.0f} USD for four."
    return {
        "at rest": "\n".join(_table("USD a month", rest)),
        "a million turns": "\n".join(_table("USD a million turns", turns)) + f"\n\n{model}",
        "measured": measured,
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
    for name, text in documentation().items():
        print(f"\n{name}\n{text}")
    return 0


if __name__ == "__main__":
    main()
