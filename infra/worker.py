"""The worker: a Fargate service that grows from nothing with the queue and shrinks back to nothing."""

from __future__ import annotations

import aws_cdk as cdk
from aws_cdk import aws_ec2 as ec2
from aws_cdk import aws_ecr_assets as ecr_assets
from aws_cdk import aws_ecs as ecs
from aws_cdk import aws_iam as iam
from aws_cdk import aws_logs as logs
from constructs import Construct

from infra import names, setting_keys
from infra.acknowledge import acknowledge
from infra.config import Config
from infra.functions import common_settings, model_settings
from infra.grants import Grants
from infra.proving import ProvenImage
from infra.scaling import WorkerScaling
from infra.state import StateStack

STOP_SECONDS = 120
"""The most that Fargate allows between SIGTERM and SIGKILL; the worker hands back what it could not finish."""

HEALTH_PORT = 8080
SPOT_SHARE = 3
"""Of four tasks after the first three run on Spot: sessions survive an interruption, and its two minutes' notice is the
drain. The first is on demand, since Spot may have no room, and then nobody would work."""

IMAGE_CONTENTS = ("agents", "fargate_worker", "policy.toml", "pyproject.toml", "requirements/runtime.txt", "shared/src")
"""What the image is built from; everything else in the repository stays out of the build context."""


class WorkerStack(cdk.Stack):
    """Network, cluster, service, scaling."""

    def __init__(self, scope: Construct, id: str, *, config: Config, state: StateStack) -> None:
        super().__init__(scope, id, description="Turnkeeper: the worker for long tasks")
        self._config = config
        self._state = state
        self._public = config.nat_gateways == 0
        vpc = self._network()
        cluster = ecs.Cluster(
            self,
            "Cluster",
            # Named, so that those who wake the service know it before it is made (`infra.names.worker_service`).
            cluster_name=config.name,
            vpc=vpc,
            container_insights_v2=ecs.ContainerInsights.ENABLED,
            enable_fargate_capacity_providers=True,
        )
        task = self._task(cluster)
        self.service = self._service(vpc, cluster, task)
        ProvenImage(self, "ProvenImage", config=config, task=task, service=self.service)
        WorkerScaling(
            self,
            "Scaling",
            service=self.service,
            queue=state.queue,
            most_tasks=config.worker_max_tasks,
            slots=config.worker_concurrency,
        )
        cdk.CfnOutput(self, "ClusterName", value=cluster.cluster_name)
        cdk.CfnOutput(self, "ServiceName", value=self.service.service_name)

    def _network(self) -> ec2.Vpc:
        subnets = [ec2.SubnetConfiguration(name="public", subnet_type=ec2.SubnetType.PUBLIC, cidr_mask=24)]
        if not self._public:
            subnets.append(
                ec2.SubnetConfiguration(name="worker", subnet_type=ec2.SubnetType.PRIVATE_WITH_EGRESS, cidr_mask=22)
            )
        vpc = ec2.Vpc(
            self,
            "Network",
            max_azs=2,
            nat_gateways=self._config.nat_gateways,
            subnet_configuration=subnets,
            # Table and bucket are reached without leaving AWS's network, and without paying the NAT for it.
            gateway_endpoints={
                "Table": ec2.GatewayVpcEndpointOptions(service=ec2.GatewayVpcEndpointAwsService.DYNAMODB),
                "Claims": ec2.GatewayVpcEndpointOptions(service=ec2.GatewayVpcEndpointAwsService.S3),
            },
        )
        vpc.add_flow_log("Rejected", traffic_type=ec2.FlowLogTrafficType.REJECT)
        return vpc

    def _task(self, cluster: ecs.Cluster) -> ecs.FargateTaskDefinition:
        role = iam.Role(
            self,
            "TaskRole",
            assumed_by=iam.ServicePrincipal("ecs-tasks.amazonaws.com"),
            description="What the worker may do",
        )
        grants = Grants(self._state, role)
        grants.read_sessions().write_sessions().read_claims().write_claims()
        grants.take_jobs().send_jobs().wake_worker(self._config).sign_tokens().call_model(self._config)
        role.add_to_principal_policy(
            iam.PolicyStatement(
                sid="ProtectOwnTask",
                actions=["ecs:DescribeTasks", "ecs:GetTaskProtection", "ecs:UpdateTaskProtection"],
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
        log_group = logs.LogGroup(
            self,
            "Logs",
            retention=logs.RetentionDays.THREE_MONTHS,
            removal_policy=cdk.RemovalPolicy.RETAIN if self._config.keeps_data else cdk.RemovalPolicy.DESTROY,
        )
        task.add_container(
            "worker",
            image=ecs.ContainerImage.from_asset(
                str(self._config.source_root),
                file="fargate_worker/Dockerfile",
                platform=ecr_assets.Platform.LINUX_ARM64,
                ignore_mode=cdk.IgnoreMode.DOCKER,
                exclude=["*", *(f"!{part}" for part in IMAGE_CONTENTS), "**/__pycache__", "**/*.pyc"],
            ),
            # Names and addresses only. The process fetches both secrets itself, so that neither is in the task
            # definition and a rotated signing key is seen without a deployment.
            environment={
                **common_settings(self._config, self._state),
                **model_settings(self._config, self._state),
                setting_keys.HEALTH_PORT: str(HEALTH_PORT),
                setting_keys.SERVICE_NAME: "worker",
            },
            logging=ecs.LogDrivers.aws_logs(
                stream_prefix="worker", log_group=log_group, mode=ecs.AwsLogDriverMode.NON_BLOCKING
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

    def _service(self, vpc: ec2.Vpc, cluster: ecs.Cluster, task: ecs.FargateTaskDefinition) -> ecs.FargateService:
        outbound_only = ec2.SecurityGroup(
            self, "OutboundOnly", vpc=vpc, description="The worker answers nobody", allow_all_outbound=True
        )
        service = ecs.FargateService(
            self,
            "Service",
            service_name=names.WORKER_SERVICE,
            cluster=cluster,
            task_definition=task,
            # No desired count: each update would set it back, whatever runs. A new service begins with one task.
            assign_public_ip=self._public,
            vpc_subnets=ec2.SubnetSelection(
                subnet_type=ec2.SubnetType.PUBLIC if self._public else ec2.SubnetType.PRIVATE_WITH_EGRESS
            ),
            security_groups=[outbound_only],
            capacity_provider_strategies=[
                ecs.CapacityProviderStrategy(capacity_provider="FARGATE", weight=1, base=1),
                ecs.CapacityProviderStrategy(capacity_provider="FARGATE_SPOT", weight=SPOT_SHARE),
            ],
            min_healthy_percent=100,
            max_healthy_percent=200,
            circuit_breaker=ecs.DeploymentCircuitBreaker(enable=True, rollback=True),
            propagate_tags=ecs.PropagatedTagSource.SERVICE,
        )
        # The cluster is given its capacity providers by a resource of its own, without which the service cannot be
        # made, and which cannot be taken away while the service uses it.
        service.node.add_dependency(cluster)
        return service


_HEALTH_PROBE = (
    "import os, urllib.request as u; "
    f"u.urlopen('http://127.0.0.1:' + os.environ['{setting_keys.HEALTH_PORT}'] + '/healthz', timeout=4)"
)
