"""Where what runs tools stands, and what it is given there."""

from __future__ import annotations

import json
from typing import Any

from tests.infra.rules.rule import Found, Rule, Templates, first, handler_of, is_policy_of, turn_of
from tests.infra.variants import Variant
from turnkeeper_infra import names


def runners_stand_where_the_file_says(variant: Variant) -> Found:
    """In the existing network's subnets; nothing of it is made, looked up, or reachable from outside."""
    subnets = variant.settings["vpc_subnet_ids"].split(",")
    groups = variant.settings["vpc_security_group_ids"].split(",")
    [(_, _, service)] = variant.resources("AWS::ECS::Service")
    task = service["Properties"]["NetworkConfiguration"]["AwsvpcConfiguration"]
    [turn] = [one for _, _, one in variant.resources("AWS::Lambda::Function") if handler_of(one) == names.TURN_HANDLER]
    function = turn["Properties"].get("VpcConfig", {})
    for what, stands_in, joins in (
        ("task", task["Subnets"], task["SecurityGroups"]),
        ("turn", function.get("SubnetIds"), function.get("SecurityGroupIds", [])),
    ):
        if stands_in != subnets:
            yield f"{what} stands in {stands_in}"
        if not set(groups) < {one for one in joins if isinstance(one, str)} | {"its own"}:
            yield f"{what} does not join {groups}"
    if task["AssignPublicIp"] != "DISABLED":
        yield "a task has an address of its own"
    for kind in ("AWS::EC2::VPC", "AWS::EC2::Subnet", "AWS::EC2::NatGateway"):
        yield from (f"{id} is made in an existing network" for _, id, _ in variant.resources(kind))


def tasks_reach_out_and_nothing_reaches_in(variant: Variant) -> Found:
    """Through a NAT or with an address of their own. A way in is there for endpoints, from within the network; and
    where the gateway is served, for its load balancer, from which alone its tasks are reached."""
    [(stack, _, service)] = variant.resources("AWS::ECS::Service")
    task = service["Properties"]["NetworkConfiguration"]["AwsvpcConfiguration"]
    private = bool(list(variant.resources("AWS::EC2::NatGateway"))) or "vpc_id" in variant.settings
    if task["AssignPublicIp"] != ("DISABLED" if private else "ENABLED"):
        yield f"{stack}: tasks have {'an' if private else 'no'} address of their own"
    from turnkeeper_infra.gateway import PORT  # jsii starts with this import

    served = "gateway_certificate_arn" in variant.settings
    for stack, id, opening in variant.resources("AWS::EC2::SecurityGroupIngress"):
        opened = opening["Properties"]
        from_a_group = "SourceSecurityGroupId" in opened and {opened["FromPort"], opened["ToPort"]} == {PORT}
        if not (served and from_a_group):
            yield f"{stack}: {id} lets somebody in"
    for stack, id, group in variant.resources("AWS::EC2::SecurityGroup"):
        for opened in group["Properties"].get("SecurityGroupIngress", []):
            ports = {opened["FromPort"], opened["ToPort"]}
            own_range = served and str(opened.get("CidrIp")).endswith("'CidrBlock']}")
            known = own_range or opened.get("CidrIp") == variant.settings.get("vpc_cidr", "nobody")
            if not known or ports != {443}:
                yield f"{stack}: {id} lets {opened.get('CidrIp')} in"


def functions_in_a_network_may_stand_there(variant: Variant) -> Found:
    """Lambda refuses to make the function where its role may not make network interfaces."""
    for stack, id, function in variant.resources("AWS::Lambda::Function"):
        if "VpcConfig" in function["Properties"]:
            role_id = function["Properties"]["Role"]["Fn::GetAtt"][0]
            policies = {
                name: one for name, one in variant.templates[stack]["Resources"].items() if is_policy_of(one, role_id)
            }
            able = {name for name, one in policies.items() if "ec2:CreateNetworkInterface" in json.dumps(one)}
            if not able & set(function.get("DependsOn", [])):
                yield f"{stack}: {id} may not stand in a network when it is made"


