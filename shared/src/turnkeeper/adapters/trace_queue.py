"""The queue of turns whose traces are to be made, on SQS."""

from __future__ import annotations

from typing import TYPE_CHECKING

from turnkeeper.adapters.aws import outages
from turnkeeper.adapters.sqs import group_id

if TYPE_CHECKING:
    from mypy_boto3_sqs import SQSClient

_FIRST_SECONDS = 30
_LONGEST_SECONDS = 3_600


class SqsTraceQueue:
    """A :class:`turnkeeper.runtime.tracing.TraceQueue`. Groups make it a fair queue: one tenant's many turns
    hold up nobody's."""

    def __init__(self, client: SQSClient, queue_url: str) -> None:
        self._client = client
        self._queue_url = queue_url

    def send(self, body: str, *, group: str) -> None:
        with outages("SQS"):
            self._client.send_message(QueueUrl=self._queue_url, MessageBody=body, MessageGroupId=group_id(group))

    def put_off(self, receipt: str, receives: int) -> None:
        seconds = min(_FIRST_SECONDS * 2 ** max(receives - 1, 0), _LONGEST_SECONDS)
        with outages("SQS"):
            self._client.change_message_visibility(
                QueueUrl=self._queue_url, ReceiptHandle=receipt, VisibilityTimeout=seconds
            )
