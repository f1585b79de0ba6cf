"""How every Lambda of the kit is made: one code asset, one dependency layer, a role and a log group of its own."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import aws_cdk as cdk
from aws_cdk import aws_iam as iam
from aws_cdk import aws_lambda as lambda_
from aws_cdk import aws_s3 as s3
from constructs import Construct

from turnkeeper_infra import bundle, names
from turnkeeper_infra.acknowledge import acknowledge
from turnkeeper_infra.config import Config
from turnkeeper_infra.config.tables import ReplyQueue
from turnkeeper_infra.logs import count_failed_wakes, log_group
from turnkeeper_infra.network import Network
from turnkeeper_infra.runners import runner_variables
from turnkeeper_infra.state import StateStack
from turnkeeper_project.place import shown
from turnkeeper_project.target import LAMBDA_PYTHON

ANTHROPIC_URL = "https://api.anthropic.com"
LOCAL_NETWORKS = "127.0.0.0/8,::1/128"
"""Where a kit on one's own machine may post webhooks to, beside public addresses."""


class Packaging:
    """The assets that all functions of a stack share, made once."""

    def __init__(self, stack: cdk.Stack, config: Config) -> None:
        self._stack = stack
        self._interpreter = _interpreter(config)
        here = f"{sys.version_info.major}.{sys.version_info.minor}"
        version = here if config.local else LAMBDA_PYTHON
        self.code = self._built_code(
            "Code",
            bundle.code_hash(sources_of(config), version),
            ["code", version, *_from_project(config)],
        )
        self.layers: list[lambda_.ILayerVersion] = []
        self.environment: dict[str, str] = {}
        self.parameters: dict[str, str] = {}
        """Local only: settings given at deploy time, so that kits which differ in them share a cloud assembly."""
        if config.local:
            # The emulator unpacks an asset anew for every process that it starts: the dependencies stay outside.
            if config.local_dependencies is not None:
                self.environment["PYTHONPATH"] = str(config.local_dependencies)
            self.parameters = {
                "TURNKEEPER_MODEL_URL": parameter(stack, "ModelUrl", config.model_url or ANTHROPIC_URL),
                "TURNKEEPER_TURN_SECONDS": parameter(stack, "TurnSeconds", str(config.turn_seconds)),
                "TURNKEEPER_LEASE_SECONDS": parameter(stack, "LeaseSeconds", str(config.lease_seconds)),
                "TURNKEEPER_AUTO_PLACEMENT": parameter(stack, "AutoPlacement", config.auto_placement),
                "TURNKEEPER_TOOL_SECRETS": parameter(stack, "ToolSecrets", "{}"),
                "TURNKEEPER_TOOL_SETTINGS": parameter(stack, "ToolSettings", "{}"),
                "TURNKEEPER_OTLP_ENDPOINT": parameter(stack, "OtlpEndpoint", ""),
                "TURNKEEPER_REPLY_QUEUES": parameter(stack, "ReplyQueues", "{}"),
                "TURNKEEPER_TRACE_CONTENTS": parameter(stack, "TraceContents", ""),
            }
        else:
            layer = lambda_.LayerVersion(
                stack,
                "Dependencies",
                code=self._built_code("LayerCode", bundle.layer_hash(config.project), ["layer"]),
                compatible_runtimes=[_RUNTIME],
                compatible_architectures=[lambda_.Architecture.ARM_64],
                description="What Turnkeeper and its agents import, as locked",
            )
            self.layers.append(layer)

    def _built_code(self, id: str, source_hash: str, command: Sequence[str]) -> lambda_.Code:
        """An asset that the CDK builds, by `turnkeeper_infra.bundle`, when it publishes it."""
        location = self._stack.synthesizer.add_file_asset(
            source_hash=source_hash, executable=[self._interpreter, "-m", "turnkeeper_infra.bundle", *command]
        )
        bucket = s3.Bucket.from_bucket_name(self._stack, f"{id}Bucket", location.bucket_name)
        acknowledge(
            bucket,
            "Annotation::@aws-cdk/aws-lambda:codeFromBucketObjectVersionNotSpecified",
            "The object's key holds the hash of its content, so a change of code is a change of key.",
        )
        return lambda_.Code.from_bucket(bucket, location.object_key)


