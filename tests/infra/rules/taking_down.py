"""A `dev` deployment goes without a trace; a log group that nobody made stays for ever."""

from __future__ import annotations

from tests.infra.rules.rule import Found, Rule, first, function_of, is_policy_of
from tests.infra.variants import Variant

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
        may = [*managed, *(policy for policy in resources.values() if is_policy_of(policy, role_id))]
        if "LogGroup" not in resource["Properties"].get("LoggingConfig", {}) and may:
            yield f"{stack}: {id} logs into a group that is not ours"
    for stack, id, resource in variant.resources("AWS::Logs::LogGroup"):
        if "RetentionInDays" not in resource["Properties"]:
            yield f"{stack}: {id} is kept for ever"


RULES = (
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
    Rule(every_log_has_a_group_of_the_stack, lambda t: function_of(t)["Properties"].pop("LoggingConfig")),
)
