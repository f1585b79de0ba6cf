"""A function that a queue calls: the queue, what it sets aside, how much of it is in hand at once, and who is told when
it does not work.
"""

from __future__ import annotations

from dataclasses import dataclass

import aws_cdk as cdk
from aws_cdk import aws_lambda as lambda_
from aws_cdk import aws_sqs as sqs
from constructs import Construct

from turnkeeper_infra.alarms import Heard, alarm
from turnkeeper_infra.config import Config
from turnkeeper_infra.functions import KitFunction
from turnkeeper_infra.keys import encrypted_queue, key_of


@dataclass(frozen=True)
class Troubles:
    """What people are told, each in words of its own, and the section of the runbook that says what to do."""

    section: str
    set_aside: str
    errors: str
    throttled: str


def queue_of(scope: Construct, config: Config, *, timeout_seconds: int, receives: int) -> tuple[sqs.Queue, sqs.Queue]:
    """The queue, and the one for messages that were received so often in vain."""
    key = key_of(scope, "Key", config.kms_key_arn)
    dead_letters = encrypted_queue(scope, "DeadLetters", key, days=14)
    queue = encrypted_queue(
        scope,
        "Queue",
        key,
        days=4,
        # As AWS advises for a queue that a function is called from.
        visibility_timeout=cdk.Duration.seconds(6 * timeout_seconds),
        dead_letter_queue=sqs.DeadLetterQueue(queue=dead_letters, max_receive_count=receives),
    )
    return queue, dead_letters


def feed(scope: Construct, function: KitFunction, queue: sqs.Queue, *, batch: int, at_once: int) -> None:
    """Have the function called with what the queue has, so many messages a batch, and so many batches at once."""
    lambda_.CfnEventSourceMapping(
        scope,
        "Source",
        function_name=function.function_arn,
        event_source_arn=queue.queue_arn,
        batch_size=batch,
        function_response_types=["ReportBatchItemFailures"],
        scaling_config=lambda_.CfnEventSourceMapping.ScalingConfigProperty(maximum_concurrency=at_once),
    ).node.add_dependency(function.kit_role)


def watch(scope: Construct, function: KitFunction, dead_letters: sqs.Queue, troubles: Troubles, heard: Heard) -> None:
    """In the stack of the function: what another stack watches would have to be exported, and exports stay whatever a
    stage asks for (docs/decisions/0081)."""
    period = cdk.Duration.minutes(5)
    waiting = dead_letters.metric_approximate_number_of_messages_visible(period=period, statistic="Maximum")
    alarm(scope, "SetAside", waiting, 1, troubles.set_aside, heard=heard, section=troubles.section)
    errors = function.metric_errors(period=period, statistic="Sum")
    alarm(scope, "Errors", errors, 3, troubles.errors, heard=heard, section=troubles.section)
    throttles = function.metric_throttles(period=period, statistic="Sum")
    alarm(scope, "Throttled", throttles, 5, troubles.throttled, heard=heard, section=troubles.section)
