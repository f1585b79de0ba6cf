"""A customer's key: what it encrypts, and who may use it for what.

The key is an existing one, named in the stage's file. Its own policy is the account's to write (docs/deploy.md): a
stack that only knows its ARN cannot change it. Roles are given the key through the one service that they use.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import aws_cdk as cdk
from aws_cdk import aws_iam as iam
from aws_cdk import aws_kms as kms
from aws_cdk import aws_sqs as sqs
from constructs import Construct

READ = ("kms:Decrypt",)
WRITE = ("kms:Decrypt", "kms:GenerateDataKey")
"""Of objects, messages and notifications: each is encrypted with a data key, and some are read back while sent."""
WRITE_ITEMS = (
    "kms:Decrypt",
    "kms:DescribeKey",
    "kms:Encrypt",
    "kms:GenerateDataKey",
    "kms:GenerateDataKeyWithoutPlaintext",
    "kms:ReEncryptFrom",
    "kms:ReEncryptTo",
)
"""As DynamoDB's documentation lists them for whoever writes to a table, without the stars."""


def key_of(scope: Construct, id: str, key_arn: str | None) -> kms.IKey | None:
    """The key as a construct, where there is one."""
    return kms.Key.from_key_arn(scope, id, key_arn) if key_arn else None


def encrypted_queue(scope: Construct, id: str, key: kms.IKey | None, *, days: int, **more: Any) -> sqs.Queue:
    """A queue that keeps messages so many days, with this key or with that of SQS, and is reached by TLS only."""
    return sqs.Queue(
        scope,
        id,
        retention_period=cdk.Duration.days(days),
        encryption=sqs.QueueEncryption.KMS if key else sqs.QueueEncryption.SQS_MANAGED,
        encryption_master_key=key,
        enforce_ssl=True,
        **more,
    )


def use_key(role: iam.IRole, service: str, actions: Sequence[str], *key_arns: str | None) -> None:
    """Let a role use these keys through `service` (as in its host name) only; without a key nothing is allowed."""
    named = sorted({arn for arn in key_arns if arn})
    if not named:
        return
    through = sorted({f"{service}.{arn.split(':')[3]}.amazonaws.com" for arn in named})
    role.add_to_principal_policy(
        iam.PolicyStatement(
            actions=list(actions), resources=named, conditions={"StringEquals": {"kms:ViaService": through}}
        )
    )
