"""What a stage's file gives the two that run tools (turn Lambda, worker) besides: statements, secrets, variables."""

from __future__ import annotations

import json

from aws_cdk import aws_iam as iam

from turnkeeper_infra import keys
from turnkeeper_infra.acknowledge import acknowledge
from turnkeeper_infra.config import Config
from turnkeeper_infra.config.tables import RunnerSecret, ToolSecret
from turnkeeper_infra.keys import use_key


def runner_variables(config: Config) -> dict[str, str]:
    """Variables as they are, and for each secret its ARN: a tool fetches the secret itself, no environment holds it."""
    named = {secret.variable: secret.arn for secret in config.runners.secrets}
    return {**config.runners.variables, **named, **tool_values(config)}


def tool_values(config: Config) -> dict[str, str]:
    """What `ctx.secret` and `ctx.setting` find, one variable each. Locally both are there whatever they hold, since
    they are said when the stacks are deployed."""
    arns = {name: secret.arn for name, secret in config.secrets.items()}
    told = {"TURNKEEPER_TOOL_SECRETS": arns, "TURNKEEPER_TOOL_SETTINGS": config.settings}
    return {key: json.dumps(values, sort_keys=True) for key, values in told.items() if values or config.local}


def equip(role: iam.Role, config: Config) -> None:
    """Let a runner's role do what the file says, and nothing else."""
    for statement in config.runners.policies:
        role.add_to_principal_policy(
            iam.PolicyStatement(sid=statement.sid, actions=list(statement.actions), resources=list(statement.resources))
        )
        for resource in statement.resources:
            if "*" in resource:
                acknowledge(role, f"AwsSolutions-IAM5[Resource::{resource}]", "Named so in the stage's file.")
    secrets: list[RunnerSecret | ToolSecret] = [*config.runners.secrets, *config.secrets.values()]
    if secrets:
        role.add_to_principal_policy(
            iam.PolicyStatement(
                sid="ReadToolSecrets",
                actions=["secretsmanager:GetSecretValue"],
                resources=sorted({secret.arn for secret in secrets}),
            )
        )
    use_key(role, "secretsmanager", keys.READ, *(secret.kms_key_arn for secret in secrets))
