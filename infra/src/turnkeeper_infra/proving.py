"""That a broken image of the worker is found out while it is deployed."""

from __future__ import annotations

import aws_cdk as cdk
from aws_cdk import aws_ecs as ecs
from aws_cdk import aws_iam as iam
from aws_cdk import aws_lambda as lambda_
from constructs import Construct

from turnkeeper_infra import names
from turnkeeper_infra.acknowledge import acknowledge
from turnkeeper_infra.config import Config
from turnkeeper_infra.logs import log_group


class ProvenImage(Construct):
    """Before each update of the service to another task definition, it is given one task where it has none: so the
    update has to start one, and the deployment's circuit breaker sees whether it does.

    `functions/prove` is in the template itself, so that the stack needs no asset for it.
    """

    def __init__(
        self,
        scope: Construct,
        id: str,
        *,
        config: Config,
        task: ecs.FargateTaskDefinition,
        service: ecs.FargateService,
    ) -> None:
        super().__init__(scope, id)
        log = log_group(self, "Logs", config)
        role = iam.Role(
            self,
            "Role",
            assumed_by=iam.ServicePrincipal("lambda.amazonaws.com"),
            description="What a deployment of the worker may do before it",
        )
        # By its name: the service waits for this, and must not be waited for.
        service_name = names.worker_service(config.name)
        for sid, actions, resource in (
            (
                "WakeWorker",
                ["ecs:DescribeServices", "ecs:UpdateService"],
                cdk.Stack.of(self).format_arn(service="ecs", resource="service", resource_name=service_name),
            ),
            ("WriteOwnLog", ["logs:CreateLogStream", "logs:PutLogEvents"], log.log_group_arn),
        ):
            role.add_to_principal_policy(iam.PolicyStatement(sid=sid, actions=actions, resources=[resource]))
        function = lambda_.Function(
            self,
            "Function",
            runtime=lambda_.Runtime.PYTHON_3_13,
            architecture=lambda_.Architecture.ARM_64,
            code=lambda_.Code.from_inline((config.kit.functions / "prove" / "handler.py").read_text()),
            handler="index.handler",
            description="Gives the worker a task before it is updated",
            timeout=cdk.Duration.seconds(60),
            role=role,
            log_group=log,
        )
        acknowledge(function, "AwsSolutions-L1", "The same Python as the kit's other functions.")
        awake = cdk.CustomResource(
            self,
            "Awake",
            resource_type="Custom::WorkerAwake",
            service_token=function.function_arn,
            service_timeout=cdk.Duration.minutes(5),
            properties={"Service": service_name, "TaskDefinition": task.task_definition_arn},
        )
        awake.node.add_dependency(role)
        service.node.add_dependency(awake)
