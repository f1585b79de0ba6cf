"""What CloudFormation asks before it updates the worker's service."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Callable, Iterator
from types import ModuleType, SimpleNamespace
from typing import Any

import boto3
import pytest
from moto import mock_aws

Ask = Callable[..., tuple[str, str, str | None]]


@pytest.fixture
def ask(monkeypatch: pytest.MonkeyPatch) -> Iterator[Ask]:
    """Send it an event of CloudFormation's; what it answers: status, the resource's id, reason."""
    for name, value in {
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing",
        "AWS_DEFAULT_REGION": "eu-central-1",
    }.items():
        monkeypatch.setenv(name, value)
    answers: list[tuple[str, str, str | None]] = []

    def send(event: Any, context: Any, status: str, data: Any, id: str, *, reason: str | None = None) -> None:
        json.dumps(data)
        answers.append((status, id, reason))

    given = ModuleType("cfnresponse")
    vars(given).update(SUCCESS="SUCCESS", FAILED="FAILED", send=send)
    monkeypatch.setitem(sys.modules, "cfnresponse", given)
    monkeypatch.delitem(sys.modules, "functions.prove.handler", raising=False)

    def run(request: str = "Update", service: str = "Turnkeeper/worker") -> tuple[str, str, str | None]:
        handler = importlib.import_module("functions.prove.handler").handler
        handler({"RequestType": request, "ResourceProperties": {"Service": service}}, SimpleNamespace())
        return answers.pop()

    with mock_aws():
        yield run
    assert answers == [], "it answers once"


@pytest.fixture
def ecs(ask: Ask) -> Any:
    client = boto3.client("ecs", region_name="eu-central-1")
    client.create_cluster(clusterName="Turnkeeper")
    container: Any = {"name": "worker", "image": "worker", "memory": 512}
    client.register_task_definition(family="worker", containerDefinitions=[container])
    return client


def has(ecs: Any, count: int) -> bool:
    found = ecs.describe_services(cluster="Turnkeeper", services=["worker"])["services"]
    return [one["desiredCount"] for one in found] == [count]


@pytest.mark.parametrize(("before", "after"), [(0, 1), (1, 1), (7, 7)])
def test_a_service_at_rest_is_given_a_task_and_no_other_is_changed(ask: Ask, ecs: Any, before: int, after: int) -> None:
    ecs.create_service(cluster="Turnkeeper", serviceName="worker", taskDefinition="worker", desiredCount=before)
    assert ask() == ("SUCCESS", "worker-awake", None)
    assert has(ecs, after)


def test_one_that_is_not_there_yet_is_left_to_begin_by_itself(ask: Ask, ecs: Any) -> None:
    assert ask("Update")[0] == "SUCCESS"
    assert ask("Update", "Another/worker")[0] == "SUCCESS", "nor is its cluster"


@pytest.mark.parametrize("request_type", ["Create", "Delete"])
def test_making_and_taking_down_ask_nothing(ask: Ask, ecs: Any, request_type: str) -> None:
    ecs.create_service(cluster="Turnkeeper", serviceName="worker", taskDefinition="worker", desiredCount=0)
    assert ask(request_type) == ("SUCCESS", "worker-awake", None)
    assert has(ecs, 0)


def test_a_defect_is_told_and_not_waited_for(ask: Ask) -> None:
    status, _, reason = ask("Update", "no service")
    assert status == "FAILED"
    assert reason
    assert reason.startswith("TypeError")
