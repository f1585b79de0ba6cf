from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from functions.observe import handler as module
from functions.observe.alerting import Alerting
from functions.observe.records import Changed
from tests.support.clients import Client, refusal
from tests.support.kit import WHO, MemoryKit
from tests.unit.observe.conftest import Stream, image
from turnkeeper.adapters.sns import SnsAlerts
from turnkeeper.core.errors import Unavailable
from turnkeeper.core.session import Entry, Stop
from turnkeeper.runtime.intake import NewSession
from turnkeeper.runtime.store import codec, keys
from turnkeeper.runtime.world import Allowance
from turnkeeper.table import Item


@pytest.fixture
def kit(monkeypatch: pytest.MonkeyPatch) -> MemoryKit:
    kit = MemoryKit(runner="none")
    monkeypatch.setattr(module, "_kit", lambda: kit)
    return kit


@pytest.fixture
def stream(kit: MemoryKit) -> Stream:
    return Stream(kit)


@pytest.fixture
def observe(stream: Stream, capsys: pytest.CaptureFixture[str]) -> Iterator[Callable[[], list[dict[str, Any]]]]:
    """Hand over what has changed; the metrics that were printed."""

    def run() -> list[dict[str, Any]]:
        capsys.readouterr()
        assert module.handler(stream.event(), None) == {"batchItemFailures": []}
        return [json.loads(line) for line in capsys.readouterr().out.splitlines() if line.startswith("{")]

    yield run


def total(metrics: list[dict[str, Any]], name: str, **dimensions: str) -> float:
    """The sum of a metric over the lines that have these dimensions."""
    found = 0.0
    for line in metrics:
        declared = line["_aws"]["CloudWatchMetrics"][0]
        assert declared["Namespace"] == "Turnkeeper"
        if name in {metric["Name"] for metric in declared["Metrics"]}:
            assert set(dimensions) <= set(declared["Dimensions"][0])
            if all(line[key] == value for key, value in dimensions.items()):
                found += sum(line[name])
    return found


def run(kit: MemoryKit, agent: str, text: str) -> Any:
    head = kit.intake.create(WHO, NewSession(agent, text, {}))
    return kit.engine.run("acme", head.session_id, Allowance(runner="fargate"))


def test_a_turn_is_measured(kit: MemoryKit, observe: Callable[[], list[dict[str, Any]]]) -> None:
    text = '[[tool add {"a": 1, "b": 2} & tool nosuch {}]][[tool fail {"why": "x"}]][[say done]]'
    head = run(kit, "helper", text)
    metrics = observe()
    assert total(metrics, "turns", agent="helper", reason="end_turn") == 1
    assert total(metrics, "steps", agent="helper") == 3 == total(metrics, "model_calls", agent="helper")
    assert total(metrics, "cost_nanousd", agent="helper") == head.account.cost_nanousd > 0
    for name, tokens in head.account.usage.model_dump().items():
        assert total(metrics, name, agent="helper") == tokens
    assert total(metrics, "tool_calls", outcome="ok") == 1
    assert total(metrics, "tool_calls", outcome="denied") == 1
    assert total(metrics, "tool_calls", outcome="error") == 1
    assert total(metrics, "reservations", state="settled") == 3
    assert total(metrics, "in_doubt_nanousd", state="in_doubt") == 0
    assert total(metrics, "turn_duration", agent="helper") >= 0
    assert kit.alerts.alerts == []
    assert observe() == []


def test_money_in_doubt_handoffs_and_takeovers_are_measured(
    kit: MemoryKit, observe: Callable[[], list[dict[str, Any]]]
) -> None:
    run(kit, "plain", "[[cut]][[say done]]")
    metrics = observe()
    assert total(metrics, "reservations", state="in_doubt") + total(metrics, "reservations", state="settled") == 2
    head = kit.intake.create(WHO, NewSession("slow", "hi", {}))
    kit.engine.run("acme", head.session_id, Allowance(runner="fargate", draining=lambda: True))
    kit.sessions.send_again(kit.head(head.session_id))
    metrics = observe()
    assert total(metrics, "handoffs", agent="slow") == 1
    assert total(metrics, "handoffs_sent_again", agent="slow") == 1
    assert total(metrics, "turns", agent="slow") == 0


def test_a_breaker_trip_is_told_with_what_was_repeated_and_without_what_was_said(
    kit: MemoryKit, observe: Callable[[], list[dict[str, Any]]]
) -> None:
    head = run(kit, "helper", '[[repeat 9]][[tool read_note {"title": "my secret diary"}]]')
    assert head.stop.reason == "repetition"
    observe()
    [alert] = kit.alerts.alerts
    assert alert.kind == "breaker_trip"
    assert alert.subject == f"Session {head.session_id} of tenant acme ended its turn: repetition"
    told = dict(alert.data)
    assert (told["tenant_id"], told["session_id"], told["reason"]) == ("acme", head.session_id, "repetition")
    assert (told["tool"], told["times"], told["argument_names"]) == ("read_note", 3, ["title"])
    assert "diary" not in json.dumps(told)


def test_a_cap_trip_and_a_providers_bad_day_are_told(
    kit: MemoryKit, observe: Callable[[], list[dict[str, Any]]]
) -> None:
    kit.tenants.set("acme", actor="op", caps={"user_daily": 10_000})
    run(kit, "plain", "hello")
    kit.tenants.set("acme", actor="op", caps={"user_daily": None})
    run(kit, "plain", "[[fail 400]][[say never]]")
    observe()
    cap, provider = kit.alerts.alerts
    assert (cap.kind, cap.data["scope"], cap.data["contended"]) == ("cap_trip", "user_daily", False)
    assert (provider.kind, provider.data["status_code"]) == ("provider_error", 400)
    assert "error" not in provider.data, "a provider's error may quote what it was sent"