def only_runners_have_what_the_file_gives(variant: Variant) -> Found:
    """Statements, secrets and variables of `runners` are the turn Lambda's and the worker's, and nobody else's."""
    given = json.loads(variant.settings["runners"])
    resources = {
        *(resource for policy in given["policies"] for resource in policy["resources"]),
        *(secret[key] for secret in given["secrets"] for key in ("arn", "kms_key_arn")),
    }
    allowed: dict[str, str] = {}
    for _, _, policy in variant.resources("AWS::IAM::Policy"):
        for role in policy["Properties"]["Roles"]:
            allowed[role["Ref"]] = allowed.get(role["Ref"], "") + json.dumps(policy["Properties"]["PolicyDocument"])
    for role, document in allowed.items():
        runs_tools = role.startswith(("TurnRole", "TaskRole"))
        missing = {resource for resource in resources if (resource in document) != runs_tools}
        if missing:
            yield f"{role} {'lacks' if runs_tools else 'is given'} {sorted(missing)}"
    wanted = {*given["variables"], *(secret["variable"] for secret in given["secrets"])}
    [(_, _, task)] = variant.resources("AWS::ECS::TaskDefinition")
    task_variables = {one["Name"] for one in task["Properties"]["ContainerDefinitions"][0]["Environment"]}
    if not wanted <= task_variables:
        yield f"the worker lacks {sorted(wanted - task_variables)}"
    for _, id, function in variant.resources("AWS::Lambda::Function"):
        variables = set(function["Properties"].get("Environment", {}).get("Variables", {}))
        if wanted & variables != (wanted if handler_of(function) == names.TURN_HANDLER else set()):
            yield f"{id} has {sorted(wanted & variables)} of {sorted(wanted)}"


def _awsvpc(templates: Templates) -> dict[str, Any]:
    service = first(templates, "AWS::ECS::Service")["Properties"]
    found: dict[str, Any] = service["NetworkConfiguration"]["AwsvpcConfiguration"]
    return found


RULES = (
    Rule(
        runners_stand_where_the_file_says,
        lambda t: turn_of(t)["Properties"].pop("VpcConfig"),
        about=lambda variant: "vpc_id" in variant.settings,
    ),
    Rule(
        runners_stand_where_the_file_says,
        lambda t: t["Worker"]["Resources"].update(Net={"Type": "AWS::EC2::VPC", "Properties": {}}),
        about=lambda variant: "vpc_id" in variant.settings,
    ),
    Rule(
        tasks_reach_out_and_nothing_reaches_in,
        lambda t: _awsvpc(t).update(
            AssignPublicIp={"ENABLED": "DISABLED", "DISABLED": "ENABLED"}[_awsvpc(t)["AssignPublicIp"]]
        ),
    ),
    Rule(
        tasks_reach_out_and_nothing_reaches_in,
        lambda t: first(t, "AWS::EC2::SecurityGroup")["Properties"].update(
            SecurityGroupIngress=[{"CidrIp": "0.0.0.0/0", "FromPort": 443, "ToPort": 443}]
        ),
    ),
    Rule(
        functions_in_a_network_may_stand_there,
        lambda t: turn_of(t).update(DependsOn=[]),
        about=lambda variant: "vpc_id" in variant.settings,
    ),
    Rule(
        only_runners_have_what_the_file_gives,
        lambda t: turn_of(t)["Properties"]["Environment"]["Variables"].pop("ORDERS_LOGIN"),
        about=lambda variant: "runners" in variant.settings,
    ),
    Rule(
        only_runners_have_what_the_file_gives,
        lambda t: next(
            one
            for id, one in t["Api"]["Resources"].items()
            if id.startswith("SweepRole") and one["Type"] == "AWS::IAM::Policy"
        )["Properties"]["PolicyDocument"]["Statement"].append(
            {"Effect": "Allow", "Action": "dynamodb:GetItem", "Resource": "arn:aws:s3:::orders/*"}
        ),
        about=lambda variant: "runners" in variant.settings,
    ),
)
