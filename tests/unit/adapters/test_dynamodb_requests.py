"""What goes out to DynamoDB, and what its answers mean: as a client of botocore has it."""

from __future__ import annotations

import base64
import json
from types import SimpleNamespace
from typing import Any

import pytest
from botocore.exceptions import ClientError, HTTPClientError, NoCredentialsError

from turnkeeper.adapters.aws import Aws
from turnkeeper.adapters.dynamodb import DynamoTable
from turnkeeper.adapters.dynamodb_requests import DynamoRequests
from turnkeeper.core.errors import Unavailable
from turnkeeper.ports import ABSENT, ConditionFailed, Key, Put


@pytest.fixture
def client(monkeypatch: pytest.MonkeyPatch) -> Any:
    for name, value in (("ACCESS_KEY_ID", "AKIDEXAMPLE"), ("SECRET_ACCESS_KEY", "secret"), ("SESSION_TOKEN", "token")):
        monkeypatch.setenv(f"AWS_{name}", value)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    return Aws(region="eu-west-1").dynamodb


def answering(client: Any, status: int, body: bytes) -> list[Any]:
    """Requests that were sent, each answered like this."""
    sent: list[Any] = []

    def answer(request: Any, **_: Any) -> Any:
        sent.append(request)
        return SimpleNamespace(status_code=status, content=body, headers={})

    client.meta.events.register("before-send.dynamodb", answer)
    return sent


def test_the_same_is_sent_as_by_a_client(client: Any) -> None:
    sent = answering(client, 200, b"{}")
    item = {"pk": {"S": "p"}, "sk": {"S": "\u00e9"}, "data": {"B": b"\x00\xff"}, "n": {"N": "1"}}
    arguments = {"TransactItems": [{"Put": {"TableName": "t", "Item": item}}], "ClientRequestToken": "x" * 32}
    assert DynamoRequests(client).transact_write_items(**arguments) == {}
    client.transact_write_items(**arguments)
    ours, theirs = sent
    assert (ours.url, ours.method, json.loads(ours.body)) == (theirs.url, theirs.method, json.loads(theirs.body))
    for name in ("X-Amz-Target", "Content-Type", "X-Amz-Security-Token"):
        assert ours.headers[name] in (theirs.headers[name], theirs.headers[name].decode())
    signed = ours.headers["Authorization"]
    assert "AKIDEXAMPLE/" in signed
    assert "/eu-west-1/dynamodb/aws4_request" in signed
    assert "x-amz-security-token" in signed


def test_bytes_come_back_as_they_were(client: Any) -> None:
    data = base64.b64encode(b"\x00\xff").decode()
    answering(client, 200, json.dumps({"Item": {"pk": {"S": "p"}, "sk": {"S": "s"}, "data": {"B": data}}}).encode())
    assert DynamoTable(DynamoRequests(client), "t").get(Key("p", "s")) == {"pk": "p", "sk": "s", "data": b"\x00\xff"}


def test_a_refusal_is_told_as_a_client_tells_it(client: Any) -> None:
    reasons = [{"Code": "ConditionalCheckFailed", "Item": {"pk": {"S": "p"}, "sk": {"S": "s"}}}, {"Code": "None"}]
    told = {"__type": "com.amazonaws.dynamodb.v20120810#TransactionCanceledException", "CancellationReasons": reasons}
    answering(client, 400, json.dumps({**told, "Message": "why"}).encode())
    with pytest.raises(ClientError) as refused:
        DynamoRequests(client).transact_write_items(TransactItems=[])
    assert refused.value.response["Error"] == {"Code": "TransactionCanceledException", "Message": "why"}
    with pytest.raises(ConditionFailed) as failed:
        DynamoTable(DynamoRequests(client), "t").write([Put(Key("p", "s"), {}, (ABSENT,)), Put(Key("p", "t"), {})])
    assert failed.value.failures == {0: {"pk": "p", "sk": "s"}}


@pytest.mark.parametrize("body", [b"", b"<html>", b"null", b"[]", b'"busy"', b"\xff", b'{"Attributes": {'])
def test_an_answer_that_is_none(client: Any, body: bytes) -> None:
    """Whoever stands in between may say anything: nobody knows then what became of a write."""
    answering(client, 200, body)
    requests = DynamoRequests(client)
    for call in (requests.get_item, requests.update_item, requests.transact_write_items):
        with pytest.raises(HTTPClientError):
            call(TableName="t")
    with pytest.raises(Unavailable):
        DynamoTable(requests, "t", busy_seconds=0).write([Put(Key("p", "s"), {})])


@pytest.mark.parametrize("body", [b"", b"<html>", b"null", b"[]", b'"busy"', b"\xff"])
def test_a_refusal_in_other_words_than_dynamodbs(client: Any, body: bytes) -> None:
    answering(client, 503, body)
    with pytest.raises(ClientError) as refused:
        DynamoRequests(client).get_item(TableName="t", Key={})
    assert refused.value.response["ResponseMetadata"]["HTTPStatusCode"] == 503
    assert refused.value.response["Error"]["Code"] == "503"


def test_nothing_is_sent_without_credentials(monkeypatch: pytest.MonkeyPatch, client: Any) -> None:
    sent = answering(client, 200, b"{}")
    monkeypatch.setattr(client._request_signer, "_credentials", None)
    with pytest.raises(NoCredentialsError):
        DynamoRequests(client).get_item(TableName="t", Key={})
    assert sent == []


@pytest.mark.parametrize("value", [{1, 2}, object()])
def test_what_is_no_json_is_a_defect(client: Any, value: object) -> None:
    with pytest.raises(TypeError, match="a request holds no"):
        DynamoRequests(client).get_item(TableName=value)
