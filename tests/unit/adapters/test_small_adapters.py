"""Clock, ids, turns, alerts, blobs and clients."""

from __future__ import annotations

import json
import logging
import re
from contextlib import nullcontext
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler
from io import BytesIO
from typing import Any

import pytest
from botocore.exceptions import ClientError, ReadTimeoutError

from tests.support.clients import Client, refusal
from tests.support.pages import answering
from turnkeeper.adapters.aws import Aws, outages
from turnkeeper.adapters.lambda_turns import LambdaTurns
from turnkeeper.adapters.s3 import S3Blobs
from turnkeeper.adapters.sns import LogAlerts, SnsAlerts
from turnkeeper.adapters.system import SystemClock, SystemIds, session_id_of
from turnkeeper.core.errors import Unavailable
from turnkeeper.testing.clock import ManualClock, SeededIds
from turnkeeper.testing.recorders import RecordedAlerts, RecordedTurns

# ---- clock and ids ----


def test_session_ids_sort_by_time_and_are_never_alike() -> None:
    ids = SystemIds()
    made = [ids.session_id() for _ in range(100)]
    assert len(set(made)) == 100
    assert all(re.fullmatch(r"ses_[0-9A-HJKMNP-TV-Z]{26}", each) for each in made)
    assert [each[:14] for each in made] == sorted(each[:14] for each in made)
    assert session_id_of(1, 2**80 - 1) < session_id_of(2, 0)
    assert session_id_of(2**48 - 1, 2**80 - 1) == "ses_7ZZZZZZZZZZZZZZZZZZZZZZZZZ"
    assert session_id_of(0, 0) == "ses_" + "0" * 26


def test_tokens_and_jitter() -> None:
    for ids in (SystemIds(), SeededIds()):
        assert ids.token() != ids.token()
        assert all(0 <= ids.jitter() < 1 for _ in range(100))
        assert ids.session_id() != ids.session_id()
    seeded = SeededIds()
    assert seeded.session_id() < seeded.session_id()


def test_seeded_ids_are_the_same_in_every_run() -> None:
    first, second = SeededIds(7), SeededIds(7)
    assert [(first.session_id(), first.token(), first.jitter())] == [
        (second.session_id(), second.token(), second.jitter())
    ]


def test_a_manual_clock_moves_by_sleeping() -> None:
    clock = ManualClock(datetime(2026, 1, 31, 23, 59, tzinfo=UTC))
    clock.sleep(90)
    assert clock.now() == datetime(2026, 2, 1, 0, 0, 30, tzinfo=UTC)
    assert clock.monotonic() == 90
    with pytest.raises(ValueError, match="back"):
        clock.advance(-1)


def test_the_system_clock_is_aware() -> None:
    clock = SystemClock()
    assert clock.now().tzinfo is UTC
    before = clock.monotonic()
    clock.sleep(0.001)
    assert clock.monotonic() > before


# ---- turns ----


def taken() -> dict[str, Any]:
    return {"StatusCode": 202, "Payload": BytesIO()}


def test_a_turn_is_started_asynchronously() -> None:
    client: Any = Client(taken())
    LambdaTurns(client, "turn").start("acme", "ses_1")
    (request,) = client.requests
    assert (request["FunctionName"], request["InvocationType"]) == ("turn", "Event")
    assert json.loads(request["Payload"]) == {"tenant_id": "acme", "session_id": "ses_1"}


def test_a_lambda_that_takes_no_event_is_unavailable() -> None:
    client: Any = Client(refusal("TooManyRequestsException", 429))
    with pytest.raises(Unavailable):
        LambdaTurns(client, "turn").start("acme", "ses_1")


MOVING = ["ResourceNotFoundException", "ResourceConflictException", "SnapStartNotReadyException"]


@pytest.mark.parametrize("code", MOVING)
@pytest.mark.parametrize("refusals", range(6))
def test_a_function_that_is_not_found_while_its_alias_moves_is_asked_again(code: str, refusals: int) -> None:
    client: Any = Client()
    answers = iter([refusal(code, 404)] * refusals)
    events: list[dict[str, Any]] = []

    def invoke(**arguments: Any) -> dict[str, Any]:
        if (answer := next(answers, None)) is not None:
            raise answer
        events.append(arguments)
        return taken()

    client.invoke = invoke
    turns = LambdaTurns(client, "turn", ManualClock())
    with pytest.raises(Unavailable) if refusals > 3 else nullcontext():
        turns.start("acme", "ses_1")
    assert len(events) == (0 if refusals > 3 else 1)


def test_a_start_that_is_forbidden_is_not_asked_again() -> None:
    client: Any = Client(refusal("AccessDeniedException", 403))
    with pytest.raises(ClientError):
        LambdaTurns(client, "turn", ManualClock()).start("acme", "ses_1")
    assert len(client.requests) == 1


