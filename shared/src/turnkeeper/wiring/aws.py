"""The kit on AWS: DynamoDB, SQS, S3, Secrets Manager, SNS, and a Lambda for turns.

Every process imports this module, and each uses a few of these: an adapter that few need is imported with its part, and
a client that not every request needs is made when it is used.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable
from functools import cached_property
from typing import TYPE_CHECKING

from turnkeeper.adapters.aws import Aws, outages
from turnkeeper.adapters.dynamodb import DynamoTable
from turnkeeper.adapters.lambda_turns import LambdaTurns
from turnkeeper.adapters.s3 import S3Blobs
from turnkeeper.adapters.secrets import EnvironmentKey, KeySource, SecretsManagerKey
from turnkeeper.adapters.sqs import SqsQueue
from turnkeeper.core.errors import Unavailable
from turnkeeper.core.late import late
from turnkeeper.core.tools import ToolValues
from turnkeeper.ports import Alerts, Bus, Clock, Queue, Replies, Turns, Wakes, Words
from turnkeeper.settings import Settings
from turnkeeper.table import Blobs, Table
from turnkeeper.wiring.needs import needed

if TYPE_CHECKING:
    from turnkeeper.adapters.dead_letters import SqsDeadLetters
    from turnkeeper.runtime.tracing import TraceQueue, TraceReceiver

logger = logging.getLogger(__name__)

#: A rotated signing key is noticed after this long at most.
SIGNING_KEY_SECONDS = 300


def aws_of(settings: Settings) -> Aws:
    # Each session that runs may use a client from two threads: its own, and one that extends its lease.
    connections = 2 * settings.worker_concurrency + 10
    return Aws(endpoint_url=os.environ.get("AWS_ENDPOINT_URL") or None, max_pool_connections=connections)


class AwsPlatform:
    """A :class:`turnkeeper.wiring.platform.Platform`."""

    def __init__(self, settings: Settings, clock: Callable[[], Clock]) -> None:
        self.settings = settings
        self._clock = clock
        self.aws = aws_of(settings)
        self._secrets = late(lambda: self.aws.secretsmanager)
        self._signing_keys: tuple[float, list[str]] = (0.0, [])

    @cached_property
    def table(self) -> Table:
        return DynamoTable(self.aws.table_requests, needed(self.settings, "table"))

    @cached_property
    def blobs(self) -> Blobs:
        return S3Blobs(late(lambda: self.aws.s3), needed(self.settings, "bucket"))

    @cached_property
    def queue(self) -> Queue:
        queue_url = needed(self.settings, "queue_url")
        return SqsQueue(late(lambda: self.aws.sqs), queue_url, needed(self.settings, "dlq_url"))

    @cached_property
    def dead_letters(self) -> SqsDeadLetters:
        from turnkeeper.adapters.dead_letters import SqsDeadLetters

        queue_url = needed(self.settings, "queue_url")
        return SqsDeadLetters(self.aws.sqs, needed(self.settings, "dlq_url"), queue_url)

    @cached_property
    def wakes(self) -> Wakes | None:
        service = self.settings.worker_service
        if not service:
            return None
        from turnkeeper.adapters.ecs import EcsWakes

        return EcsWakes(late(lambda: self.aws.ecs), service, self.settings.worker_max_tasks, self._clock())

    @cached_property
    def turns(self) -> Turns | None:
        function = self.settings.turn_function
        return LambdaTurns(late(lambda: self.aws.lambda_), function) if function else None

    @cached_property
    def alerts(self) -> Alerts:
        from turnkeeper.adapters.log_alerts import LogAlerts
        from turnkeeper.adapters.sns import SnsAlerts

        topic = self.settings.alert_topic_arn
        return SnsAlerts(self.aws.sns, topic) if topic else LogAlerts()

    @cached_property
    def tool_values(self) -> ToolValues:
        from turnkeeper.adapters.known_secrets import KNOWN
        from turnkeeper.adapters.tool_secrets import SecretsManagerValues

        secrets, settings = self.settings.tool_secrets, self.settings.tool_settings
        return SecretsManagerValues(self._secrets, secrets, settings, self._clock(), KNOWN)

    @cached_property
    def trace_queue(self) -> TraceQueue:
        from turnkeeper.adapters.trace_queue import SqsTraceQueue

        return SqsTraceQueue(self.aws.sqs, needed(self.settings, "traces_queue_url"))

    @cached_property
    def trace_receiver(self) -> TraceReceiver:
        from turnkeeper.adapters.otlp import receiver_of

        endpoint = needed(self.settings, "otlp_endpoint")
        return receiver_of(self.aws, endpoint, self.settings.otlp_secret_id, self.settings.deployment)

    @cached_property
    def words(self) -> Words | None:
        from turnkeeper.adapters.words import SqsWords

        url = self.settings.words_queue_url
        return SqsWords(self.aws.sqs, url) if url else None

    @cached_property
    def bus(self) -> Bus | None:
        from turnkeeper.adapters.words import EventBridgeBus

        name = self.settings.event_bus
        return EventBridgeBus(self.aws.events, name) if name else None

    @cached_property
    def replies(self) -> Replies:
        from turnkeeper.adapters.words import SqsReplies

        return SqsReplies(late(lambda: self.aws.sqs), self.settings.reply_queues)

    def hook_keys(self) -> list[str]:
        """See :meth:`turnkeeper.wiring.platform.Platform.hook_keys`."""
        secret_id = needed(self.settings, "hook_secret_id")
        with outages("Secrets Manager"):
            return _keys(self._secrets.get_secret_value(SecretId=secret_id)["SecretString"])

    def signing_keys(self) -> list[str]:
        """See :meth:`turnkeeper.wiring.platform.Platform.signing_keys`."""
        read_at, keys = self._signing_keys
        clock = self._clock()
        if not keys or clock.monotonic() - read_at > SIGNING_KEY_SECONDS:
            secret_id = needed(self.settings, "signing_secret_id")
            try:
                with outages("Secrets Manager"):
                    keys = _keys(self._secrets.get_secret_value(SecretId=secret_id)["SecretString"])
            except Unavailable:
                if not keys:
                    raise
                logger.warning("the signing keys cannot be read now: those at hand stay in use")
            self._signing_keys = (clock.monotonic(), keys)
        return keys

    def model_key(self) -> KeySource | None:
        if self.settings.model_provider == "bedrock":
            return None
        if self.settings.model_secret_id:
            return SecretsManagerKey(self.settings.model_secret_id, self.aws.secretsmanager)
        return EnvironmentKey()


def _keys(text: str) -> list[str]:
    """What a secret of rotating keys holds: the current one, then the previous one, where there is one.

    Raises:
        Unavailable: it was written wrongly; the keys at hand stay in use until it is put right.
    """
    try:
        secret = json.loads(text)
    except ValueError:
        secret = None
    match secret:
        case {"current": str(current), "previous": str(previous)} if current and previous:
            return [current, previous]
        case {"current": str(current)} if current and not secret.get("previous"):
            return [current]
    raise Unavailable('a secret of keys is not as it is to be: {"current": "...", "previous": null}')
