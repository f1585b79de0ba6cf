"""A second region of the same account can hold the same deployment: where one fails over to."""

from __future__ import annotations

import json

from tests.infra.rules.rule import Found, Rule, first
from tests.infra.variants import Variant

_NAME_IN_THE_ACCOUNT = {
    "AWS::CloudWatch::Dashboard": "DashboardName",
    "AWS::IAM::ManagedPolicy": "ManagedPolicyName",
    "AWS::IAM::Role": "RoleName",
    "AWS::S3::Bucket": "BucketName",
}
"""What is of no region, and what its name is called there."""


def no_name_is_taken_in_every_region(variant: Variant) -> Found:
    """A name of one's own says the region, where the account has it once for all regions."""
    for kind, key in _NAME_IN_THE_ACCOUNT.items():
        for stack, id, resource in variant.resources(kind):
            name = resource["Properties"].get(key)
            if name is not None and '{"Ref": "AWS::Region"}' not in json.dumps(name):
                yield f"{stack}: {id} is {name} in every region"


RULES = (
    Rule(
        no_name_is_taken_in_every_region,
        lambda t: first(t, "AWS::CloudWatch::Dashboard")["Properties"].update(DashboardName="Turnkeeper"),
    ),
    Rule(
        no_name_is_taken_in_every_region,
        lambda t: first(t, "AWS::IAM::Role")["Properties"].update(RoleName="TurnkeeperRunner"),
    ),
)
