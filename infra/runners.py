"""What a stage's file gives the two that run tools (turn Lambda, worker) besides: statements, secrets, variables."""

from __future__ import annotations

from aws_cdk import aws_iam as iam

from infra.acknowledge import acknowledge
from infra.config import Config


def runner_variables(config: Config) -> dict[str, str]:
    """Variables as they are, and for each secret its ARN: a tool fetches the secret itself, no environment holds it."""
    return {**config.runners.variables, **{secret.variable: secret.arn for secret in config.runners.secrets}}


def equip(role: iam.Role, config: Config) -> None:
    """Let a runner's role do what the file says, and nothing else."""
    for statement in config.runners.policies:
        role.add_to_principal_policy(
            iam.PolicyStatement(sid=statement.sid, actions=list(statement.actions), resources=list(statement.resources))
        )
        for resource in statement.resources:
            if "*" in resource:
                acknowledge(role, f"AwsSolutions-IAM5[Resource::{resource}]", "Named so in the stage's file.")
    secrets = config.runners.secrets
    if secrets:
        role.add_to_principal_policy(
            iam.PolicyStatement(
                sid="ReadToolSecrets",
                actions=["secretsmanager:GetSecretValue"],
                resources=[secret.arn for secret in secrets],
            )
        )
    read_with_key(role, "ToolSecretKeys", *(secret.kms_key_arn for secret in secrets))


def read_with_key(role: iam.IRole, sid: str, *key_arns: str | None) -> None:
    """Let a role read secrets that are encrypted with these keys, through Secrets Manager only."""
    named = sorted({arn for arn in key_arns if arn})
    if not named:
        return
    role.add_to_principal_policy(
        iam.PolicyStatement(
            sid=sid,
            actions=["kms:Decrypt"],
            resources=named,
            conditions={"StringEquals": {"kms:ViaService": sorted({_secrets_manager(arn) for arn in named})}},
        )
    )


def _secrets_manager(key_arn: str) -> str:
    """Secrets Manager in the key's region, by the name that KMS gives it in conditions."""
    return f"secretsmanager.{key_arn.split(':')[3]}.amazonaws.com"
