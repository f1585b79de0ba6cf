"""What an account has to have before a kit can be deployed into it, found before the deploy finds it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

from turnkeeper_local.cli.checks import Check

#: What stays unreserved for all other functions of an account, by Lambda's rule.
LEFT_UNRESERVED = 100
#: Turns at once that production reserves by default (`turn_concurrency`).
RESERVED_FOR_TURNS = 100

Client = Callable[[str], Any]


def examine_account(client: Client, *, deployed: bool) -> Iterator[Check]:
    """The checks, with `client` making a client of AWS's by the service's name."""
    yield _looked("bootstrap", _bootstrap, client)
    yield _looked("ecs role", _ecs_role, client)
    if not deployed:  # afterwards the reservation is the kit's own
        yield _looked("concurrency", _concurrency, client)


def examine_alerts(client: Client, topic_arn: str) -> Check:
    """Whether alarms reach the topic: under a customer's key CloudWatch has to be let in by the key's own policy, and
    where it is not, nothing says so."""
    return _looked("alerts", lambda made: _alerts(made, topic_arn), client)


def _alerts(client: Client, topic_arn: str) -> Check:
    key = client("sns").get_topic_attributes(TopicArn=topic_arn)["Attributes"].get("KmsMasterKeyId")
    if not key:
        return Check("alerts", True, topic_arn)
    policy = json.loads(client("kms").get_key_policy(KeyId=key, PolicyName="default")["Policy"])
    let_in = any(_lets_cloudwatch_in(statement) for statement in policy["Statement"])
    hint = None if let_in else "add the statement for cloudwatch.amazonaws.com to the key's policy (docs/deploy.md)"
    return Check("alerts", let_in, f"the key {key} {'lets' if let_in else 'does not let'} CloudWatch in", hint)


def _lets_cloudwatch_in(statement: dict[str, Any]) -> bool:
    principal = statement.get("Principal")
    services = principal.get("Service", []) if isinstance(principal, dict) else []
    named = [services] if isinstance(services, str) else services
    return statement["Effect"] == "Allow" and "cloudwatch.amazonaws.com" in named


def _looked(name: str, look: Callable[[Client], Check], client: Client) -> Check:
    try:
        return look(client)
    except Exception as error:  # noqa: BLE001 - whatever it is, it is what the doctor was asked to find
        return Check(name, False, str(error), "may these credentials read it? Which region?")


def _bootstrap(client: Client) -> Check:
    from botocore.exceptions import ClientError

    try:
        found = client("ssm").get_parameter(Name="/cdk-bootstrap/hnb659fds/version")
    except ClientError as error:
        if error.response["Error"]["Code"] != "ParameterNotFound":
            raise
        return Check("bootstrap", False, "this account and region are not bootstrapped", "`npx cdk bootstrap`")
    return Check("bootstrap", True, f"version {found['Parameter']['Value']}")


def _ecs_role(client: Client) -> Check:
    """ECS works through a role of its own. AWS makes it when a cluster is first made, but not in time for the service
    that CloudFormation makes right after."""
    roles = client("iam").list_roles(PathPrefix="/aws-service-role/ecs.amazonaws.com/")["Roles"]
    if roles:
        return Check("ecs role", True, str(roles[0]["RoleName"]))
    return Check(
        "ecs role",
        False,
        "this account never used ECS: the first deploy would fail on the service-linked role",
        "`aws iam create-service-linked-role --aws-service-name ecs.amazonaws.com`, once an account",
    )


def _concurrency(client: Client) -> Check:
    free = int(client("lambda").get_account_settings()["AccountLimit"]["UnreservedConcurrentExecutions"])
    needed = RESERVED_FOR_TURNS + LEFT_UNRESERVED
    hint = (
        f"production reserves {RESERVED_FOR_TURNS} for turns, and Lambda keeps {LEFT_UNRESERVED} for everything else: "
        "raise the quota (Service Quotas, Lambda, concurrent executions), or set turn_concurrency = 0"
    )
    return Check("concurrency", free >= needed, f"{free} unreserved executions", None if free >= needed else hint)
