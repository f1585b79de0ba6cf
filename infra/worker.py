"""The worker: a Fargate service that grows from nothing with the queue and shrinks back to nothing."""

from __future__ import annotations

import aws_cdk as cdk
from aws_cdk import aws_applicationautoscaling as autoscaling
from aws_cdk import aws_cloudwatch as cloudwatch
from aws_cdk import aws_cloudwatch_actions as actions
from aws_cdk import aws_ecs as ecs
from aws_cdk import aws_iam as iam
from constructs import Construct

from infra import setting_keys
from infra.acknowledge import acknowledge
from infra.config import Config
from infra.functions import common_settings, model_settings
from infra.grants import Grants
from infra.image import worker_image
from infra.logs import log_group
from infra.network import Network
from infra.runners import equip
from infra.state import StateStack

STOP_SECONDS = 120
"""The most that Fargate allows between SIGTERM and SIGKILL; the worker hands back what it could not finish."""

HEALTH_PORT = 8080
SPOT_SHARE = 3
"""Of four tasks three run on spot: sessions survive an interruption, and the two minutes' notice is the drain."""


class WorkerStack(cdk.Stack):
    """Network, cluster, service, scaling."""

    def __init__(self, scope: Construct, id: str, *, config: Config, state: StateStack) -> None:
        super().__init__(scope, id, description="Turnkeeper: the worker for long tasks")
        self._config = config
        self._state = state
        network = Network(self, "Network", config=config)
        network.add_endpoints()
        cluster = ecs.Cluster(
            self,
            "Cluster",
            vpc=network.vpc,
            container_insights_v2=ecs.ContainerInsights.ENABLED,
            enable_fargate_capacity_providers=True,
        )
        self.service = self._service(network, cluster, self._task(cluster))
        self._scale(self.service)
        cdk.CfnOutput(self, "ClusterName", value=cluster.cluster_name)
        cdk.CfnOutput(self, "ServiceName", value=self.service.service_name)

    def _task(self, cluster: ecs.Cluster) -> ecs.FargateTaskDefinition:
        role = iam.Role(
            self,
            "TaskRole",
            assumed_by=iam.ServicePrincipal("ecs-tasks.amazonaws.com"),
            description="What the worker may do",
        )
        grants = Grants(self._state, role)
        grants.read_sessions().write_sessions().check_items().read_claims().write_claims()
        grants.take_jobs().send_jobs().sign_tokens().call_model(self._config)
        equip(role, self._config)
        role.add_to_principal_policy(
            iam.PolicyStatement(
                sid="ProtectOwnTask",
                actions=["ecs:GetTaskProtection", "ecs:UpdateTaskProtection"],
                resources=[self.format_arn(service="ecs", resource="task", resource_name=f"{cluster.cluster_name}/*")],
            )
        )
        cluster_id = self.resolve(cluster.cluster_name)["Ref"]
        acknowledge(
            role,
            "AwsSolutions-IAM5[Resource::arn:<AWS::Partition>:ecs:<AWS::Region>:<AWS::AccountId>:"
            f"task/<{cluster_id}>/*]",
            "A task's id is not known before it runs; this covers the tasks of the kit's own cluster.",
        )

        task = ecs.FargateTaskDefinition(
            self,
            "Task",
            cpu=1024,
            memory_limit_mib=4096,
            task_role=role,
            runtime_platform=ecs.RuntimePlatform(
                cpu_architecture=ecs.CpuArchitecture.ARM64,
                operating_system_family=ecs.OperatingSystemFamily.LINUX,
            ),
        )
        task.add_container(
            "worker",
            image=worker_image(self, self._config),
            # Names and addresses only. The process fetches both secrets itself, so that neither is in the task
            # definition and a rotated signing key is seen without a deployment.
            environment={
                **common_settings(self._config, self._state),
                **model_settings(self._config, self._state),
                setting_keys.WORKER_CONCURRENCY: str(self._config.worker_concurrency),
                setting_keys.HEALTH_PORT: str(HEALTH_PORT),
                setting_keys.SERVICE_NAME: "worker",
            },
            logging=ecs.LogDrivers.aws_logs(
                stream_prefix="worker",
                log_group=log_group(self, "Logs", self._config),
                mode=ecs.AwsLogDriverMode.NON_BLOCKING,
            ),
            stop_timeout=cdk.Duration.seconds(STOP_SECONDS),
            linux_parameters=ecs.LinuxParameters(self, "Init", init_process_enabled=True),
            health_check=ecs.HealthCheck(
                command=["CMD", "python", "-c", _HEALTH_PROBE],
                interval=cdk.Duration.seconds(15),
                timeout=cdk.Duration.seconds(5),
                retries=3,
                start_period=cdk.Duration.seconds(60),
            ),
        )
        acknowledge(
            task,
            "AwsSolutions-ECS2",
            "Names and addresses of the kit's own resources; secrets are fetched by the process.",
        )
        execution_role = task.obtain_execution_role()
        acknowledge(execution_role, "AwsSolutions-IAM5[Resource::*]", "ecr:GetAuthorizationToken takes no resource.")
        return task

    def _service(self, network: Network, cluster: ecs.Cluster, task: ecs.FargateTaskDefinition) -> ecs.FargateService:
        return ecs.FargateService(
            self,
            "Service",
            cluster=cluster,
            task_definition=task,
            desired_count=0,
            assign_public_ip=network.public_addresses,
            vpc_subnets=network.subnets,
            security_groups=network.outbound_only(self),
            capacity_provider_strategies=[
                ecs.CapacityProviderStrategy(capacity_provider="FARGATE", weight=1),
                ecs.CapacityProviderStrategy(capacity_provider="FARGATE_SPOT", weight=SPOT_SHARE),
            ],
            min_healthy_percent=100,
            max_healthy_percent=200,
            circuit_breaker=ecs.DeploymentCircuitBreaker(enable=True, rollback=True),
            propagate_tags=ecs.PropagatedTagSource.SERVICE,
        )

    def _scale(self, service: ecs.FargateService) -> None:
        """Steps on the backlog: waiting and running messages together.

        Not target tracking: that refuses a metric expression, and cannot tell 0 from 1. Running messages count too, or
        the last session would lose its task as soon as it is taken. ECS task protection guards the rest.
        """
        target = service.auto_scale_task_count(min_capacity=0, max_capacity=self._config.worker_max_tasks)
        backlog = self._backlog()
        per_task = self._config.worker_concurrency
        grow = autoscaling.StepScalingAction(
            self,
            "Grow",
            scaling_target=target,
            adjustment_type=autoscaling.AdjustmentType.EXACT_CAPACITY,
            metric_aggregation_type=autoscaling.MetricAggregationType.MAXIMUM,
        )
        # Bounds are relative to the alarm's threshold of one message.
        steps = _doubling(self._config.worker_max_tasks)
        for tasks, following in zip(steps, [*steps[1:], None], strict=True):
            grow.add_adjustment(
                adjustment=tasks,
                lower_bound=(tasks - 1) * per_task if tasks > 1 else 0,
                upper_bound=None if following is None else (following - 1) * per_task,
            )
        self._alarm("BacklogToWorkOn", backlog, minutes=1, at_least_one=True).add_alarm_action(
            actions.ApplicationScalingAction(grow)
        )
        rest = autoscaling.StepScalingAction(
            self, "Rest", scaling_target=target, adjustment_type=autoscaling.AdjustmentType.EXACT_CAPACITY
        )
        rest.add_adjustment(adjustment=0, upper_bound=0)
        self._alarm("NothingToDo", backlog, minutes=10, at_least_one=False).add_alarm_action(
            actions.ApplicationScalingAction(rest)
        )

    def _backlog(self) -> cloudwatch.MathExpression:
        minute = cdk.Duration.minutes(1)
        queue = self._state.queue
        return cloudwatch.MathExpression(
            expression="waiting + running",
            label="Backlog",
            period=minute,
            using_metrics={
                "waiting": queue.metric_approximate_number_of_messages_visible(period=minute, statistic="Maximum"),
                "running": queue.metric_approximate_number_of_messages_not_visible(period=minute, statistic="Maximum"),
            },
        )

    def _alarm(
        self, id: str, backlog: cloudwatch.MathExpression, *, minutes: int, at_least_one: bool
    ) -> cloudwatch.Alarm:
        comparison = cloudwatch.ComparisonOperator
        return cloudwatch.Alarm(
            self,
            id,
            metric=backlog,
            threshold=1 if at_least_one else 0,
            comparison_operator=(
                comparison.GREATER_THAN_OR_EQUAL_TO_THRESHOLD
                if at_least_one
                else comparison.LESS_THAN_OR_EQUAL_TO_THRESHOLD
            ),
            evaluation_periods=minutes,
            treat_missing_data=cloudwatch.TreatMissingData.IGNORE,
            alarm_description="Scales the worker; not an alert",
        )


def _doubling(most: int) -> list[int]:
    """1, 2, 4 ... up to `most`: a policy takes at most 20 steps, and halving the wait is what counts."""
    steps = [1]
    while steps[-1] * 2 < most:
        steps.append(steps[-1] * 2)
    return steps if steps[-1] == most else [*steps, most]


_HEALTH_PROBE = (
    "import os, urllib.request as u; "
    f"u.urlopen('http://127.0.0.1:' + os.environ['{setting_keys.HEALTH_PORT}'] + '/healthz', timeout=4)"
)
