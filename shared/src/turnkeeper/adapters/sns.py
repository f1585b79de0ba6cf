"""Tells on-call through SNS."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from turnkeeper.adapters.aws import code_of, outages
from turnkeeper.adapters.log_alerts import LogAlerts
from turnkeeper.core.errors import Unavailable

if TYPE_CHECKING:
    from mypy_boto3_sns import SNSClient

_SUBJECT_CHARACTERS = 100
_MESSAGE_BYTES = 256 * 1024


class SnsAlerts:
    """A :class:`turnkeeper.ports.Alerts`: every alert is logged and published as JSON ``{"kind", "subject", "data"}``,
    with ``kind`` as a message attribute to filter by.

    Raises Unavailable where SNS did not take it, for whatever reason: an operator mends a topic that refuses, and the
    alert is still to be sent then. It is in the log all the same.
    """

    def __init__(self, client: SNSClient, topic_arn: str) -> None:
        self._client = client
        self._topic_arn = topic_arn
        self._log = LogAlerts()

    def alert(self, kind: str, subject: str, data: Mapping[str, Any]) -> None:
        self._log.alert(kind, subject, data)
        try:
            with outages("SNS"):
                self._client.publish(
                    TopicArn=self._topic_arn,
                    Subject=_subject(f"[{kind}] {subject}"),
                    Message=_message(kind, subject, data),
                    MessageAttributes={"kind": {"DataType": "String", "StringValue": kind}},
                )
        except ClientError as error:
            raise Unavailable(f"SNS refused the alert {kind}: {code_of(error)}", retry_after_seconds=60) from error


def _subject(text: str) -> str:
    """SNS takes one line of ASCII that begins with a letter, a digit or punctuation."""
    line = "".join(sign if sign.isascii() and sign.isprintable() else "?" for sign in " ".join(text.split()))
    return line[:_SUBJECT_CHARACTERS]


def _message(kind: str, subject: str, data: Mapping[str, Any]) -> str:
    message = json.dumps({"kind": kind, "subject": subject, "data": dict(data)}, default=str)
    if len(message) <= _MESSAGE_BYTES:
        return message
    return json.dumps({"kind": kind, "subject": subject[:1000], "data": {"omitted": "too large, see the log"}})