def test_one_connection_serves_all_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    connections = set()

    class Lambda(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            connections.add(self.client_address)
            self.send_response(202)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *arguments: Any) -> None:
            pass

    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    with answering(Lambda) as url:
        aws = Aws(region="eu-west-1", endpoint_url=url)
        for number in range(3):
            LambdaTurns(aws.lambda_, "turn").start("acme", f"ses_{number}")
    assert len(connections) == 1


def test_recorders_take_note() -> None:
    heard: list[str] = []
    turns, alerts = RecordedTurns(lambda _, session_id: heard.append(session_id)), RecordedAlerts()
    turns.start("acme", "ses_1")
    alerts.alert("kind", "subject", {"a": 1})
    assert turns.started == [("acme", "ses_1")]
    assert heard == ["ses_1"]
    assert alerts.alerts[0].kind == "kind"


# ---- alerts ----


def test_an_alert_is_published_in_one_line_of_ascii(caplog: pytest.LogCaptureFixture) -> None:
    client: Any = Client({})
    with caplog.at_level(logging.WARNING):
        SnsAlerts(client, "arn").alert("cost", "ü\nspent " + "x" * 200, {"tenant_id": "acme"})
    (request,) = client.requests
    assert request["Subject"].startswith("[cost] ? spent xxx")
    assert len(request["Subject"]) == 100
    assert json.loads(request["Message"])["data"] == {"tenant_id": "acme"}
    assert request["MessageAttributes"]["kind"]["StringValue"] == "cost"
    assert "cost" in caplog.text


@pytest.mark.parametrize("code", [("AuthorizationError", 403), ("NotFound", 404), ("Throttling", 400), ("Oops", 500)])
def test_an_alert_that_is_not_taken_is_logged_and_comes_again(
    code: tuple[str, int], caplog: pytest.LogCaptureFixture
) -> None:
    client: Any = Client(refusal(*code))
    with caplog.at_level(logging.WARNING), pytest.raises(Unavailable) as raised:
        SnsAlerts(client, "arn").alert("cost", "subject", {"strange": object()})
    assert raised.value.retryable
    assert "alert cost: subject" in caplog.text


def test_an_alert_in_the_log_takes_anything() -> None:
    LogAlerts().alert("cost", "subject", {"strange": object()})


def test_an_alert_that_is_too_large_is_published_without_its_data() -> None:
    client: Any = Client({})
    SnsAlerts(client, "arn").alert("cost", "s" * 2000, {"x": "x" * 300_000})
    message = json.loads(client.requests[0]["Message"])
    assert message["kind"] == "cost"
    assert len(client.requests[0]["Message"]) < 2000


# ---- blobs and clients ----


def test_blobs_tell_what_is_missing_from_what_is_broken() -> None:
    def blobs(answer: Any) -> S3Blobs:
        client: Any = Client(answer)
        return S3Blobs(client, "bucket")

    with pytest.raises(KeyError):
        blobs(refusal("NoSuchKey", 404)).get("k")
    with pytest.raises(ClientError):
        blobs(refusal("AccessDenied", 403)).get("k")
    with pytest.raises(Unavailable):
        blobs(refusal("SlowDown", 503)).get("k")


def test_objects_that_were_not_deleted_are_not_passed_over() -> None:
    class Paged(Client):
        def get_paginator(self, _: str) -> Any:
            return Client([{"Contents": [{"Key": "a/1"}]}])

    client: Any = Paged({"Errors": [{"Key": "a/1", "Code": "InternalError"}]})
    with pytest.raises(Unavailable, match="InternalError"):
        S3Blobs(client, "bucket").delete_prefix("a/")


@pytest.mark.parametrize(
    "error", [refusal("ThrottlingException"), refusal("Any", 500), ReadTimeoutError(endpoint_url="https://aws")]
)
def test_outages_are_unavailable(error: Exception) -> None:
    with pytest.raises(Unavailable), outages("SQS"):
        raise error


def test_clients_are_made_once_and_retry_as_they_should() -> None:
    aws = Aws(region="eu-west-1", max_pool_connections=32)
    assert aws.dynamodb is aws.dynamodb
    settings: Any = {each.meta.service_model.service_name: each.meta.config for each in (aws.dynamodb, aws.sqs)}
    # The table retries by itself, and must see each attempt.
    assert settings["dynamodb"].retries == {"mode": "standard", "total_max_attempts": 1}
    assert settings["dynamodb"].read_timeout == 3
    # Longer than a long poll.
    assert settings["sqs"].read_timeout > 20
    assert settings["sqs"].max_pool_connections == 32
