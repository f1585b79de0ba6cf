from __future__ import annotations

import json
import re
from random import Random
from typing import Any

import pytest
from botocore.exceptions import ClientError, EndpointConnectionError

from turnkeeper.adapters.dead_letters import SqsDeadLetters
from turnkeeper.adapters.sqs import MAX_MESSAGE_BYTES, SqsQueue
from turnkeeper.adapters.words import SqsReplies
from turnkeeper.core.errors import Unavailable
from turnkeeper.ports import Message
from turnkeeper.testing.clock import ManualClock
from turnkeeper.testing.memory_queue import MemoryQueue


class RecordingSqs:
    """Notes what is asked; answers from ``answers`` by method."""

    def __init__(self, **answers: Any) -> None:
        self.answers = answers
        self.requests: list[tuple[str, dict[str, Any]]] = []

    def __getattr__(self, method: str) -> Any:
        def call(**arguments: Any) -> Any:
            self.requests.append((method, arguments))
            answer = self.answers.get(method, {})
            if isinstance(answer, Exception):
                raise answer
            return answer.pop(0) if isinstance(answer, list) else answer

        return call


def queue_on(client: Any) -> SqsQueue:
    return SqsQueue(client, "queue", "dead")


def refusal(code: str, message: str = "", status: int = 400) -> ClientError:
    response: Any = {"Error": {"Code": code, "Message": message}, "ResponseMetadata": {"HTTPStatusCode": status}}
    return ClientError(response, "Operation")


MESSAGE = Message("id", "receipt", "body", 1, "g")


def test_a_rejected_message_is_sent_before_it_is_deleted() -> None:
    client = RecordingSqs()
    queue_on(client).reject(MESSAGE, error_code="bad", detail="")
    assert [method for method, _ in client.requests] == ["send_message", "delete_message"]
    sent = client.requests[0][1]
    assert (sent["QueueUrl"], sent["MessageBody"], sent["MessageGroupId"]) == ("dead", "body", "g")
    assert sent["MessageAttributes"] == {
        "error_code": {"DataType": "String", "StringValue": "bad"},
        "receives": {"DataType": "String", "StringValue": "1"},
    }


def test_a_message_that_could_not_be_rejected_stays() -> None:
    client = RecordingSqs(send_message=refusal("ServiceUnavailable", status=503))
    with pytest.raises(Unavailable):
        queue_on(client).reject(MESSAGE, error_code="bad", detail="x")
    assert [method for method, _ in client.requests] == ["send_message"]


@pytest.mark.parametrize(
    ("room", "names"), [(2000, {"error_code", "detail", "receives"}), (30, {"error_code"}), (5, None)]
)
def test_reasons_take_the_room_that_is_left(room: int, names: set[str] | None) -> None:
    client = RecordingSqs()
    body = "x" * (MAX_MESSAGE_BYTES - room)
    queue_on(client).reject(Message("id", "receipt", body, 1), error_code="bad", detail="why" * 100)
    if names is None:
        # SQS moves it by itself in the end; nothing is lost.
        assert client.requests == [
            ("change_message_visibility", {"QueueUrl": "queue", "ReceiptHandle": "receipt", "VisibilityTimeout": 0})
        ]
    else:
        assert client.requests[0][1]["MessageAttributes"].keys() == names


@pytest.mark.parametrize(
    "gone",
    [
        refusal("AWS.SimpleQueueService.MessageNotInflight"),
        refusal("ReceiptHandleIsInvalid"),
        refusal(
            "InvalidParameterValue",
            "Value r for parameter ReceiptHandle is invalid. Reason: Message does not exist or is not available for "
            "visibility timeout change.",
        ),
    ],
)
def test_a_message_that_is_gone_is_no_error(gone: ClientError) -> None:
    client = RecordingSqs(change_message_visibility=gone, delete_message=gone)
    queue_on(client).extend(MESSAGE, 10)
    queue_on(client).delete(MESSAGE)


