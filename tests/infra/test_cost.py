"""docs/cost.md says what the templates, the engine and the prices give; the arithmetic is tried on its own."""

from __future__ import annotations

from typing import Any

import pytest

from benchmarks.cost import BURSTY, CONFIG, PRICES, STEADY, Traffic, Turn, a_million, at_rest, fleet, model_usd
from tests.infra.variants import Variants
from tests.support.docs import DOCS, cost_page


def test_the_page_is_current() -> None:
    assert (DOCS / "cost.md").read_text() == cost_page(), "docs/cost.md is not current: `make docs`"


def test_what_was_not_compared_is_a_price() -> None:
    for name in PRICES["not_compared"]:
        table, key = name.split(".")
        assert PRICES[table][key] > 0


def resource(kind: str, **properties: Any) -> dict[str, Any]:
    return {"Type": kind, "Properties": properties}


def test_each_thing_is_counted_and_priced() -> None:
    metric = {"MetricStat": {}}
    resources = [
        resource("AWS::EC2::NatGateway"),
        resource("AWS::EC2::EIP"),
        resource("AWS::EC2::EIP"),
        resource("AWS::EC2::VPCEndpoint", VpcEndpointType="Gateway"),
        resource("AWS::EC2::VPCEndpoint", VpcEndpointType="Interface", SubnetIds=["a", "b"]),
        resource("AWS::Lambda::Function", MemorySize=2048, SnapStart={"ApplyOn": "PublishedVersions"}),
        resource("AWS::Lambda::Function", MemorySize=1024),
        resource("AWS::SecretsManager::Secret"),
        resource("AWS::CloudWatch::Alarm", MetricName="Errors"),
        resource("AWS::CloudWatch::Alarm", Metrics=[{"Expression": "a + b"}, metric, metric]),
        resource("AWS::CloudWatch::Alarm", Metrics=[{"Expression": "SELECT ..."}]),
        resource("AWS::CloudWatch::Alarm", Metrics=[{"Expression": "ANOMALY..."}, metric], ThresholdMetricId="band"),
        resource("AWS::CloudWatch::CompositeAlarm"),
        resource("AWS::CloudWatch::Dashboard"),
    ]
    halves = [{"Resources": {str(i): one for i, one in enumerate(resources) if i % 2 == half}} for half in (0, 1)]
    items = {name: round(usd, 2) for name, usd in at_rest(halves).items()}
    assert items.pop("the sweep, every minute") < 0.20
    assert items == {
        "NAT gateways": 32.85,
        "public addresses": 7.30,
        "interface endpoints": 14.60,
        "the turn runner's snapshot (one version)": 7.91,
        "secrets": 0.40,
        "alarms": 1.20,
        "dashboard": 3.00,
    }


def test_what_is_cheaper_is_cheaper(variants: Variants) -> None:
    rest = {name: sum(at_rest(list(variant.templates.values())).values()) for name, variant in variants.items()}
    assert rest["prod-no-nat"] == pytest.approx(rest["dev-jwt"])
    nat = (PRICES["network"]["nat_gateway_hour"] + PRICES["network"]["public_address_hour"]) * PRICES["month"]["hours"]
    assert rest["prod-jwt"] - rest["prod-no-nat"] == pytest.approx(nat)


def test_a_turn_costs_by_what_it_writes_and_how_long_it_takes() -> None:
    one, four = Turn(1), Turn(4)
    assert (four.requests - one.requests) == {"TransactWriteItems": 2 * 3}
    short, long, job = a_million(1, "latency"), a_million(4, "latency"), a_million(4, "job")
    assert long["table: items written"] == pytest.approx(four.write_units * 0.625)
    assert job["front door"] == job["turn runner"] == short["worker"] == 0
    assert sum(short.values()) < sum(long.values()) < model_usd(4)
    assert sum(job.values()) < sum(long.values()) / 3


def test_what_finds_a_slot_is_paid_by_the_task_and_what_does_not_by_lambda() -> None:
    (tasks, steady), (most, bursty) = fleet(STEADY, 15), fleet(BURSTY, 15)
    assert tasks * CONFIG.worker_concurrency >= 10 * 15 and most == CONFIG.worker_max_tasks
    assert 0.9 < steady < 1 and bursty < steady
    # With as many calls as slots, Erlang's own table says so.
    assert fleet(Traffic(CONFIG.worker_concurrency * 0.75), 1)[1] == pytest.approx(1 - 0.0045, abs=0.0001)
    latency, economy, burst = (a_million(3, "latency"), a_million(3, "economy"), a_million(3, "economy", BURSTY))
    polled = a_million(3, "economy", polls=True)
    assert economy["turn runner"] == pytest.approx((1 - steady) * latency["turn runner"])
    assert sum(polled.values()) < sum(economy.values()) < sum(burst.values()) < sum(latency.values())
