"""The worker: a Fargate service that grows from nothing with the queue and shrinks back to nothing."""

from __future__ import annotations

import aws_cdk as cdk
from aws_cdk import aws_ecs as ecs
from aws_cdk import aws_iam as iam
from constructs import Construct

from turnkeeper_infra import names
from turnkeeper_infra.acknowledge import acknowledge
from turnkeeper_infra.config import Config
from turnkeeper_infra.functions import common_settings, model_settings
from turnkeeper_infra.gateway import PORT, GatewayDoor
from turnkeeper_infra.grants import Grants
from turnkeeper_infra.image import worker_image
from turnkeeper_infra.logs import count_failed_wakes, log_group
from turnkeeper_infra.network import Network
from turnkeeper_infra.proving import ProvenImage
from turnkeeper_infra.runners import equip
from turnkeeper_infra.scaling import WorkerScaling
from turnkeeper_infra.state import StateStack

STOP_SECONDS = 120
"""The most that Fargate allows between SIGTERM and SIGKILL; the worker hands back what it could not finish."""

HEALTH_PORT = 8080
SPOT_SHARE = 3
"""Of four tasks after the first three run on Spot: sessions survive an interruption, and its two minutes' notice is the
drain. The first is on demand, since Spot may have no room, and then nobody would work."""


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
            # Named, so that those who wake the service know it before it is made (`names.worker_service`).
            cluster_name=config.name,
            vpc=network.vpc,
            container_insights_v2=ecs.ContainerInsights.ENABLED,
            enable_fargate_capacity_providers=True,
        )
        task = self._task(cluster)
        self.service = self._service(network, cluster, task)
        if config.gateway_certificate_arn is not None:
            GatewayDoor(self, "Gateway", config=config, network=network, service=self.service)
        ProvenImage(self, "ProvenImage", config=config, task=task, service=self.service)
        WorkerScaling(
            self,
            "Scaling",
            service=self.service,
            queue=state.queue,
            most_tasks=config.worker_max_tasks,
            slots=config.worker_concurrency,
            least_tasks=config.least_tasks,
        )
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
        grants.take_jobs().send_jobs().wake_worker(self._config).sign_tokens().call_model(self._config)
        equip(role, self._config)
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

        log = log_group(self, "Logs", self._config)
        count_failed_wakes(log, self._config)
        task = ecs.FargateTaskDefinition(
            self,
            "Task",
            cpu=1024 * self._config.worker_vcpus,
            memory_limit_mib=4096 * self._config.worker_vcpus,
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
                "TURNKEEPER_HEALTH_PORT": str(HEALTH_PORT),
                "TURNKEEPER_WORKER_PROCESSES": str(self._config.worker_processes),
                "POWERTOOLS_SERVICE_NAME": "worker",
                **self._gateway_settings(),
            },
            port_mappings=[ecs.PortMapping(container_port=PORT)] if self._gateway_settings() else None,
            logging=ecs.LogDrivers.aws_logs(
                stream_prefix="worker",
                log_group=log,
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

    def _gateway_settings(self) -> dict[str, str]:
        if self._config.gateway_certificate_arn is None:
            return {}
        return {"TURNKEEPER_GATEWAY_PORT": str(PORT), "TURNKEEPER_GATEWAY_HOST": "0.0.0.0"}  # noqa: S104

    def _service(self, network: Network, cluster: ecs.Cluster, task: ecs.FargateTaskDefinition) -> ecs.FargateService:
        service = ecs.FargateService(
            self,
            "Service",
            service_name=names.WORKER_SERVICE,
            cluster=cluster,
            task_definition=task,
            # No desired count: each update would set it back, whatever runs. A new service begins with one task.
            assign_public_ip=network.public_addresses,
            vpc_subnets=network.subnets,
            security_groups=network.outbound_only(self),
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
    "u.urlopen('http://127.0.0.1:' + os.environ['TURNKEEPER_HEALTH_PORT'] + '/healthz', timeout=4)"
)
