"""Which settings of a stage go together, and which need each other."""

from __future__ import annotations

import json

from turnkeeper_infra.config.choices import Choices
from turnkeeper_infra.config.tables import SECRET_NAME

MOST_TOOL_VALUES = 2_000
"""Characters of names, ARNs and settings, as JSON: Lambda takes 4 KB of variables in all."""


def check(config: Choices) -> None:
    """
    Raises:
        ValueError: says which settings, and what to write.
    """
    _check_identity(config)
    _check_network(config)
    _check_edge(config)
    if config.turn_seconds >= config.turn_timeout_seconds:
        raise ValueError("turn_seconds has to be less than turn_timeout_seconds: the rest is for handing off")
    _check_values(config)
    if config.least_tasks > config.worker_max_tasks:
        raise ValueError(f"worker_max_tasks is less than the {config.least_tasks} that always run")
    if config.model_secret_kms_key_arn and not config.model_secret_arn:
        raise ValueError("model_secret_kms_key_arn is the key of model_secret_arn, which is not given")
    if bool(config.table_name) != bool(config.table_stream_arn):
        raise ValueError("table_name and table_stream_arn go together: the observer reads the stream")
    if config.table_stream_arn and f":table/{config.table_name}/stream/" not in config.table_stream_arn:
        raise ValueError(f"table_stream_arn is not of the table {config.table_name}")


def _check_values(config: Choices) -> None:
    secrets = {name: secret.arn for name, secret in config.secrets.items()}
    told = json.dumps([config.settings, secrets, [queue.arn for queue in config.reply_queues.values()]])
    if len(told) > MOST_TOOL_VALUES:
        raise ValueError(
            f"secrets, settings and reply_queues have {len(told)} characters of {MOST_TOOL_VALUES}: "
            "keep what is long in a secret"
        )
    for name in config.settings:
        if SECRET_NAME.search(name):
            raise ValueError(f"settings.{name} looks like a secret; name its ARN in [secrets] instead")


def _check_identity(config: Choices) -> None:
    match config.identity:
        case "jwt":
            if not config.jwt_issuer:
                raise ValueError('identity = "jwt" needs jwt_issuer: whose tokens are they?')
            if not config.jwt_audience:
                raise ValueError("jwt_issuer needs jwt_audience: a token for another audience must be refused")
        case "iam":
            if not config.trusted_principals:
                raise ValueError('identity = "iam" needs trusted_principals: without any, the API refuses everybody')
        case "local":
            if not config.local:
                raise ValueError('identity must be "jwt" or "iam"; "local" trusts headers and is the emulator\'s')
    if config.identity != "jwt" and config.jwt_issuer:
        raise ValueError(f'jwt_issuer is of no use with identity = "{config.identity}"; leave one of them out')
    if config.identity != "iam" and config.trusted_principals:
        raise ValueError(f'trusted_principals are of no use with identity = "{config.identity}"; leave one of them out')
    if config.stream_public and not (config.streaming and config.identity == "iam"):
        raise ValueError('stream_public is about streaming = true with identity = "iam"; leave it out')


def _check_network(config: Choices) -> None:
    if not config.vpc_id:
        for name in ("vpc_subnet_ids", "vpc_cidr", "vpc_security_group_ids"):
            if getattr(config, name):
                raise ValueError(f"{name} needs vpc_id: which network is it of?")
        return
    if not config.vpc_subnet_ids:
        raise ValueError("vpc_id needs vpc_subnet_ids: where in the network do the runners stand?")
    if config.nat_gateways:
        raise ValueError("nat_gateways is about a network of the kit's own; leave it out with vpc_id")
    for name in ("vpc_endpoints", "gateway_certificate_arn"):
        if getattr(config, name) and not config.vpc_cidr:
            raise ValueError(f"{name} in an existing network needs vpc_cidr: who may call it?")


def _check_edge(config: Choices) -> None:
    if bool(config.domain_name) != bool(config.certificate_arn):
        raise ValueError("domain_name and certificate_arn go together: the certificate is of that name")
    if config.web_acl_arn and not config.domain_name:
        raise ValueError("web_acl_arn needs domain_name: it stands at CloudFront, not at the API")
    if config.domain_name and config.identity != "jwt":
        raise ValueError('domain_name needs identity = "jwt": a signed request names the API\'s own host')
