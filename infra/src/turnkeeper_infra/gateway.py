"""The way to the gateway: an internal load balancer in front of the worker's tasks, where a stage asks for one."""

from __future__ import annotations

import aws_cdk as cdk
from aws_cdk import aws_certificatemanager as certificates
from aws_cdk import aws_ec2 as ec2
from aws_cdk import aws_ecs as ecs
from aws_cdk import aws_elasticloadbalancingv2 as balancing
from constructs import Construct

from turnkeeper_infra.acknowledge import acknowledge
from turnkeeper_infra.config import Config
from turnkeeper_infra.network import Network

PORT = 8081
"""Where each task serves the gateway."""

IDLE_SECONDS = 1_260
"""An answer that is not streamed may be silent for as long as a call may take."""

DRAIN_SECONDS = 120
"""What a task has between SIGTERM and its end."""


class GatewayDoor(Construct):
    """HTTPS, from inside the network only."""

    def __init__(
        self, scope: Construct, id: str, *, config: Config, network: Network, service: ecs.FargateService
    ) -> None:
        super().__init__(scope, id)
        assert config.gateway_certificate_arn is not None
        callers = ec2.SecurityGroup(
            self, "Callers", vpc=network.vpc, description="Who may call the gateway", allow_all_outbound=False
        )
        callers.add_ingress_rule(ec2.Peer.ipv4(config.vpc_cidr or network.vpc.vpc_cidr_block), ec2.Port.tcp(443))
        acknowledge(callers, "AwsSolutions-EC23", "The range is the network's own.")
        balancer = balancing.ApplicationLoadBalancer(
            self,
            "Balancer",
            vpc=network.vpc,
            vpc_subnets=network.subnets,
            internet_facing=False,
            security_group=callers,
            idle_timeout=cdk.Duration.seconds(IDLE_SECONDS),
            drop_invalid_header_fields=True,
            deletion_protection=config.stage == "prod",
        )
        acknowledge(
            balancer,
            "AwsSolutions-ELB2",
            "Each call is a record of the ledger, with its token; a log here would only add addresses of the network.",
        )
        listener = balancer.add_listener(
            "Https",
            port=443,
            open=False,
            certificates=[
                balancing.ListenerCertificate.from_certificate_manager(
                    certificates.Certificate.from_certificate_arn(self, "Certificate", config.gateway_certificate_arn)
                )
            ],
            ssl_policy=balancing.SslPolicy.RECOMMENDED_TLS,
        )
        listener.add_targets(
            "Tasks",
            port=PORT,
            protocol=balancing.ApplicationProtocol.HTTP,
            targets=[service.load_balancer_target(container_name="worker", container_port=PORT)],
            # Everything but the two calls is not found there, which says that it answers.
            health_check=balancing.HealthCheck(path="/", healthy_http_codes="404", interval=cdk.Duration.seconds(10)),
            deregistration_delay=cdk.Duration.seconds(DRAIN_SECONDS),
        )
        cdk.CfnOutput(scope, "GatewayHost", value=balancer.load_balancer_dns_name)
