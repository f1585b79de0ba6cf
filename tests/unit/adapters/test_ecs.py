"""The worker's service, on moto's ECS where it has what is asked, and on a script where it has not."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from typing import Any

import boto3
import pytest
from hypothesis import given
from hypothesis import strategies as st
from moto import mock_aws

from tests.support.pages import answering
from turnkeeper.adapters.ecs import QUIET_SECONDS, EcsTask, EcsWakes, own_task_arn
from turnkeeper.testing.clock import ManualClock

SERVICE = "Turnkeeper/worker"


class Script:
    """An ECS client that answers what it is told, and notes what it was asked."""

    def __init__(self, desired: int = 0) -> None:
        self.desired = desired
        self.asked: list[str] = []
        self.deployments: list[dict[str, Any]] = []
        self.tasks: list[dict[str, Any]] = []
        self.error: Exception | None = None

    def describe_services(self, *, cluster: str, services: list[str]) -> dict[str, Any]:
        self._ask("describe")
        assert (cluster, services) == ("Turnkeeper", ["worker"])
        return {"services": [{"desiredCount": self.desired, "deployments": self.deployments}]}

    def update_service(self, *, cluster: str, service: str, desiredCount: int) -> dict[str, Any]:
        self._ask("update")
        self.desired = desiredCount
        return {}

    def describe_tasks(self, *, cluster: str, tasks: list[str]) -> dict[str, Any]:
        self._ask("task")
        return {"tasks": self.tasks, "failures": []}

    def _ask(self, what: str) -> None:
        self.asked.append(what)
        if self.error is not None:
            raise self.error


def wakes_on(client: Any, most: int = 10) -> tuple[EcsWakes, ManualClock]:
    clock = ManualClock()
    return EcsWakes(client, SERVICE, most, clock), clock


@pytest.fixture
def ecs(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    with mock_aws():
        client = boto3.client("ecs", region_name="eu-central-1")
        client.create_cluster(clusterName="Turnkeeper")
        client.register_task_definition(
            family="worker", containerDefinitions=[{"name": "worker", "image": "worker", "memory": 512}]
        )
        client.create_service(cluster="Turnkeeper", serviceName="worker", taskDefinition="worker", desiredCount=0)
        yield client


def desired(ecs: Any) -> int:
    count: int = ecs.describe_services(cluster="Turnkeeper", services=["worker"])["services"][0]["desiredCount"]
    return count


def test_the_service_is_raised_as_far_as_it_may_and_never_lowered(ecs: Any) -> None:
    wakes, clock = wakes_on(ecs, most=10)
    seen = []
    for tasks in (1, 3, 2, 1, 25, 4):
        wakes.at_least(tasks)
        seen.append(desired(ecs))
        clock.advance(QUIET_SECONDS + 1)
    assert seen == [1, 3, 3, 3, 10, 10]


def test_a_service_that_is_not_there_disturbs_nobody(ecs: Any, caplog: pytest.LogCaptureFixture) -> None:
    wakes = EcsWakes(ecs, "Turnkeeper/another", 10, ManualClock())
    with caplog.at_level(logging.WARNING):
        wakes.at_least(1)
    assert wakes.failures == 1
    [record] = caplog.records
    assert record.__dict__["code"] == "wake_failed"


def test_a_process_looks_once_in_a_while() -> None:
    client = Script()
    wakes, clock = wakes_on(client)
    for _ in range(50):
        wakes.at_least(1)
    assert client.asked == ["describe", "update"]
    wakes.at_least(2)
    assert client.desired == 2, "more than is known is asked for at once"
    wakes.at_least(1)
    client.desired = 0  # It was sent to rest meanwhile.
    clock.advance(QUIET_SECONDS - 0.1)
    wakes.at_least(1)
    assert client.desired == 0
    clock.advance(0.2)
    wakes.at_least(1)
    assert client.desired == 1


def test_what_runs_already_is_known_after_one_look() -> None:
    client = Script(desired=7)
    wakes, _ = wakes_on(client)
    for tasks in (1, 5, 7, 3):
        wakes.at_least(tasks)
    assert (client.asked, client.desired) == (["describe"], 7)


def test_a_failed_look_is_not_repeated_by_each_sender() -> None:
    client = Script()
    client.error = TimeoutError()
    wakes, clock = wakes_on(client)
    for _ in range(5):
        wakes.at_least(1)
    assert (client.asked, wakes.failures) == (["describe"], 1)
    client.error = None
    clock.advance(QUIET_SECONDS + 0.1)
    wakes.at_least(1)
    assert client.desired == 1


@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("ask"), st.integers(1, 15)),
            st.tuples(st.just("wait"), st.integers(0, 12)),
            st.tuples(st.just("others set"), st.integers(0, 12)),
            st.tuples(st.just("fails"), st.booleans()),
        ),
        max_size=40,
    )
)
def test_whatever_happens_it_only_raises_and_is_heard_after_a_while(events: list[tuple[str, Any]]) -> None:
    client = Script()
    wakes, clock = wakes_on(client, most=10)
    for what, value in events:
        before = client.desired
        match what:
            case "ask":
                wakes.at_least(value)
                assert client.desired in {before, max(before, min(value, 10))}
            case "wait":
                clock.advance(value)
            case "others set":
                client.desired = value
            case "fails":
                client.error = TimeoutError() if value else None
    client.error = None
    clock.advance(QUIET_SECONDS + 0.1)
    wakes.at_least(4)
    assert client.desired >= 4


# ---- a task and its deployment ----


def deployment(id: str, *, status: str = "PRIMARY", running: int = 1, wanted: int = 1) -> dict[str, Any]:
    return {"id": f"ecs-svc/{id}", "status": status, "runningCount": running, "desiredCount": wanted}


@pytest.mark.parametrize(
    ("deployments", "is_replaced"),
    [
        ([deployment("1")], False),
        ([deployment("1"), deployment("2", status="ACTIVE")], False),
        ([deployment("2"), deployment("1", status="ACTIVE")], True),
        ([deployment("2", running=3, wanted=4), deployment("1", status="ACTIVE", running=4)], False),
        ([deployment("2", running=0), deployment("1", status="ACTIVE")], False),
        ([deployment("2", running=0, wanted=0)], True),
        ([deployment("1", status="ACTIVE")], False),
        ([], False),
    ],
)
def test_a_task_is_replaced_once_the_other_deployment_runs(
    deployments: list[dict[str, Any]], is_replaced: bool
) -> None:
    client = Script()
    client.tasks = [{"startedBy": "ecs-svc/1"}]
    client.deployments = deployments
    task = EcsTask(client, SERVICE, "arn:task/1")
    assert [task.is_replaced(), task.is_replaced()] == [is_replaced, is_replaced]
    assert client.asked.count("task") == 1, "a task does not change its deployment"


def test_a_task_that_nobody_knows_is_an_error() -> None:
    with pytest.raises(Exception, match="does not know"):
        EcsTask(Script(), SERVICE, "arn:task/1").is_replaced()


def test_a_task_reads_its_arn_from_the_metadata_endpoint() -> None:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            assert self.path == "/v4/abc/task"
            self.send_response(200)
            self.end_headers()
            self.wfile.write(json.dumps({"Cluster": "Turnkeeper", "TaskARN": "arn:task/7"}).encode())

        def log_message(self, format: str, *args: Any) -> None:
            pass

    with answering(Handler) as url:
        assert own_task_arn(f"{url}/v4/abc") == "arn:task/7"
