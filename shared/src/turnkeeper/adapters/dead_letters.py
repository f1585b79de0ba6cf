"""The dead-letter queue on SQS, for the person who looks after it.

SQS has no way to look at a queue but to receive from it: what is looked at is out of everybody's sight until it is let
go again, or for a minute where whoever looked has died.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Literal

from botocore.exceptions import ClientError

from turnkeeper.adapters.aws import code_of, outages
from turnkeeper.adapters.sqs import MAX_A_RECEIVE, in_group, is_gone, system_attributes
from turnkeeper.core.dead_letters import DeadLetter

if TYPE_CHECKING:
    from mypy_boto3_sqs import SQSClient
    from mypy_boto3_sqs.type_defs import MessageTypeDef

_HOLD_SECONDS = 60
#: A short poll asks only some of SQS's servers and may find nothing where there is something.
_WAIT_SECONDS = 1


class SqsDeadLetters:
    """A :class:`turnkeeper.wiring.platform.DeadLetters`."""

    def __init__(self, client: SQSClient, dlq_url: str, queue_url: str) -> None:
        self._client = client
        self._dlq_url = dlq_url
        self._queue_url = queue_url
        self._gone: set[str] = set()

    @contextlib.contextmanager
    def held(self) -> Iterator[Iterator[DeadLetter]]:
        """The letters that are there now, each once, as they are received; those that come meanwhile, such as one that
        was given back and failed again, are not among them. At the end all that are left are let go."""
        receipts: dict[str, str] = {}
        try:
            yield self._receive(receipts)
        finally:
            for receipt in set(receipts.values()) - self._gone:
                self._let_go(receipt)

    def give_back(self, letter: DeadLetter) -> None:
        """To the queue, its body as it was, without the reason. It is sent before it is deleted: whatever happens in
        between doubles it, and a job that comes twice is done once."""
        with outages("SQS"):
            self._client.send_message(QueueUrl=self._queue_url, MessageBody=letter.body, **in_group(letter.group))
        self.discard(letter)

    def discard(self, letter: DeadLetter) -> None:
        with outages("SQS"):
            self._client.delete_message(QueueUrl=self._dlq_url, ReceiptHandle=letter.receipt)
        self._gone.add(letter.receipt)

    def depths(self) -> dict[str, int]:
        with outages("SQS"):
            queue, dead = (
                self._client.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"]
                for url in (self._queue_url, self._dlq_url)
            )
        waiting: Literal["ApproximateNumberOfMessages"] = "ApproximateNumberOfMessages"
        in_flight = int(queue["ApproximateNumberOfMessagesNotVisible"])
        return {"queue": int(queue[waiting]), "in_flight": in_flight, "dead_letters": int(dead[waiting])}

    def _receive(self, receipts: dict[str, str]) -> Iterator[DeadLetter]:
        began = time.time_ns() // 1_000_000
        while True:
            with outages("SQS"):
                answer = self._client.receive_message(
                    QueueUrl=self._dlq_url,
                    MaxNumberOfMessages=MAX_A_RECEIVE,
                    WaitTimeSeconds=_WAIT_SECONDS,
                    VisibilityTimeout=_HOLD_SECONDS,
                    MessageSystemAttributeNames=["MessageGroupId", "SentTimestamp"],
                    MessageAttributeNames=["All"],
                )
            new = [found for found in answer.get("Messages", []) if found["MessageId"] not in receipts]
            receipts |= {found["MessageId"]: found["ReceiptHandle"] for found in answer.get("Messages", [])}
            if not new:
                return
            letters = [_letter(found) for found in new]
            yield from (letter for letter in letters if letter.sent_at.timestamp() * 1_000 <= began)

    def _let_go(self, receipt: str) -> None:
        try:
            with outages("SQS"):
                self._client.change_message_visibility(
                    QueueUrl=self._dlq_url, ReceiptHandle=receipt, VisibilityTimeout=0
                )
        except ClientError as error:
            # It took so long that it is in sight again anyway.
            if not is_gone(error) and code_of(error) != "InvalidParameterValue":
                raise


def _letter(found: MessageTypeDef) -> DeadLetter:
    system = system_attributes(found)
    told = {name: value.get("StringValue") for name, value in found.get("MessageAttributes", {}).items()}
    receives = told.get("receives") or ""
    return DeadLetter(
        message_id=found["MessageId"],
        receipt=found["ReceiptHandle"],
        body=found["Body"],
        group=system.get("MessageGroupId"),
        error_code=told.get("error_code"),
        detail=told.get("detail"),
        sent_at=datetime.fromtimestamp(int(system.get("SentTimestamp", "0")) / 1_000, UTC),
        receives=int(receives) if receives.isdecimal() else None,
    )
