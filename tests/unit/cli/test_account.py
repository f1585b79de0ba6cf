"""What a deploy would fail on is found before: an account as it is new, and as it has to be."""

from __future__ import annotations

import json
from typing import Any

import boto3
import pytest
from botocore.stub import Stubber
from moto import mock_aws

from turnkeeper_local.cli.account import examine_account, examine_alerts
from turnkeeper_local.cli.checks import Check
from turnkeeper_local.cli.doctor import examine

REGION = "eu-central-1"


def client(service: str) -> Any:
    make: Any = boto3.client
    return make(service, region_name=REGION)


def found(unreserved: int = 1000, *, deployed: bool = False) -> dict[str, Check]:
    """The checks by name, of what moto's account has; it knows nothing of Lambda's quota."""

    def with_quota(service: str) -> Any:
        made = client(service)
        if service == "lambda":
            stubber = Stubber(made)
            stubber.add_response(
                "get_account_settings", {"AccountLimit": {"UnreservedConcurrentExecutions": unreserved}}
            )
            stubber.activate()
        return made

    return {check.name: check for check in examine_account(with_quota, deployed=deployed)}


@mock_aws
def test_a_new_account_is_told_what_it_lacks() -> None:
    checks = found(unreserved=10)
    assert [name for name, check in checks.items() if not check.ok] == ["bootstrap", "ecs role", "concurrency"]
    hint = checks["ecs role"].hint
    assert hint is not None
    assert "aws iam create-service-linked-role --aws-service-name ecs.amazonaws.com" in hint
    assert "turn_concurrency = 0" in str(checks["concurrency"].hint)


@mock_aws
def test_once_all_is_there_it_is_well() -> None:
    boto3.client("iam", region_name=REGION).create_service_linked_role(AWSServiceName="ecs.amazonaws.com")
    boto3.client("ssm", region_name=REGION).put_parameter(
        Name="/cdk-bootstrap/hnb659fds/version", Value="30", Type="String"
    )
    assert [check for check in found().values() if not check.ok] == []


@mock_aws
def test_another_services_role_does_not_do() -> None:
    boto3.client("iam", region_name=REGION).create_service_linked_role(AWSServiceName="autoscaling.amazonaws.com")
    assert not found()["ecs role"].ok


@mock_aws
@pytest.mark.parametrize(("unreserved", "well"), [(199, False), (200, True)])
def test_what_turns_reserve_has_to_leave_what_lambda_keeps(unreserved: int, well: bool) -> None:
    assert found(unreserved)["concurrency"].ok == well


@mock_aws
def test_a_kit_that_is_deployed_has_reserved_its_part() -> None:
    assert "concurrency" not in found(deployed=True)


def test_what_cannot_be_read_is_told_and_the_rest_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(service: str) -> Any:
        raise PermissionError(f"{service} is not yours")

    checks = list(examine_account(refuse, deployed=False))
    assert [(check.name, check.ok, check.detail) for check in checks] == [
        ("bootstrap", False, "ssm is not yours"),
        ("ecs role", False, "iam is not yours"),
        ("concurrency", False, "lambda is not yours"),
    ]


@mock_aws
def test_the_doctor_looks_at_the_account_before_anything_is_deployed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_DEFAULT_REGION", REGION)
    checks = {check.name: check for check in examine("Turnkeeper")}
    assert list(checks)[:3] == ["bootstrap", "ecs role", "concurrency"]
    assert not checks["ecs role"].ok
    assert "not deployed yet" in str(checks["stacks"].hint)


LOGS_ONLY = {"Effect": "Allow", "Principal": {"Service": "logs.eu-central-1.amazonaws.com"}}
ADMIN = {"Effect": "Allow", "Principal": {"AWS": "*"}}
ONE, MANY = "cloudwatch.amazonaws.com", ["events.amazonaws.com", "cloudwatch.amazonaws.com"]


@mock_aws
@pytest.mark.parametrize(
    ("statements", "well"),
    [
        ([ADMIN, LOGS_ONLY], False),
        ([ADMIN, {"Effect": "Deny", "Principal": {"Service": ONE}}], False),
        ([ADMIN, {"Effect": "Allow", "Principal": "*"}], False),
        ([ADMIN, {"Effect": "Allow", "Principal": {"Service": ONE}}], True),
        ([ADMIN, {"Effect": "Allow", "Principal": {"Service": MANY}}], True),
    ],
)
def test_a_key_that_keeps_alarms_out_is_found(statements: list[dict[str, Any]], well: bool) -> None:
    policy = {"Statement": [{**one, "Action": ["kms:Decrypt", "kms:GenerateDataKey*"]} for one in statements]}
    key = client("kms").create_key(Policy=json.dumps(policy))["KeyMetadata"]["Arn"]
    made = client("sns").create_topic(Name="alerts", Attributes={"KmsMasterKeyId": key})["TopicArn"]
    check = examine_alerts(client, made)
    assert (check.name, check.ok) == ("alerts", well)
    assert (check.hint is None) == well


@mock_aws
def test_without_a_customers_key_nothing_keeps_alarms_out() -> None:
    assert examine_alerts(client, client("sns").create_topic(Name="alerts")["TopicArn"]).ok
