"""With a customer's key everything at rest is encrypted with it, and whoever uses what is encrypted may use the key."""

from __future__ import annotations

import json
from typing import Any

from tests.infra.rules.rule import Found, Rule, Templates, first
from tests.infra.variants import KEY_ARN, SECRET_ARN, SECRET_KEY_ARN, Variant

_HOLDS_THE_KEY = {
    "AWS::DynamoDB::Table": "SSESpecification",
    "AWS::S3::Bucket": "BucketEncryption",
    "AWS::SQS::Queue": "KmsMasterKeyId",
    "AWS::SNS::Topic": "KmsMasterKeyId",
    "AWS::Logs::LogGroup": "KmsKeyId",
    "AWS::SecretsManager::Secret": "KmsKeyId",
}
_READ, _WRITE = {"kms:Decrypt"}, {"kms:Decrypt", "kms:GenerateDataKey"}
_NEEDS = {
    "dynamodb:GetItem": _READ,
    "dynamodb:Query": _READ,
    "dynamodb:GetRecords": _READ,
    "dynamodb:PutItem": _WRITE | {"kms:Encrypt"},
    "dynamodb:UpdateItem": _WRITE | {"kms:Encrypt"},
    "s3:GetObject": _READ,
    "s3:PutObject": _WRITE,
    "sqs:SendMessage": _WRITE,
    "sqs:ReceiveMessage": _READ,
    "sns:Publish": _WRITE,
    "secretsmanager:GetSecretValue": _READ,
}
"""What a call asks of the key: the services' documentation of encryption at rest."""


def everything_at_rest_is_under_the_key(variant: Variant) -> Found:
    for kind, place in _HOLDS_THE_KEY.items():
        for stack, id, resource in variant.resources(kind):
            if KEY_ARN not in json.dumps(resource["Properties"].get(place)):
                yield f"{stack}: {id} is not encrypted with the customer's key"


def whoever_uses_it_may_use_the_key(variant: Variant) -> Found:
    for role, statements in _by_role(variant).items():
        for statement in statements:
            for action in _listed(statement["Action"]):
                service = action.split(":")[0]
                given = _key_actions(statements, KEY_ARN, service)
                if not _NEEDS.get(action, set()) <= given:
                    yield f"{role}: {action} needs {sorted(_NEEDS[action] - given)} of the key"


def a_given_secret_can_be_read_with_its_key(variant: Variant) -> Found:
    for role, statements in _by_role(variant).items():
        if SECRET_ARN in json.dumps(statements) and not _key_actions(statements, SECRET_KEY_ARN, "secretsmanager"):
            yield f"{role} may read the secret, and not use its key"


def a_key_is_used_through_one_service_only(variant: Variant) -> Found:
    for role, statements in _by_role(variant).items():
        for statement in statements:
            actions = _listed(statement["Action"])
            if any(action.startswith("kms:") for action in actions) and "kms:ViaService" not in json.dumps(statement):
                yield f"{role} may use {statement['Resource']} for anything"


def _by_role(variant: Variant) -> dict[str, list[dict[str, Any]]]:
    found: dict[str, list[dict[str, Any]]] = {}
    for _, _, policy in variant.resources("AWS::IAM::Policy"):
        for role in policy["Properties"]["Roles"]:
            found.setdefault(role["Ref"], []).extend(policy["Properties"]["PolicyDocument"]["Statement"])
    return found


def _key_actions(statements: list[dict[str, Any]], key_arn: str, service: str) -> set[str]:
    return {
        action
        for statement in statements
        if key_arn in _listed(statement["Resource"]) and f"{service}." in json.dumps(statement.get("Condition"))
        for action in _listed(statement["Action"])
    }


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _without_key_for(service: str, templates: Templates) -> None:
    for template in templates.values():
        for resource in template["Resources"].values():
            if resource["Type"] == "AWS::IAM::Policy":
                document = resource["Properties"]["PolicyDocument"]
                document["Statement"] = [
                    one for one in document["Statement"] if f"{service}." not in json.dumps(one.get("Condition"))
                ]


def _for_anything(templates: Templates) -> None:
    for template in templates.values():
        for resource in template["Resources"].values():
            if resource["Type"] == "AWS::IAM::Policy":
                for statement in resource["Properties"]["PolicyDocument"]["Statement"]:
                    if "kms:Decrypt" in _listed(statement["Action"]):
                        statement.pop("Condition")


def _has_key(variant: Variant) -> bool:
    return "kms_key_arn" in variant.settings


RULES = (
    *(
        Rule(
            everything_at_rest_is_under_the_key,
            lambda t, kind=kind, place=place: first(t, kind)["Properties"].pop(place),  # type: ignore[misc]
            about=_has_key,
        )
        for kind, place in _HOLDS_THE_KEY.items()
    ),
    *(
        Rule(
            whoever_uses_it_may_use_the_key,
            lambda t, service=service: _without_key_for(service, t),  # type: ignore[misc]
            about=_has_key,
        )
        for service in ("dynamodb", "s3", "sqs", "sns", "secretsmanager")
    ),
    Rule(
        a_given_secret_can_be_read_with_its_key,
        lambda t: _without_key_for("secretsmanager", t),
        about=lambda variant: "model_secret_kms_key_arn" in variant.settings,
    ),
    Rule(a_key_is_used_through_one_service_only, _for_anything, about=_has_key),
)
