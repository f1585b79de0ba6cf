"""Where the runners stand: a network of the kit's own, with or without a NAT, or an existing one."""

from __future__ import annotations

from aws_cdk import aws_ec2 as ec2
from constructs import Construct

from turnkeeper_infra.acknowledge import acknowledge
from turnkeeper_infra.config import Config
from turnkeeper_infra.logs import log_group


class Network(Construct):
    """A network for what runs tools and calls the model.

    With `vpc_id` it is that one: nothing is looked up, so its subnets are named, and nothing is made in it but security
    groups and the endpoints that are asked for. Otherwise it is made: with a NAT gateway the runners have no address of
    their own, without one they stand in public subnets, with an address each and no way in.
    """

    def __init__(self, scope: Construct, id: str, *, config: Config) -> None:
        super().__init__(scope, id)
        self._config = config
        self.public_addresses = config.vpc_id is None and config.nat_gateways == 0
        """Whether a task needs an address of its own to reach anything."""
        self.vpc: ec2.IVpc = self._existing(config.vpc_id) if config.vpc_id else self._made()

    @property
    def subnets(self) -> ec2.SubnetSelection:
        """Where the runners stand."""
        if self._config.vpc_id:
            return ec2.SubnetSelection(subnets=self.vpc.private_subnets)
        kind = ec2.SubnetType.PUBLIC if self.public_addresses else ec2.SubnetType.PRIVATE_WITH_EGRESS
        return ec2.SubnetSelection(subnet_type=kind)

    def outbound_only(self, scope: Construct, id: str = "") -> list[ec2.ISecurityGroup]:
        """A security group that lets nothing in, and those that the stage's file names besides."""
        own = ec2.SecurityGroup(
            scope, f"{id}OutboundOnly", vpc=self.vpc, description="Runs tools; answers nobody", allow_all_outbound=True
        )
        named = self._config.vpc_security_group_ids
        return [
            own,
            *(
                ec2.SecurityGroup.from_security_group_id(scope, f"{id}Named{number}", group, mutable=False)
                for number, group in enumerate(named)
            ),
        ]

    def add_endpoints(self) -> None:
        """The interface endpoints that the stage's file names; whoever is in the network may call them."""
        for name in self._config.vpc_endpoints:
            service: ec2.IInterfaceVpcEndpointService = (
                ec2.InterfaceVpcEndpointService(name, 443)
                if name.startswith("com.amazonaws.vpce")
                else ec2.InterfaceVpcEndpointAwsService(name)
            )
            id = "".join(part.capitalize() for part in name.replace("-", ".").split("."))
            group = ec2.SecurityGroup(
                self, f"{id}Callers", vpc=self.vpc, description=f"Who may call {name}", allow_all_outbound=False
            )
            group.add_ingress_rule(ec2.Peer.ipv4(self._config.vpc_cidr or self.vpc.vpc_cidr_block), ec2.Port.tcp(443))
            acknowledge(group, "CdkNagValidationFailure[AwsSolutions-EC23]", "The range is the network's own.")
            self.vpc.add_interface_endpoint(
                id, service=service, subnets=self.subnets, security_groups=[group], open=False
            )

    def _existing(self, vpc_id: str) -> ec2.IVpc:
        subnet_ids = list(self._config.vpc_subnet_ids)
        return ec2.Vpc.from_vpc_attributes(
            self,
            "Existing",
            vpc_id=vpc_id,
            vpc_cidr_block=self._config.vpc_cidr,
            # Asked for by the CDK, one a subnet, and written nowhere: the subnets say where they are.
            availability_zones=[f"of-{subnet}" for subnet in subnet_ids],
            private_subnet_ids=subnet_ids,
        )

    def _made(self) -> ec2.Vpc:
        subnets = [ec2.SubnetConfiguration(name="public", subnet_type=ec2.SubnetType.PUBLIC, cidr_mask=24)]
        if not self.public_addresses:
            subnets.append(
                ec2.SubnetConfiguration(name="worker", subnet_type=ec2.SubnetType.PRIVATE_WITH_EGRESS, cidr_mask=22)
            )
        vpc = ec2.Vpc(
            self,
            "Default",  # the CDK leaves this out of logical ids: the network keeps the one it always had
            max_azs=2,
            nat_gateways=self._config.nat_gateways,
            subnet_configuration=subnets,
            # Table and bucket are reached without leaving AWS's network, and without paying the NAT for it.
            gateway_endpoints={
                "Table": ec2.GatewayVpcEndpointOptions(service=ec2.GatewayVpcEndpointAwsService.DYNAMODB),
                "Claims": ec2.GatewayVpcEndpointOptions(service=ec2.GatewayVpcEndpointAwsService.S3),
            },
        )
        vpc.add_flow_log(
            "Rejected",
            traffic_type=ec2.FlowLogTrafficType.REJECT,
            destination=ec2.FlowLogDestination.to_cloud_watch_logs(log_group(self, "RejectedLogs", self._config)),
        )
        return vpc
