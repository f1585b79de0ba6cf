"""What has to hold of the templates of every variant, so that a deployment can be made, changed and taken down.

A rule yields a line for each place that breaks it. `plant` breaks it on purpose, and the rule has to find that.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from infra import names
from tests.infra.variants import Template, Variant

Templates = dict[str, Template]
Found = Iterator[str]


@dataclass(frozen=True)
class Rule:
    """A rule on one variant, which variants it is about, and a way to break it."""

    check: Callable[[Variant], Found]
    plant: Callable[[Templates], object]
    about: Callable[[Variant], bool] = lambda _: True

    @property
    def name(self) -> str:
        return self.check.__name__


def planted(variant: Variant, plant: Callable[[Templates], object]) -> Variant:
    """The variant with a fault in a copy of its templates."""
    templates = copy.deepcopy(variant.templates)
    plant(templates)
    broken = Variant(variant.name, variant.settings, variant.assembly)
    broken.__dict__["templates"] = templates
    return broken


def first(templates: Templates, kind: str) -> dict[str, Any]:
    """A resource of the type, to break."""
    for template in templates.values():
        for resource in template["Resources"].values():
            if resource["Type"] == kind:
                found: dict[str, Any] = resource
                return found
    raise LookupError(f"there is no {kind}")


def function_of(templates: Templates) -> dict[str, Any]:
    """One of the kit's functions, to break."""
    return first({"Api": templates["Api"]}, "AWS::Lambda::Function")


def turn_of(templates: Templates) -> dict[str, Any]:
    """The turn Lambda, to break."""
    found: list[dict[str, Any]] = [
        one
        for one in templates["Api"]["Resources"].values()
        if one["Type"] == "AWS::Lambda::Function" and _handler(one) == names.TURN_HANDLER
    ]
    return found[0]


def _awsvpc(templates: Templates) -> dict[str, Any]:
    service = first(templates, "AWS::ECS::Service")["Properties"]
    found: dict[str, Any] = service["NetworkConfiguration"]["AwsvpcConfiguration"]
    return found


# Exports ------------------------------------------------------------------------------------------------------------


def exports(variant: Variant) -> dict[str, str]:
    """What the stacks export, by name, and each with its value: CloudFormation lets neither go while it is in use."""
    return {
        json.dumps([stack, output["Export"]["Name"]]).replace(
            variant.settings.get("name", "Turnkeeper"), ""
        ): json.dumps(output["Value"], sort_keys=True)
        for stack, template in variant.templates.items()
        for output in template.get("Outputs", {}).values()
        if "Export" in output
    }


def export_deadlocks(before: Variant, after: Variant) -> Found:
    """What stops a deployment of `before` from becoming `after`."""
    old, new = exports(before), exports(after)
    for name in sorted(old.keys() - new.keys()):
        yield f"{after.name} does not export {name}, which {before.name} does"
    for name in sorted(old.keys() & new.keys()):
        if old[name] != new[name]:
            yield f"{name} is {old[name]} in {before.name} and {new[name]} in {after.name}"


# Taking down --------------------------------------------------------------------------------------------------------

_GOES_WITH_ITS_OWNER = {"AWS::Lambda::Version", "AWS::Lambda::LayerVersion"}
_STAYS = {"Retain", "RetainExceptOnCreate", "Snapshot"}


def dev_keeps_nothing(variant: Variant) -> Found:
    """No resource outlives its stack, and none keeps the stack from going because something is in it."""
    for stack, template in variant.templates.items():
        resources = template["Resources"]
        emptied = {
            resource["Properties"]["BucketName"]["Ref"]
            for resource in resources.values()
            if resource["Type"] == "Custom::S3AutoDeleteObjects"
        }
        for id, resource in resources.items():
            policies = {resource.get("DeletionPolicy"), resource.get("UpdateReplacePolicy")}
            if policies & _STAYS and resource["Type"] not in _GOES_WITH_ITS_OWNER:
                yield f"{stack}: {id} outlives its stack"
            if resource["Type"] == "AWS::S3::Bucket" and id not in emptied:
                yield f"{stack}: {id} is not emptied before it goes"
            if resource.get("Properties", {}).get("DeletionProtectionEnabled"):
                yield f"{stack}: {id} is protected"


def every_log_has_a_group_of_the_stack(variant: Variant) -> Found:
    """A log group that AWS makes by itself stays for ever, and keeps what is in it as long."""
    for stack, id, resource in variant.resources("AWS::Lambda::Function"):
        resources = variant.templates[stack]["Resources"]
        role_id = resource["Properties"]["Role"]["Fn::GetAtt"][0]
        managed = resources[role_id]["Properties"].get("ManagedPolicyArns", [])
        may = [*managed, *(policy for policy in resources.values() if _is_policy_of(policy, role_id))]
        if "LogGroup" not in resource["Properties"].get("LoggingConfig", {}) and may:
            yield f"{stack}: {id} logs into a group that is not ours"
    for stack, id, resource in variant.resources("AWS::Logs::LogGroup"):
        if "RetentionInDays" not in resource["Properties"]:
            yield f"{stack}: {id} is kept for ever"


