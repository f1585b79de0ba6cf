"""What is emitted, as CloudWatch reads it: alarms and graphs are made from `METRICS`."""

from __future__ import annotations

import json
from typing import Any

import pytest

from functions.observe import handler as module
from functions.observe.metering import METRICS, NAMESPACE, Tally
from functions.observe.records import Changed, changed
from tests.support.kit import WHO, MemoryKit
from tests.unit.observe.conftest import Stream
from turnkeeper.runtime.intake import NewSession
from turnkeeper.runtime.world import Allowance

FILLED = ["cache_read_input_tokens", "cache_creation_input_tokens", "input_tokens", "output_tokens"]


def emitted(printed: str, namespace: str = NAMESPACE) -> dict[str, set[frozenset[str]]]:
    """Metric names with the sets of dimensions that CloudWatch files them under."""
    found: dict[str, set[frozenset[str]]] = {}
    for line in map(json.loads, printed.splitlines()):
        for declared in line["_aws"]["CloudWatchMetrics"]:
            assert declared["Namespace"] == namespace
            for metric in declared["Metrics"]:
                found.setdefault(metric["Name"], set()).update(map(frozenset, declared["Dimensions"]))
    return found


def test_what_is_emitted_is_what_the_table_says(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("POWERTOOLS_SERVICE_NAME", "observe")
    kit = MemoryKit(runner="none")
    monkeypatch.setattr(module, "_kit", lambda: kit)
    stream = Stream(kit)
    head = kit.intake.create(WHO, NewSession("helper", '[[tool add {"a": 1, "b": 2}]][[say done]]', {}))
    kit.engine.run("acme", head.session_id, Allowance(runner="fargate"))
    head = kit.intake.create(WHO, NewSession("slow", "hi", {}))
    kit.engine.run("acme", head.session_id, Allowance(runner="fargate", draining=lambda: True))
    kit.sessions.send_again(kit.head(head.session_id))
    records = list(stream.records)
    capsys.readouterr()
    assert module.handler(stream.event(), None) == {"batchItemFailures": []}
    _unusual(records)
    assert emitted(capsys.readouterr().out) == {
        name: {frozenset((*dimensions, "service"))} for name, dimensions in METRICS.items()
    }


def _unusual(records: list[dict[str, Any]]) -> None:
    """What a quiet day does not bring: a runner that died, a call whose cost nobody knows, a cache."""
    seen = [change for record in records if (change := changed(record)) is not None and change.old is not None]
    head = next(one for one in seen if one.sk == "HEAD")
    call = next(one for one in seen if one.sk.startswith("CALL#"))
    token = int(head.new["fencing_token"])
    tally = Tally()
    taken = {**head.new, "fencing_token": token + 1, "usage": json.dumps(dict.fromkeys(FILLED, 1_000_000))}
    tally.see(Changed("acme", "ses_1", "HEAD", {**head.new, "lease_owner": "dead"}, taken))
    pending, doubtful = {**call.new, "state": "pending"}, {**call.new, "state": "in_doubt", "spent_nanousd": 5}
    tally.see(Changed("acme", "ses_1", call.sk, pending, doubtful))
    tally.flush()


def test_two_deployments_of_an_account_count_apart(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("POWERTOOLS_METRICS_NAMESPACE", "Turnkeeper/TurnkeeperDev")
    tally = Tally()
    tally.see(Changed("acme", "ses_1", "AUDIT#1", None, {"kind": "tool_call", "outcome": "ok"}))
    tally.flush()
    assert set(emitted(capsys.readouterr().out, "Turnkeeper/TurnkeeperDev")) == {"tool_calls"}
