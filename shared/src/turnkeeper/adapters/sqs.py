"""The job queue on SQS."""

from __future__ import annotations

import hashlib
import logging
import re
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from turnkeeper.adapters.aws import code_of, outages
from turnkeeper.core.errors import InputTooLarge
from turnkeeper.core.late import late
from turnkeeper.ports import Message

if TYPE_CHECKING:
    from mypy_boto3_sqs import SQSClient
    from mypy_boto3_sqs.type_defs import MessageAttributeValueTypeDef, MessageTypeDef

_logger = logging.getLogger(__name__)

#: A message with its attributes. A receive gives at most 10 and waits at most 20 s.
MAX_MESSAGE_BYTES = 1024 * 1024
MAX_A_RECEIVE = 10
_LONGEST_WAIT_SECONDS = 20
_DETAIL_BYTES = 1024

_GROUP = re.compile(r"[A-Za-z0-9!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~]{1,128}")
#: What SQS takes in a text, less than Unicode has.
_NOT_TAKEN = late(lambda: re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]"))


class SqsQueue:
    """A :class:`turnkeeper.ports.Queue`: a standard queue and its dead-letter queue.

    Groups make it a fair queue: one tenant's backlog does not hold up another's job. All methods raise Unavailable
    where SQS is busy or out of reach.
    """

    def __init__(self, client: SQSClient, queue_url: str, dlq_url: str) -> None:
        self._client = client
        self._queue_url = queue_url
        self._dlq_url = dlq_url

    def send(self, body: str, *, group: str, delay_seconds: int = 0) -> None:
        """Raises InputTooLarge over 1 MiB."""
        if len(body.encode()) > MAX_MESSAGE_BYTES:
            raise InputTooLarge("A job is at most 1 MiB.", limit_bytes=MAX_MESSAGE_BYTES)
        with outages("SQS"):
            self._client.send_message(
                QueueUrl=self._queue_url,
                MessageBody=body,
                MessageGroupId=group_id(group),
                DelaySeconds=delay_seconds,
            )

    def receive(self, *, most: int, wait_seconds: int, visibility_seconds: int) -> list[Message]:
        with outages("SQS"):
            answer = self._client.receive_message(
                QueueUrl=self._queue_url,
                MaxNumberOfMessages=min(most, MAX_A_RECEIVE),
                WaitTimeSeconds=min(wait_seconds, _LONGEST_WAIT_SECONDS),
                VisibilityTimeout=visibility_seconds,
                MessageSystemAttributeNames=["ApproximateReceiveCount", "MessageGroupId"],
            )
        return [_message(found) for found in answer.get("Messages", [])]

    def extend(self, message: Message, visibility_seconds: int) -> None:
        try:
            with outages("SQS"):
                self._client.change_message_visibility(
                    QueueUrl=self._queue_url, ReceiptHandle=message.receipt, VisibilityTimeout=visibility_seconds
                )
        except ClientError as error:
            if not is_gone(error):
                raise

    def delete(self, message: Message) -> None:
        try:
            with outages("SQS"):
                self._client.delete_message(QueueUrl=self._queue_url, ReceiptHandle=message.receipt)
        except ClientError as error:
            if not is_gone(error):
                raise

    def reject(self, message: Message, *, error_code: str, detail: str) -> None:
        """See :meth:`turnkeeper.ports.Queue.reject`. Sent before it is deleted: a crash in between leaves it on both
        queues, never on none."""
        attributes = _reasons(message, error_code, detail)
        if attributes is None:
            # Full to the last byte: no room for a reason. SQS itself moves it after its last receive, and the log has
            # the reason.
            _logger.error("message %s is too large to reject: %s: %s", message.message_id, error_code, detail)
            self.extend(message, 0)
            return
        with outages("SQS"):
            self._client.send_message(
                QueueUrl=self._dlq_url,
                MessageBody=message.body,
                MessageAttributes=attributes,
                **in_group(message.group),
            )
        self.delete(message)

    def backlog(self) -> int:
        with outages("SQS"):
            answer = self._client.get_queue_attributes(
                QueueUrl=self._queue_url,
                AttributeNames=["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"],
            )
        return sum(int(count) for count in answer["Attributes"].values())


def _message(found: MessageTypeDef) -> Message:
    system = system_attributes(found)
    return Message(
        message_id=found["MessageId"],
        receipt=found["ReceiptHandle"],
        body=found["Body"],
        receive_count=int(system.get("ApproximateReceiveCount", "1")),
        group=system.get("MessageGroupId"),
    )


def system_attributes(found: MessageTypeDef) -> dict[str, str]:
    return {str(name): value for name, value in found.get("Attributes", {}).items()}


def in_group(group: str | None) -> dict[str, Any]:
    """An argument: SQS refuses an empty one."""
    return {"MessageGroupId": group} if group else {}


def group_id(group: str) -> str:
    """A tenant's id comes from an identity provider and may hold what SQS does not take; any stable name will do."""
    return group if _GROUP.fullmatch(group) else hashlib.sha256(group.encode()).hexdigest()


def json_taken(text: str) -> str:
    """JSON without characters that SQS refuses: written as escapes, they say the same."""
    return _NOT_TAKEN.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def _reasons(message: Message, error_code: str, detail: str) -> dict[str, MessageAttributeValueTypeDef] | None:
    """The attributes that tell why, as far as there is room beside the body; ``None`` where there is none."""
    short = detail.encode()[:_DETAIL_BYTES].decode(errors="ignore")
    values = {
        "error_code": error_code,
        "detail": _NOT_TAKEN.sub("\ufffd", short),
        "receives": str(message.receive_count),
    }
    room = MAX_MESSAGE_BYTES - len(message.body.encode())
    attributes: dict[str, MessageAttributeValueTypeDef] = {}
    for name, value in values.items():
        room -= len(name) + len("String") + len(value.encode())
        if value and room >= 0:
            attributes[name] = {"DataType": "String", "StringValue": value}
    return attributes if "error_code" in attributes else None


def is_gone(error: ClientError) -> bool:
    """The message was deleted, or its receipt is from an earlier receive."""
    text = error.response.get("Error", {}).get("Message", "")
    code = code_of(error).removeprefix("AWS.SimpleQueueService.")
    return code in {"MessageNotInflight", "ReceiptHandleIsInvalid"} or (
        code == "InvalidParameterValue" and "not available for visibility timeout change" in text
    )