class KitFunction(lambda_.Function):
    """A Lambda with the settings that all of them take. Its role can write its own log, and what it is granted."""

    def __init__(
        self,
        scope: Construct,
        id: str,
        *,
        config: Config,
        state: StateStack,
        packaging: Packaging,
        handler: str,
        service: str,
        description: str,
        timeout_seconds: int,
        memory_mb: int,
        settings: Mapping[str, str] | None = None,
        snap_start: bool = False,
        most_at_once: int | None = None,
        network: Network | None = None,
    ) -> None:
        log = log_group(scope, f"{id}Logs", config)
        if not config.local:  # where nobody is woken
            count_failed_wakes(log, config)
        role = iam.Role(
            scope,
            f"{id}Role",
            assumed_by=iam.ServicePrincipal("lambda.amazonaws.com"),
            description=f"What {service} may do",
        )
        role.add_to_principal_policy(
            iam.PolicyStatement(
                sid="WriteOwnLog",
                actions=["logs:CreateLogStream", "logs:PutLogEvents"],
                # The group's own ARN ends in ":*", which is how IAM names the streams of one group.
                resources=[log.log_group_arn],
            )
        )
        environment = {
            **common_settings(config, state),
            "POWERTOOLS_SERVICE_NAME": service,
            **(settings or {}),
            **packaging.environment,
        }
        super().__init__(
            scope,
            id,
            runtime=_RUNTIME,
            architecture=lambda_.Architecture.ARM_64,
            code=packaging.code,
            layers=packaging.layers,
            handler=handler,
            description=description,
            timeout=cdk.Duration.seconds(timeout_seconds),
            memory_size=memory_mb,
            role=role,
            reserved_concurrent_executions=most_at_once,
            log_group=log,
            logging_format=lambda_.LoggingFormat.JSON,
            snap_start=lambda_.SnapStartConf.ON_PUBLISHED_VERSIONS if snap_start else None,
            # A version that a template no longer names would be removed as soon as the alias has moved on, with events
            # on their way to it, and nothing to go back to. `turnkeeper versions prune` removes them in time.
            current_version_options=lambda_.VersionOptions(
                removal_policy=cdk.RemovalPolicy.RETAIN if config.keeps_data else cdk.RemovalPolicy.DESTROY
            ),
            environment={key: packaging.parameters.get(key, value) for key, value in environment.items()},
            vpc=network.vpc if network else None,
            vpc_subnets=network.subnets if network else None,
            security_groups=network.outbound_only(network, id) if network else None,
        )
        self.kit_role = role
        self._parameters = packaging.parameters
        if network is not None:
            self.node.add_dependency(_stand_in_network(scope, id, role))
        acknowledge(self, "AwsSolutions-L1", "SnapStart and the wheels that we lock are proven on this Python.")
        acknowledge(
            self, "Annotation::@aws-cdk/aws-lambda:snapStartRequirePublish", "A version is published behind an alias."
        )

    def tell(self, settings: Mapping[str, str]) -> None:
        """Settings besides those that it was made with."""
        for key, value in settings.items():
            self.add_environment(key, self._parameters.get(key, value))


def common_settings(config: Config, state: StateStack) -> dict[str, str]:
    """What every runtime process is told, in Lambda and in the worker alike."""
    settings = {
        "TURNKEEPER_TABLE": state.table.table_name,
        "TURNKEEPER_BUCKET": state.bucket.bucket_name,
        "TURNKEEPER_QUEUE_URL": state.queue.queue_url,
        "TURNKEEPER_DLQ_URL": state.dead_letters.queue_url,
        "TURNKEEPER_SIGNING_SECRET_ID": state.signing_secret.secret_arn,
        "TURNKEEPER_MODEL_PROVIDER": config.model_provider,
        "TURNKEEPER_TURN_SECONDS": str(config.turn_seconds),
        "TURNKEEPER_LEASE_SECONDS": str(config.lease_seconds),
        "TURNKEEPER_AUTO_PLACEMENT": config.auto_placement,
        "TURNKEEPER_COMPACT_WRITES": str(config.compact_writes).lower(),
        "TURNKEEPER_IDENTITY": config.identity,
        "TURNKEEPER_ALERT_TOPIC_ARN": state.alerts.topic_arn,
        "TURNKEEPER_LOG_LEVEL": config.log_level,
        "TURNKEEPER_FETCH_CONTENTS": str(config.fetch_contents).lower(),
    }
    if config.local:
        settings["TURNKEEPER_WEBHOOK_NETWORKS"] = LOCAL_NETWORKS
    if names_of_more := bundle.further_names(len(config.agent_folders) - 1):
        settings["TURNKEEPER_AGENTS"] = ":".join(names_of_more)
    return settings | worker_settings(config) | reply_settings(config)