def test_other_refusals_come_through() -> None:
    beyond = refusal("InvalidParameterValue", "Total VisibilityTimeout for the message is beyond the limit")
    with pytest.raises(ClientError):
        queue_on(RecordingSqs(change_message_visibility=beyond)).extend(MESSAGE, 43_200)
    away = EndpointConnectionError(endpoint_url="https://sqs")
    with pytest.raises(Unavailable):
        queue_on(RecordingSqs(receive_message=away)).receive(most=1, wait_seconds=0, visibility_seconds=1)


def test_a_receive_asks_for_what_sqs_gives() -> None:
    client = RecordingSqs()
    assert queue_on(client).receive(most=50, wait_seconds=60, visibility_seconds=90) == []
    request = client.requests[0][1]
    assert (request["MaxNumberOfMessages"], request["WaitTimeSeconds"], request["VisibilityTimeout"]) == (10, 20, 90)


def test_dead_letters_that_fail_again_at_once_are_let_go() -> None:
    future = str(10**14)
    held = {"ReceiptHandle": "later", "Body": "b", "MessageId": "m2", "Attributes": {"SentTimestamp": future}}
    earlier = {"SentTimestamp": "1", "MessageGroupId": "g"}
    old = {**held, "MessageId": "m1", "ReceiptHandle": "now", "Attributes": earlier}
    client: Any = RecordingSqs(receive_message=[{"Messages": [held, old]}, {}])
    there = SqsDeadLetters(client, "dead", "queue")
    with there.held() as letters:
        assert [there.give_back(letter) for letter in letters] == [None]
    assert [request for request in client.requests if request[0] != "receive_message"] == [
        ("send_message", {"QueueUrl": "queue", "MessageBody": "b", "MessageGroupId": "g"}),
        ("delete_message", {"QueueUrl": "dead", "ReceiptHandle": "now"}),
        ("change_message_visibility", {"QueueUrl": "dead", "ReceiptHandle": "later", "VisibilityTimeout": 0}),
    ]


def test_the_memory_queue_can_shuffle_and_tell_when_it_is_due() -> None:
    clock = ManualClock()
    queue = MemoryQueue(clock, order=Random(1))
    assert queue.next_visible_at() is None
    for n in range(20):
        queue.send(str(n), group="g")
    taken = [m.body for _ in range(2) for m in queue.receive(most=10, wait_seconds=0, visibility_seconds=30)]
    assert taken != sorted(taken, key=int)
    due = queue.next_visible_at()
    assert due is not None
    assert (due - clock.now()).total_seconds() == 30
    assert queue.receive(most=1, wait_seconds=5, visibility_seconds=30) == []
    assert 5 <= clock.monotonic() < 5.1
    assert len(queue.bodies()) == 20


def test_an_old_receipt_does_not_delete() -> None:
    clock = ManualClock()
    queue = MemoryQueue(clock)
    queue.send("a", group="g")
    (first,) = queue.receive(most=1, wait_seconds=0, visibility_seconds=1)
    clock.advance(2)
    (second,) = queue.receive(most=1, wait_seconds=0, visibility_seconds=1)
    queue.delete(first)
    assert queue.bodies() == ["a"]
    queue.delete(second)
    assert queue.bodies() == []


def test_a_result_says_what_sqs_takes_no_character_of() -> None:
    """Characters that JSON may hold and SQS refuses go as escapes; all others as they are, which is shorter."""
    client = RecordingSqs()
    document = {"text": "Z\u00fcrich \U0001f600 \x7f \ufffe \uffff \ud83d"}
    body = json.dumps(document, ensure_ascii=False)
    SqsReplies(client, {"results": "queue"}).send("results", body, group="acme", message_id="evt_1")  # type: ignore[arg-type]
    [(_, sent)] = client.requests
    assert re.fullmatch("[\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]*", sent["MessageBody"])
    assert json.loads(sent["MessageBody"]) == document
    assert "Z\u00fcrich \U0001f600" in sent["MessageBody"]
