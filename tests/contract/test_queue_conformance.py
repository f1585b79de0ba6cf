"""One contract, three queues."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest
from moto import mock_aws

from turnkeeper.adapters.aws import Aws
from turnkeeper.adapters.dead_letters import SqsDeadLetters
from turnkeeper.adapters.sqs import SqsQueue
from turnkeeper.testing.clock import ManualClock
from turnkeeper.testing.conformance import QueueConformance
from turnkeeper.testing.memory_queue import MemoryQueue

if TYPE_CHECKING:
    from mypy_boto3_sqs.type_defs import MessageTypeDef


class TestMemoryQueue(QueueConformance):
    @pytest.fixture(autouse=True)
    def _queue(self) -> None:
        # Two threads that poll by one manual clock would run away with it.
        self.wait_seconds = 0
        clock = ManualClock()
        queue = MemoryQueue(clock)
        self.queue = queue
        self.sleep = clock.advance
        self.dead_letters = lambda: [(letter.body, letter.error_code) for letter in queue.dead_letters]
        self.redrive = queue.redrive


class _OnSqs(QueueConformance):
    # Neither moto nor the emulator spreads a queue over servers.
    wait_seconds = 0

    def use(self, aws: Aws) -> None:
        self.client = aws.sqs
        name = uuid.uuid4().hex
        self.dlq_url = self.client.create_queue(QueueName=f"{name}-dead")["QueueUrl"]
        arn = self.client.get_queue_attributes(QueueUrl=self.dlq_url, AttributeNames=["QueueArn"])["Attributes"]
        policy = json.dumps({"deadLetterTargetArn": arn["QueueArn"], "maxReceiveCount": 3})
        attributes = {"RedrivePolicy": policy, "MaximumMessageSize": "1048576"}
        self.queue_url = self.client.create_queue(QueueName=name, Attributes=attributes)["QueueUrl"]  # type: ignore[arg-type]
        self.queue = SqsQueue(self.client, self.queue_url, self.dlq_url)
        self.sleep = time.sleep
        self.dead_letters = self._dead_letters
        self.redrive = self._redrive

    def _redrive(self) -> int:
        there = SqsDeadLetters(self.client, self.dlq_url, self.queue_url)
        with there.held() as letters:
            return sum(there.give_back(letter) is None for letter in letters)

    def _dead_letters(self) -> list[tuple[str, str | None]]:
        answer = self.client.receive_message(
            QueueUrl=self.dlq_url,
            MaxNumberOfMessages=10,
            VisibilityTimeout=0,
            MessageAttributeNames=["All"],
        )
        return [(message["Body"], _error_code(message)) for message in answer.get("Messages", [])]


def _error_code(message: MessageTypeDef) -> str | None:
    attributes = message.get("MessageAttributes", {})
    return attributes["error_code"].get("StringValue") if "error_code" in attributes else None


class TestMotoQueue(_OnSqs):
    @pytest.fixture(autouse=True)
    def _queue(self) -> Iterator[None]:
        with mock_aws():
            self.use(Aws(region="eu-west-1"))
            yield

    @pytest.mark.skip(reason="moto keeps its messages in lists without a lock: what threads take at once is seen twice")
    def test_no_message_is_given_to_two(self) -> None: ...


@pytest.mark.emulator
class TestEmulatedQueue(_OnSqs):
    @pytest.fixture(autouse=True)
    def _queue(self, emulator: str) -> None:
        self.use(Aws(region="eu-west-1", endpoint_url=emulator, max_pool_connections=16))
