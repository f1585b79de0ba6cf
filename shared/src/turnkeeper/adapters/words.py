"""Word that a turn has ended, on its way: the queue, the bus, and the queues that jobs have their results sent to."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from botocore.exceptions import ClientError

from turnkeeper.adapters.aws import code_of, outages
from turnkeeper.adapters.sqs import MAX_MESSAGE_BYTES, group_id, json_taken
from turnkeeper.core.errors import InputTooLarge, NotPosted, Unavailable

if TYPE_CHECKING:
    from mypy_boto3_events import EventBridgeClient
    from mypy_boto3_sqs import SQSClient

SOURCE: Final = "turnkeeper"


class SqsWords:
    """A :class:`turnkeeper.ports.Words`: a fair queue, whose groups are tenants."""

    def __init__(self, client: SQSClient, queue_url: str) -> None:
        self._client = client
        self._queue_url = queue_url

    def tell(self, body: str, *, group: str, delay_seconds: int = 0) -> None:
        with outages("SQS"):
            self._client.send_message(
                QueueUrl=self._queue_url, MessageBody=body, MessageGroupId=group_id(group), DelaySeconds=delay_seconds
            )


class EventBridgeBus:
    """A :class:`turnkeeper.ports.Bus`."""

    def __init__(self, client: EventBridgeClient, name: str) -> None:
        self._client = client
        self._name = name

    def put(self, event_type: str, at: datetime, body: str) -> None:
        with outages("EventBridge"):
            answer = self._client.put_events(
                Entries=[
                    {"EventBusName": self._name, "Source": SOURCE, "DetailType": event_type, "Time": at, "Detail": body}
                ]
            )
        if answer["FailedEntryCount"]:
            raise Unavailable(f"EventBridge did not take an event: {answer['Entries'][0].get('ErrorCode', '')}")


class SqsReplies:
    """A :class:`turnkeeper.ports.Replies`: queues of the account, by their URLs."""

    def __init__(self, client: SQSClient, urls: Mapping[str, str]) -> None:
        self._client = client
        self._urls = dict(urls)

    @property
    def names(self) -> Collection[str]:
        return self._urls.keys()

    def send(self, name: str, body: str, *, group: str, message_id: str) -> None:
        url = self._urls.get(name)
        if url is None:
            raise NotPosted(f"this deployment names no queue {name!r} any more")
        body = json_taken(body)
        if len(body.encode()) > MAX_MESSAGE_BYTES:
            raise InputTooLarge("a message is at most 1 MiB", limit_bytes=MAX_MESSAGE_BYTES)
        once: Any = {"MessageDeduplicationId": message_id} if url.endswith(".fifo") else {}
        try:
            with outages("SQS"):
                self._client.send_message(QueueUrl=url, MessageBody=body, MessageGroupId=group_id(group), **once)
        except (ClientError, Unavailable) as error:
            raise NotPosted(code_of(error) if isinstance(error, ClientError) else str(error)) from error