def worker_settings(config: Config) -> dict[str, str]:
    """What the worker can hold, and which service it is, for those who wake it; locally somebody else runs it."""
    if config.local:
        return {}
    return {
        "TURNKEEPER_WORKER_SERVICE": names.worker_service(config.name),
        "TURNKEEPER_WORKER_CONCURRENCY": str(config.worker_concurrency),
        "TURNKEEPER_WORKER_MAX_TASKS": str(config.worker_max_tasks),
    }


def reply_settings(config: Config) -> dict[str, str]:
    """Queues that jobs may have their results sent to, for whoever takes a job in and whoever sends a result."""
    urls = {name: _url(queue) for name, queue in config.reply_queues.items()}
    return {"TURNKEEPER_REPLY_QUEUES": json.dumps(urls, sort_keys=True)} if urls or config.local else {}


def _url(queue: ReplyQueue) -> str:
    _, _, _, region, account, name = queue.arn.split(":")
    return f"https://sqs.{region}.{cdk.Aws.URL_SUFFIX}/{account}/{name}"


def model_settings(config: Config, state: StateStack) -> dict[str, str]:
    """For the two that call the model and run tools; only their roles can read the secrets that are named here."""
    settings = runner_variables(config)
    if config.model_provider == "bedrock":
        return settings
    settings["TURNKEEPER_MODEL_SECRET_ID"] = state.model_secret.secret_arn
    if config.model_url or config.local:
        settings["TURNKEEPER_MODEL_URL"] = config.model_url or ANTHROPIC_URL
    return settings


def identity_settings(config: Config) -> dict[str, str]:
    """For the front door: how the authorizer's word becomes tenant, user and role."""
    if config.identity == "jwt":
        return {
            "TURNKEEPER_JWT_TENANT_CLAIM": config.jwt_tenant_claim,
            "TURNKEEPER_JWT_USER_CLAIM": config.jwt_user_claim,
            "TURNKEEPER_JWT_ROLE_CLAIM": config.jwt_role_claim,
        }
    if config.identity == "iam" and config.trusted_principals:
        named = ",".join(config.trusted_principals)
        return {"TURNKEEPER_TRUSTED_PRINCIPALS": cdk.Fn.sub(named) if "${" in named else named}
    return {}


def parameter(stack: cdk.Stack, name: str, default: str) -> str:
    """A stack parameter that is text."""
    return cdk.CfnParameter(stack, name, default=default).value_as_string


def _stand_in_network(scope: Construct, id: str, role: iam.Role) -> iam.Policy:
    """Lambda makes the function's network interfaces with the function's role, and looks whether it may beforehand."""
    statement = iam.PolicyStatement(
        sid="StandInNetwork",
        actions=[
            "ec2:AssignPrivateIpAddresses",
            "ec2:CreateNetworkInterface",
            "ec2:DeleteNetworkInterface",
            "ec2:DescribeNetworkInterfaces",
            "ec2:DescribeSubnets",
            "ec2:UnassignPrivateIpAddresses",
        ],
        resources=["*"],
    )
    policy = iam.Policy(scope, f"{id}InNetwork", roles=[role], statements=[statement])
    acknowledge(policy, "AwsSolutions-IAM5[Resource::*]", "Lambda asks for these on every resource.")
    return policy


def _interpreter(config: Config) -> str:
    """Who builds an asset when it is published, from the project that the CDK is called in: its own environment, by a
    path that holds on every machine. A local kit may run from another one, and its assembly stays on the machine."""
    own = Path(".venv", "bin", "python")
    return str(own) if not config.local and (config.project / own).exists() else sys.executable


def sources_of(config: Config) -> bundle.Sources:
    """What the assets of a deployment are made of."""
    return bundle.Sources(config.project, config.kit, tuple(config.agent_folders[1:]))


def _from_project(config: Config) -> list[str]:
    """Further agents, and the tree of the kit, as the bundler is told; nothing where both are the usual ones. Paths
    hold wherever the project is; what is outside of it keeps its whole path."""
    more = ":".join(shown(folder, config.project) for folder in config.agent_folders[1:])
    words = [more, shown(config.source_root, config.project) if config.source_root else ""]
    return words if words[1] else words[:1] if words[0] else []


_RUNTIME = lambda_.Runtime.PYTHON_3_13