def _is_policy_of(resource: dict[str, Any], role_id: str) -> bool:
    return resource["Type"] == "AWS::IAM::Policy" and {"Ref": role_id} in resource["Properties"]["Roles"]


# Network and what runs in it ----------------------------------------------------------------------------------------


def runners_stand_where_the_file_says(variant: Variant) -> Found:
    """In the existing network's subnets; nothing of it is made, looked up, or reachable from outside."""
    subnets = variant.settings["vpc_subnet_ids"].split(",")
    groups = variant.settings["vpc_security_group_ids"].split(",")
    [(_, _, service)] = variant.resources("AWS::ECS::Service")
    task = service["Properties"]["NetworkConfiguration"]["AwsvpcConfiguration"]
    [turn] = [one for _, _, one in variant.resources("AWS::Lambda::Function") if _handler(one) == names.TURN_HANDLER]
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
    """Through a NAT or with an address of their own; a way in is there for endpoints only, from within the network."""
    [(stack, _, service)] = variant.resources("AWS::ECS::Service")
    task = service["Properties"]["NetworkConfiguration"]["AwsvpcConfiguration"]
    private = bool(list(variant.resources("AWS::EC2::NatGateway"))) or "vpc_id" in variant.settings
    if task["AssignPublicIp"] != ("DISABLED" if private else "ENABLED"):
        yield f"{stack}: tasks have {'an' if private else 'no'} address of their own"
    yield from (
        f"{stack}: {id} lets somebody in" for stack, id, _ in variant.resources("AWS::EC2::SecurityGroupIngress")
    )
    for stack, id, group in variant.resources("AWS::EC2::SecurityGroup"):
        for opened in group["Properties"].get("SecurityGroupIngress", []):
            if (
                opened.get("CidrIp") != variant.settings.get("vpc_cidr")
                or opened["FromPort"] != opened["ToPort"] != 443
            ):
                yield f"{stack}: {id} lets {opened.get('CidrIp')} in"


def functions_in_a_network_may_stand_there(variant: Variant) -> Found:
    """Lambda refuses to make the function where its role may not make network interfaces."""
    for stack, id, function in variant.resources("AWS::Lambda::Function"):
        if "VpcConfig" in function["Properties"]:
            role_id = function["Properties"]["Role"]["Fn::GetAtt"][0]
            policies = {
                name: one for name, one in variant.templates[stack]["Resources"].items() if _is_policy_of(one, role_id)
            }
            able = {name for name, one in policies.items() if "ec2:CreateNetworkInterface" in json.dumps(one)}
            if not able & set(function.get("DependsOn", [])):
                yield f"{stack}: {id} may not stand in a network when it is made"


def only_runners_have_what_the_file_gives(variant: Variant) -> Found:
    """Statements, secrets and variables of `runners` are the turn Lambda's and the worker's, both, and nobody else's."""
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
        if wanted & variables != (wanted if _handler(function) == names.TURN_HANDLER else set()):
            yield f"{id} has {sorted(wanted & variables)} of {sorted(wanted)}"


def _handler(function: dict[str, Any]) -> str:
    return str(function["Properties"]["Handler"])


# Assets -------------------------------------------------------------------------------------------------------------


def assets(assembly: Path) -> Found:
    """No asset is named by a path of the machine that synthesized: another one deploys."""
    for path in sorted(assembly.glob("*.assets.json")):
        manifest = json.loads(path.read_text())
        for kind in ("files", "dockerImages"):
            for asset in manifest.get(kind, {}).values():
                source = asset["source"]
                for text in (*source.get("executable", ()), source.get("path", ""), source.get("directory", "")):
                    if Path(text).is_absolute():
                        yield f"{path.name}: {text}"


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
    Rule(
        dev_keeps_nothing,
        lambda t: first(t, "AWS::Logs::LogGroup").update(DeletionPolicy="Retain"),
        about=lambda variant: not variant.keeps_data,
    ),
    Rule(
        dev_keeps_nothing,
        lambda t: first(t, "Custom::S3AutoDeleteObjects").update(Type="Custom::Nothing"),
        about=lambda variant: not variant.keeps_data,
    ),
    Rule(
        every_log_has_a_group_of_the_stack,
        lambda t: (
            first(t, "AWS::Lambda::Function")["Properties"].pop("LoggingConfig", None)
            or first(t, "AWS::Logs::LogGroup")["Properties"].pop("RetentionInDays")
        ),
    ),
    Rule(
        every_log_has_a_group_of_the_stack,
        lambda t: first(t, "AWS::Logs::LogGroup")["Properties"].pop("RetentionInDays"),
    ),
)