@pytest.mark.parametrize("reason", ["end_turn", "end_task", "cancelled", "paused", "refusal", "max_tokens"])
def test_what_somebody_wanted_alerts_nobody(kit: MemoryKit, reason: Any) -> None:
    Alerting(kit.alerts, kit.blobs).see(status_entry(kit, Stop(reason=reason)))
    assert kit.alerts.alerts == []


def test_an_internal_error_is_told_by_its_type(kit: MemoryKit) -> None:
    stop = Stop(reason="internal_error", detail={"error": "ZeroDivisionError", "text": "with contents"})
    Alerting(kit.alerts, kit.blobs).see(status_entry(kit, stop))
    [alert] = kit.alerts.alerts
    assert (alert.kind, alert.data["error"]) == ("internal_error", "ZeroDivisionError")
    assert "contents" not in str(alert)


def test_one_bad_record_holds_up_nothing(kit: MemoryKit, stream: Stream, observe: Any) -> None:
    run(kit, "plain", "hello")
    good = list(stream.records)
    broken = [
        {"eventID": "a", "eventName": "INSERT", "dynamodb": {"SequenceNumber": "1"}},
        {"eventID": "b", "eventName": "MODIFY", "dynamodb": {"SequenceNumber": "2", "NewImage": {"pk": {"S": "T#a"}}}},
        {"eventID": "c", "eventName": "INSERT", "dynamodb": {"SequenceNumber": "3", "NewImage": {"pk": {"X": 1}}}},
        {"eventID": "d"},
        {"eventName": "INSERT", "dynamodb": {"SequenceNumber": "4", "NewImage": image(damaged())}},
    ]
    stream.records[:] = [*broken, *good]  # type: ignore[list-item]
    assert total(observe(), "turns", agent="plain", reason="end_turn") == 1


def test_a_record_that_cannot_be_read_now_comes_again_with_those_behind_it(
    kit: MemoryKit, stream: Stream, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run(kit, "plain", "hello")
    before = len(stream.records)
    run(kit, "brief", '[[repeat 9]][[tool add {"a": 1, "b": 1}]]')
    event = stream.event()
    at = next(
        index
        for index, record in enumerate(event["Records"])
        if index >= before and record["dynamodb"]["NewImage"]["sk"]["S"].startswith("ENTRY#")
        if record["dynamodb"]["NewImage"]["type"]["S"] == "status"
    )

    def down(*_: Any) -> None:
        raise Unavailable("S3 is out of reach")

    with monkeypatch.context() as patched:
        seen = codec.entry_of

        def entry_of(item: Any, blobs: Any) -> Any:
            entry = seen(item, blobs)
            return down() if entry.stop and entry.stop.reason == "iteration_limit" else entry

        patched.setattr("functions.observe.alerting.codec.entry_of", entry_of)
        answer = module.handler(event, None)
    assert answer == {"batchItemFailures": [{"itemIdentifier": event["Records"][at]["dynamodb"]["SequenceNumber"]}]}
    assert kit.alerts.alerts == []
    assert module.handler({"Records": event["Records"][at:]}, None) == {"batchItemFailures": []}
    assert [alert.data["reason"] for alert in kit.alerts.alerts] == ["iteration_limit"]


@pytest.mark.parametrize("answer", [refusal("AuthorizationError", 403), refusal("InternalError", 500)])
def test_an_alert_that_cannot_be_sent_comes_again_with_its_record(
    kit: MemoryKit, stream: Stream, monkeypatch: pytest.MonkeyPatch, answer: Exception
) -> None:
    record = {"pk": "T#acme#S#ses_1", "sk": "AUDIT#000001", "text": "as it was"}
    stream.records.append(
        {
            "eventName": "MODIFY",
            "dynamodb": {
                "SequenceNumber": "7",
                "OldImage": image(record),
                "NewImage": image({**record, "text": "as somebody wants it"}),
            },
        }
    )
    event = stream.event()
    topic: Any = Client(answer)
    with monkeypatch.context() as patched:
        patched.setattr(kit, "alerts", SnsAlerts(topic, "arn"))
        assert module.handler(event, None) == {"batchItemFailures": [{"itemIdentifier": "7"}]}
    assert module.handler(event, None) == {"batchItemFailures": []}
    assert [alert.kind for alert in kit.alerts.alerts] == ["audit_tampering"]


def test_a_removed_item_and_other_items_are_nothing(kit: MemoryKit, observe: Any, stream: Stream) -> None:
    kit.tenants.set("acme", actor="op", shards=2)
    stream.records.append({"eventName": "REMOVE", "dynamodb": {"SequenceNumber": "9", "OldImage": image(damaged())}})
    assert observe() == []


def status_entry(kit: MemoryKit, stop: Stop) -> Changed:
    entry = Entry(seq=7, type="status", at="2026-11-22T10:00:00.000Z", status="stopped", stop=stop, runner="lambda")
    key = keys.entry_key("acme", "ses_1", 7)
    item = {**codec.entry_item(entry, kit.blobs, "claims/"), "pk": key.pk, "sk": key.sk}
    return Changed("acme", "ses_1", key.sk, None, item)


def damaged() -> Item:
    key = keys.entry_key("acme", "ses_1", 1)
    return {"pk": key.pk, "sk": key.sk, "seq": 1, "type": "status", "at": "x", "data": b"\x78nonsense"}
