"""What must survive: the table, the claim-check bucket, the queues, the secrets, the alert topic."""

from __future__ import annotations

import aws_cdk as cdk
from aws_cdk import aws_dynamodb as dynamodb
from aws_cdk import aws_iam as iam
from aws_cdk import aws_s3 as s3
from aws_cdk import aws_secretsmanager as secretsmanager
from aws_cdk import aws_sns as sns
from aws_cdk import aws_sns_subscriptions as subscriptions
from aws_cdk import aws_sqs as sqs
from constructs import Construct

from turnkeeper_infra import names
from turnkeeper_infra.acknowledge import acknowledge
from turnkeeper_infra.config import Config
from turnkeeper_infra.keys import encrypted_queue, key_of

MAX_RECEIVE_COUNT = 3
"""How often a message is tried before it goes to the dead-letter queue."""

DEAD_LETTER_DAYS = 14
QUEUE_DAYS = 14


class StateStack(cdk.Stack):
    """Everything with contents. The other stacks can be deleted and made again; this one holds the sessions."""

    def __init__(self, scope: Construct, id: str, *, config: Config) -> None:
        super().__init__(
            scope,
            id,
            termination_protection=config.keeps_data,
            description="Turnkeeper: sessions, money, claim checks, queues",
        )
        keep = cdk.RemovalPolicy.RETAIN if config.keeps_data else cdk.RemovalPolicy.DESTROY
        self.kms_key_arn = config.kms_key_arn
        """The customer's key, where it is one that encrypts all this."""
        self._key = key_of(self, "Key", config.kms_key_arn)
        own_table, own_model_secret = self._table(config, keep), self._model_secret(keep)
        self.table = self._adopted_table(config) or own_table
        self.bucket = self._bucket(config, keep)
        self.dead_letters = encrypted_queue(self, "DeadLetters", self._key, days=DEAD_LETTER_DAYS)
        self.queue = self._queue(config)
        self.signing_secret = self._rotating(
            "SigningKeys",
            "Keys of continuation tokens: the current one, and the previous one for a while",
            "Rotated by writing {current, previous}; tokens live a day, so a schedule is the operator's choice.",
            keep,
        )
        self.model_secret = self._given_model_secret(config) or own_model_secret
        # Apart from the others: what signs webhooks must not be able to make continuation tokens.
        self.hook_secret = self._rotating(
            "HookKeys",
            "Keys that secrets of webhooks are made of: the current one, and the previous one for a while",
            "Rotated by writing {current, previous}, once receivers can be given what follows from the new one.",
            keep,
        )
        self.alerts = self._alert_topic(config)
        self._keep_exports(own_table, own_model_secret)

        for output, value in {
            "TableName": self.table.table_name,
            "BucketName": self.bucket.bucket_name,
            "QueueUrl": self.queue.queue_url,
            "DlqUrl": self.dead_letters.queue_url,
            "SigningSecretArn": self.signing_secret.secret_arn,
            "HookSecretArn": self.hook_secret.secret_arn,
            "ModelSecretArn": self.model_secret.secret_arn,
            "AlertTopicArn": self.alerts.topic_arn,
        }.items():
            cdk.CfnOutput(self, output, value=value)

    def _keep_exports(self, own_table: dynamodb.Table, own_model_secret: secretsmanager.Secret) -> None:
        """Export whatever another stack may ever import, whether one does now or not.

        CloudFormation neither drops nor changes an export in use. This stack is updated before those that use it,
        so an export that went with a setting would stop every deploy that changes the setting. For the same reason
        the table and the secret of our own stay where others are given in their place (docs/decisions/0081).
        """
        assert own_table.table_stream_arn is not None
        for value in (
            own_table.table_name,
            own_table.table_arn,
            own_table.table_stream_arn,
            own_model_secret.secret_arn,
            self.signing_secret.secret_arn,
            self.hook_secret.secret_arn,
            self.bucket.bucket_name,
            self.bucket.bucket_arn,
            self.alerts.topic_arn,
            *(
                text
                for queue in (self.queue, self.dead_letters)
                for text in (queue.queue_url, queue.queue_arn, queue.queue_name)
            ),
        ):
            self.export_value(value)

    def _adopted_table(self, config: Config) -> dynamodb.ITable | None:
        if config.table_stream_arn is None:
            return None
        return dynamodb.Table.from_table_attributes(
            self,
            "AdoptedTable",
            table_arn=config.table_stream_arn.partition("/stream/")[0],
            table_stream_arn=config.table_stream_arn,
            global_indexes=list(names.INDEXES),
        )

    def _table(self, config: Config, keep: cdk.RemovalPolicy) -> dynamodb.Table:
        table = dynamodb.Table(
            self,
            "Table",
            partition_key=_string(names.PARTITION_KEY),
            sort_key=_string(names.SORT_KEY),
            billing_mode=dynamodb.BillingMode.PAY_PER_REQUEST,
            time_to_live_attribute=names.TTL_ATTRIBUTE,
            stream=dynamodb.StreamViewType.NEW_AND_OLD_IMAGES,
            point_in_time_recovery_specification=dynamodb.PointInTimeRecoverySpecification(
                point_in_time_recovery_enabled=True
            ),
            encryption=dynamodb.TableEncryption.CUSTOMER_MANAGED if self._key else None,
            encryption_key=self._key,
            deletion_protection=config.keeps_data,
            removal_policy=keep,
        )
        for index, (partition, sort) in names.INDEXES.items():
            table.add_global_secondary_index(
                index_name=index,
                partition_key=_string(partition),
                sort_key=_string(sort),
                projection_type=dynamodb.ProjectionType.KEYS_ONLY,
            )
        return table

    def _bucket(self, config: Config, keep: cdk.RemovalPolicy) -> s3.Bucket:
        empties = not config.keeps_data and not config.local
        bucket = s3.Bucket(
            self,
            "Claims",
            block_public_access=s3.BlockPublicAccess.BLOCK_ALL,
            object_ownership=s3.ObjectOwnership.BUCKET_OWNER_ENFORCED,
            encryption=s3.BucketEncryption.KMS if self._key else s3.BucketEncryption.S3_MANAGED,
            encryption_key=self._key,
            bucket_key_enabled=True if self._key else None,
            enforce_ssl=True,
            removal_policy=keep,
            # A bucket with something in it cannot be deleted, and keeps its stack from going.
            auto_delete_objects=empties,
            lifecycle_rules=[
                s3.LifecycleRule(id="abandoned-uploads", abort_incomplete_multipart_upload_after=cdk.Duration.days(1)),
                s3.LifecycleRule(
                    id="cool-down",
                    prefix=names.CLAIMS_PREFIX,
                    transitions=[
                        s3.Transition(
                            storage_class=s3.StorageClass.INTELLIGENT_TIERING,
                            transition_after=cdk.Duration.days(30),
                        )
                    ],
                ),
            ],
        )
        acknowledge(
            bucket,
            "AwsSolutions-S1",
            "Named by hash and read through the table only; CloudTrail data events are the account's choice.",
        )
        if empties:
            self._keep_no_log_of_emptying()
        # Not versioned on purpose: an object is written once under its hash, and erase must really erase.
        return bucket

    def _keep_no_log_of_emptying(self) -> None:
        """The function that empties the bucket may write no log: Lambda would make the log group for it, outside of
        any stack, where it stays. What goes wrong is told in the stack's events."""
        provider = self.node.find_child("Custom::S3AutoDeleteObjectsCustomResourceProvider")
        role, function = provider.node.find_child("Role"), provider.node.find_child("Handler")
        assert isinstance(role, cdk.CfnResource)
        role.add_property_deletion_override("ManagedPolicyArns")
        acknowledge(function, "AwsSolutions-L1", "The CDK's own function; its runtime moves with the CDK's version.")

    def _queue(self, config: Config) -> sqs.Queue:
        visibility: float = config.lease_seconds
        if config.local:  # given at deploy time, like the other settings of a local kit
            visibility = cdk.CfnParameter(
                self, "LeaseSeconds", type="Number", default=config.lease_seconds
            ).value_as_number
        return encrypted_queue(
            self,
            "Queue",
            self._key,
            days=QUEUE_DAYS,
            # Short, because the worker's heartbeat extends it: a crashed worker's messages come back soon.
            visibility_timeout=cdk.Duration.seconds(visibility),
            receive_message_wait_time=cdk.Duration.seconds(20),
            max_message_size_bytes=1_048_576,
            dead_letter_queue=sqs.DeadLetterQueue(queue=self.dead_letters, max_receive_count=MAX_RECEIVE_COUNT),
        )

    def _rotating(self, id: str, description: str, why: str, keep: cdk.RemovalPolicy) -> secretsmanager.Secret:
        """Two keys, by hand."""
        secret = secretsmanager.Secret(
            self,
            id,
            description=description,
            generate_secret_string=secretsmanager.SecretStringGenerator(
                secret_string_template='{"previous": null}',  # noqa: S106 - no secret: its shape
                generate_string_key="current",
                password_length=64,
                exclude_punctuation=True,
            ),
            encryption_key=self._key,
            removal_policy=keep,
        )
        acknowledge(secret, "AwsSolutions-SMG4", why)
        return secret

    def _given_model_secret(self, config: Config) -> secretsmanager.ISecret | None:
        if config.model_secret_arn is None:
            return None
        return secretsmanager.Secret.from_secret_complete_arn(self, "GivenModelKey", config.model_secret_arn)

    def _model_secret(self, keep: cdk.RemovalPolicy) -> secretsmanager.Secret:
        secret = secretsmanager.Secret(
            self,
            "ModelKey",
            description="The Anthropic API key; put it in after the first deploy (docs/deploy.md)",
            encryption_key=self._key,
            removal_policy=keep,
        )
        acknowledge(
            secret, "AwsSolutions-SMG4", "An API key of another company's console: only its owner can rotate it."
        )
        return secret

    def _alert_topic(self, config: Config) -> sns.Topic:
        topic = sns.Topic(self, "Alerts", enforce_ssl=True, master_key=self._key)
        # A topic without a policy lets its account's alarms publish. Enforcing TLS gives it one that only denies.
        topic.add_to_resource_policy(
            iam.PolicyStatement(
                sid="AlarmsOfThisAccount",
                principals=[iam.ServicePrincipal("cloudwatch.amazonaws.com")],
                actions=["sns:Publish"],
                resources=[topic.topic_arn],
                conditions={"StringEquals": {"aws:SourceAccount": cdk.Aws.ACCOUNT_ID}},
            )
        )
        if config.alert_email:
            topic.add_subscription(subscriptions.EmailSubscription(config.alert_email))
        acknowledge(
            topic,
            "AwsSolutions-SNS2",
            "Carries alarm names, session ids and amounts, never contents; the AWS managed key would keep alarms out.",
        )
        return topic


def _string(name: str) -> dynamodb.Attribute:
    return dynamodb.Attribute(name=name, type=dynamodb.AttributeType.STRING)
