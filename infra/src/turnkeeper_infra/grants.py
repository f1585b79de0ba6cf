"""Who may do what, by job: every permission of every role, in words that an auditor can read.

The table is written with `PutItem` and `UpdateItem` only. No role has `DeleteItem`, `BatchWriteItem` or PartiQL, so
nothing of the kit can remove an item; entries and audit records go by TTL or with the table. IAM has no condition on
sort keys, so it cannot tell an audit record from an entry: that both are written once is held by the
`attribute_not_exists` condition in the store (docs/decisions/0032 says what remains by convention).

`tests/infra/test_roles.py` holds each role against what its code can come to call: an action that is missing here fails
it, and so does one that nothing calls.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import aws_cdk as cdk
from aws_cdk import aws_events as events
from aws_cdk import aws_iam as iam
from aws_cdk import aws_lambda as lambda_
from aws_cdk import aws_secretsmanager as secretsmanager
from aws_cdk import aws_sqs as sqs

from turnkeeper_infra import keys, names
from turnkeeper_infra.acknowledge import acknowledge
from turnkeeper_infra.config import Config
from turnkeeper_infra.keys import use_key
from turnkeeper_infra.state import StateStack

READ_ITEMS = ("dynamodb:BatchGetItem", "dynamodb:GetItem", "dynamodb:Query")
WRITE_ITEMS = ("dynamodb:PutItem", "dynamodb:UpdateItem")


class Grants:
    """Gives a role its permissions on the state, one job at a time."""

    def __init__(self, state: StateStack, role: iam.IRole) -> None:
        self._state = state
        self._role = role

    def read_sessions(self, *indexes: str) -> Grants:
        """Read items by key, and through the named indexes."""
        self._allow("ReadSessions", READ_ITEMS, self._state.table.table_arn)
        self._use_key("dynamodb", keys.READ)
        return self._read_indexes(*indexes)

    def write_sessions(self) -> Grants:
        """Append and update items, alone or in a transaction; never remove one."""
        self._allow("WriteSessions", WRITE_ITEMS, self._state.table.table_arn)
        self._use_key("dynamodb", keys.WRITE_ITEMS)
        return self

    def check_items(self) -> Grants:
        """Write on the condition that an item which is not written is as it was read."""
        self._allow("CheckItems", ["dynamodb:ConditionCheckItem"], self._state.table.table_arn)
        return self

    def read_stream(self) -> Grants:
        stream_arn = self._state.table.table_stream_arn
        assert stream_arn is not None, "the table is made with a stream"
        self._allow(
            "ReadStream",
            ["dynamodb:DescribeStream", "dynamodb:GetRecords", "dynamodb:GetShardIterator"],
            stream_arn,
        )
        self._use_key("dynamodb", keys.READ)
        # AWS offers no resource for this action.
        self._allow("ListStreams", ["dynamodb:ListStreams"], "*")
        acknowledge(
            self._role, "AwsSolutions-IAM5[Resource::*]", "dynamodb:ListStreams takes no resource; it reads names only."
        )
        return self

    def read_claims(self) -> Grants:
        """With the bucket's list, without which S3 calls a missing object a forbidden one. The condition of
        :meth:`erase_claims` would not do: a read has no prefix."""
        self._allow("TellMissingClaims", ["s3:ListBucket"], self._state.bucket.bucket_arn)
        self._use_key("s3", keys.READ)
        return self._on_claims("ReadClaims", "s3:GetObject")

    def write_claims(self) -> Grants:
        self._use_key("s3", keys.WRITE)
        return self._on_claims("WriteClaims", "s3:PutObject")

    def erase_claims(self) -> Grants:
        """For erasing what a user asked to have erased: list a session's claim checks, delete them."""
        self._role.add_to_principal_policy(
            iam.PolicyStatement(
                sid="ListClaims",
                actions=["s3:ListBucket"],
                resources=[self._state.bucket.bucket_arn],
                conditions={"StringLike": {"s3:prefix": f"{names.CLAIMS_PREFIX}*"}},
            )
        )
        return self._on_claims("EraseClaims", "s3:DeleteObject")

    def send_jobs(self) -> Grants:
        self._allow("SendJobs", ["sqs:SendMessage"], self._state.queue.queue_arn)
        self._use_key("sqs", keys.WRITE)
        return self

    def wake_worker(self, config: Config) -> Grants:
        """See how many tasks the worker's service is to have, and ask for more."""
        if not config.local:
            service = cdk.Stack.of(self._role).format_arn(
                service="ecs", resource="service", resource_name=names.worker_service(config.name)
            )
            self._allow("WakeWorker", ["ecs:DescribeServices", "ecs:UpdateService"], service)
        return self

    def count_jobs(self) -> Grants:
        self._allow("CountJobs", ["sqs:GetQueueAttributes"], self._state.queue.queue_arn)
        return self

    def take_jobs(self) -> Grants:
        """Receive, extend and finish jobs; set aside what can never work."""
        self._allow(
            "TakeJobs",
            ["sqs:ChangeMessageVisibility", "sqs:DeleteMessage", "sqs:ReceiveMessage"],
            self._state.queue.queue_arn,
        )
        self._allow("SetJobsAside", ["sqs:SendMessage"], self._state.dead_letters.queue_arn)
        self._use_key("sqs", keys.WRITE)
        return self

    def set_aside(self, queue: sqs.IQueue) -> Grants:
        """For what comes of a stream and cannot be worked on: Lambda sends it there with the function's role."""
        self._allow("SetAside", ["sqs:SendMessage"], queue.queue_arn)
        self._use_key("sqs", keys.WRITE)
        return self

    def ask_for_traces(self, queue: sqs.IQueue) -> Grants:
        self._allow("AskForTraces", ["sqs:SendMessage"], queue.queue_arn)
        self._use_key("sqs", keys.WRITE)
        return self

    def take_traces(self, queue: sqs.IQueue) -> Grants:
        """Lambda receives and deletes with the function's role; the function itself puts messages off."""
        actions = ["ChangeMessageVisibility", "DeleteMessage", "GetQueueAttributes", "ReceiveMessage"]
        self._allow("TakeTraces", [f"sqs:{action}" for action in actions], queue.queue_arn)
        self._use_key("sqs", keys.READ)
        return self

    def note_traces(self) -> Grants:
        """Write down, once, that a trace was sent."""
        self._allow("NoteTraces", ["dynamodb:PutItem"], self._state.table.table_arn)
        self._use_key("dynamodb", keys.WRITE_ITEMS)
        return self

    def put_traces(self) -> Grants:
        """Send traces to CloudWatch."""
        # AWS offers no resource for this action.
        self._allow("PutTraces", ["xray:PutTraceSegments"], "*")
        acknowledge(self._role, "AwsSolutions-IAM5[Resource::*]", "xray:PutTraceSegments takes no resource.")
        return self

    def read_headers(self, secret_arn: str, kms_key_arn: str | None) -> Grants:
        """Read what a receiver of traces wants to be told."""
        self._allow("ReadHeaders", ["secretsmanager:GetSecretValue"], secret_arn)
        use_key(self._role, "secretsmanager", keys.READ, kms_key_arn, self._state.kms_key_arn)
        return self

    def send_words(self, queue: sqs.IQueue) -> Grants:
        """Have a turn's end told, or put off what was not taken."""
        self._allow("SendWords", ["sqs:SendMessage"], queue.queue_arn)
        self._use_key("sqs", keys.WRITE)
        return self

    def take_words(self, queue: sqs.IQueue) -> Grants:
        """For Lambda, which receives and deletes with the function's role."""
        actions = ["DeleteMessage", "GetQueueAttributes", "ReceiveMessage"]
        self._allow("TakeWords", [f"sqs:{action}" for action in actions], queue.queue_arn)
        return self

    def write_deliveries(self) -> Grants:
        """Write down what is delivered and what came of it, while the session it is about is not erased, and read what
        a job came to."""
        self._allow("ReadTurns", ("dynamodb:GetItem", "dynamodb:Query"), self._state.table.table_arn)
        return self.write_sessions().check_items()

    def tell_bus(self, bus: events.IEventBus) -> Grants:
        self._allow("TellBus", ["events:PutEvents"], bus.event_bus_arn)
        return self

    def read_hook_keys(self) -> Grants:
        self._use_key("secretsmanager", keys.READ)
        return self._read_secret("ReadHookKeys", self._state.hook_secret)

    def send_replies(self, queues: Mapping[str, tuple[str, str | None]]) -> Grants:
        """Send results to the queues that the stage's file names, each with its key, where that is a customer's."""
        if queues:
            self._allow("SendReplies", ["sqs:SendMessage"], *sorted({arn for arn, _ in queues.values()}))
            use_key(self._role, "sqs", keys.WRITE, *(key for _, key in queues.values()))
        return self

    def sign_tokens(self) -> Grants:
        self._use_key("secretsmanager", keys.READ)
        return self._read_secret("ReadSigningKeys", self._state.signing_secret)

    def call_model(self, config: Config) -> Grants:
        """Read the Anthropic key, or call Claude on Bedrock; never both."""
        if config.model_provider == "anthropic":
            own = None if config.model_secret_arn else config.kms_key_arn
            use_key(self._role, "secretsmanager", keys.READ, config.model_secret_kms_key_arn, own)
            return self._read_secret("ReadModelKey", self._state.model_secret)
        # An inference profile spreads calls over regions, and AWS wants the model allowed in each of them.
        models = "arn:<AWS::Partition>:bedrock:*::foundation-model/anthropic.*"
        profiles = "arn:<AWS::Partition>:bedrock:<AWS::Region>:<AWS::AccountId>:inference-profile/*anthropic.*"
        actions = ["bedrock:InvokeModelWithResponseStream"]
        self._allow("CallModel", actions, *(_substituted(arn) for arn in (models, profiles)))
        for arn in (models, profiles):
            acknowledge(
                self._role, f"AwsSolutions-IAM5[Resource::{arn}]", "Any Claude model, in any region that serves it."
            )
        return self

    def start_turns(self, turn: lambda_.IAlias) -> Grants:
        self._allow("StartTurns", ["lambda:InvokeFunction"], turn.function_arn)
        return self

    def alert(self) -> Grants:
        self._allow("Alert", ["sns:Publish"], self._state.alerts.topic_arn)
        self._use_key("sns", keys.WRITE)
        return self

    def _read_indexes(self, *indexes: str) -> Grants:
        if indexes:
            table_arn = self._state.table.table_arn
            self._allow("ReadIndexes", ["dynamodb:Query"], *(f"{table_arn}/index/{name}" for name in indexes))
        return self

    def _read_secret(self, sid: str, secret: secretsmanager.ISecret) -> Grants:
        self._allow(sid, ["secretsmanager:GetSecretValue"], secret.secret_arn)
        return self

    def _on_claims(self, sid: str, action: str) -> Grants:
        self._allow(sid, [action], self._state.bucket.arn_for_objects(f"{names.CLAIMS_PREFIX}*"))
        # cdk-nag names a wildcard below another stack's resource by the export it is imported from.
        state = self._state
        export = state.resolve(state.export_value(state.bucket.bucket_arn))["Fn::ImportValue"]
        acknowledge(
            self._role,
            f"AwsSolutions-IAM5[Resource::{export}/{names.CLAIMS_PREFIX}*]",
            "S3 objects are named by a prefix; it covers the claim checks and nothing else.",
        )
        return self

    def _use_key(self, service: str, actions: Sequence[str]) -> None:
        use_key(self._role, service, actions, self._state.kms_key_arn)

    def _allow(self, sid: str, actions: Sequence[str], *resources: str) -> None:
        self._role.add_to_principal_policy(
            iam.PolicyStatement(sid=sid, actions=list(actions), resources=list(resources))
        )


def _substituted(arn: str) -> str:
    """Fill in cdk-nag's notation of an ARN, so that a wildcard and its acknowledgement are written once."""
    for placeholder, value in {
        "<AWS::Partition>": cdk.Aws.PARTITION,
        "<AWS::Region>": cdk.Aws.REGION,
        "<AWS::AccountId>": cdk.Aws.ACCOUNT_ID,
    }.items():
        arn = arn.replace(placeholder, value)
    return arn
