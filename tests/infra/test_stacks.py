"""What the templates promise: to an auditor, and to the code that is deployed with them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from benchmarks.cost import templates_of
from tests.infra.variants import IAM, Synthesize
from turnkeeper.core.session import RESTING
from turnkeeper.runtime.store import keys
from turnkeeper_infra import names
from turnkeeper_infra.config import Config, ConfigError
from turnkeeper_infra.config.tables import Memory

Templates = dict[str, dict[str, Any]]

# Actions that AWS gives no resource to name for.
TAKE_NO_RESOURCE = {"dynamodb:ListStreams", "ecr:GetAuthorizationToken"}
CODE_ROLES = {"TurnRole", "FrontDoorRole", "ObserverRole", "ScorerRole", "SweepRole", "DeliverRole", "TaskRole"}


def resources(template: dict[str, Any], kind: str) -> dict[str, dict[str, Any]]:
    return {id: resource["Properties"] for id, resource in template["Resources"].items() if resource["Type"] == kind}


def statements(templates: Templates) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every Allow that a role of the kit has, with the policy it is in."""
    for template in templates.values():
        for id, policy in resources(template, "AWS::IAM::Policy").items():
            for statement in policy["PolicyDocument"]["Statement"]:
                assert statement["Effect"] == "Allow"
                yield id, statement


def as_list(value: object) -> list[Any]:
    return value if isinstance(value, list) else [value]


def actions_of(templates: Templates, role: str) -> set[str]:
    return {
        action
        for id, statement in statements(templates)
        if id.startswith(role)
        for action in as_list(statement["Action"])
    }


def test_all_stacks_synthesize_without_an_account(assembly: Path, templates: Templates) -> None:
    assert set(templates) == {"TurnkeeperState", "TurnkeeperApi", "TurnkeeperWorker", "TurnkeeperObserve"}
    manifest = json.loads((assembly / "manifest.json").read_text())
    stacks = [one for one in manifest["artifacts"].values() if one["type"] == "aws:cloudformation:stack"]
    assert {stack["environment"] for stack in stacks} == {"aws://unknown-account/unknown-region"}
    assert "missing" not in manifest  # no look-ups


def test_cdk_nag_finds_nothing_that_is_not_acknowledged(assembly: Path) -> None:
    report = json.loads((assembly / "validation-report.json").read_text())
    assert report["pluginReports"] == []


def test_cdk_nag_is_in_force(synthesize: Synthesize, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("turnkeeper_infra.state.acknowledge", lambda *_: None)
    with pytest.raises(RuntimeError, match="ValidationFailed"):
        synthesize(**IAM)


def test_no_permission_is_for_every_action_or_every_resource(templates: Templates) -> None:
    allowed = list(statements(templates))
    assert len({policy for policy, _ in allowed}) >= len(CODE_ROLES)
    for policy, statement in allowed:
        actions = set(as_list(statement["Action"]))
        assert not [action for action in actions if "*" in action], policy
        if "*" in as_list(statement["Resource"]):
            assert actions <= TAKE_NO_RESOURCE, policy


def test_nothing_that_runs_can_remove_items(templates: Templates) -> None:
    """Audit records and entries go by TTL or with the table; not even erasing deletes an item."""
    for role in CODE_ROLES:
        table_actions = {a.removeprefix("dynamodb:") for a in actions_of(templates, role) if a.startswith("dynamodb:")}
        assert table_actions, role
        assert table_actions <= {
            *("BatchGetItem", "GetItem", "Query", "ConditionCheckItem", "PutItem", "UpdateItem"),
            *("DescribeStream", "GetRecords", "GetShardIterator", "ListStreams"),
        }, role


def test_only_front_door_and_sweep_can_erase_claim_checks(templates: Templates) -> None:
    erasing = {role for role in CODE_ROLES if "s3:DeleteObject" in actions_of(templates, role)}
    assert erasing == {"FrontDoorRole", "SweepRole"}


def test_only_turn_and_worker_can_read_the_model_key(templates: Templates) -> None:
    for role in CODE_ROLES:
        policies = [json.dumps(statement) for id, statement in statements(templates) if id.startswith(role)]
        readable = any("GetSecretValue" in policy and "ModelKey" in policy for policy in policies)
        assert readable == (role in {"TurnRole", "TaskRole"}), role


def test_no_secret_is_in_an_environment(templates: Templates) -> None:
    secret_shapes = re.compile(r"sk-ant|\{\{resolve:|SecretString", re.IGNORECASE)
    functions = resources(templates["TurnkeeperApi"], "AWS::Lambda::Function")
    assert functions
    for properties in functions.values():
        assert not secret_shapes.search(json.dumps(properties["Environment"]))
    (task,) = resources(templates["TurnkeeperWorker"], "AWS::ECS::TaskDefinition").values()
    assert not secret_shapes.search(json.dumps(task["ContainerDefinitions"]))


def test_table(templates: Templates) -> None:
    (table,) = resources(templates["TurnkeeperState"], "AWS::DynamoDB::Table").values()
    assert [key["AttributeName"] for key in table["KeySchema"]] == ["pk", "sk"]
    assert table["BillingMode"] == "PAY_PER_REQUEST"
    assert table["StreamSpecification"] == {"StreamViewType": "NEW_AND_OLD_IMAGES"}
    assert table["TimeToLiveSpecification"] == {"AttributeName": "expires_at_epoch", "Enabled": True}
    assert table["PointInTimeRecoverySpecification"]["PointInTimeRecoveryEnabled"] is True
    assert table["DeletionProtectionEnabled"] is True
    indexes = {index["IndexName"]: index for index in table["GlobalSecondaryIndexes"]}
    assert {name: tuple(key["AttributeName"] for key in index["KeySchema"]) for name, index in indexes.items()} == {
        "by_user": ("user_key", "created_key"),
        "by_tenant": ("tenant_key", "created_key"),
        "by_status": ("status_key", "created_key"),
        "due": ("due_shard", "due_at"),
    }
    assert {index["Projection"]["ProjectionType"] for index in indexes.values()} == {"KEYS_ONLY"}


def test_what_holds_data_outlives_its_stack_in_production(templates: Templates) -> None:
    template = templates["TurnkeeperState"]["Resources"]
    for kind in ("AWS::DynamoDB::Table", "AWS::S3::Bucket", "AWS::SecretsManager::Secret"):
        assert {one["DeletionPolicy"] for one in template.values() if one["Type"] == kind} == {"Retain"}


def test_queue_and_bucket(templates: Templates) -> None:
    template = templates["TurnkeeperState"]
    queues = resources(template, "AWS::SQS::Queue")
    (queue,) = [one for one in queues.values() if "RedrivePolicy" in one]
    assert queue["RedrivePolicy"]["maxReceiveCount"] == 3
    assert queue["ReceiveMessageWaitTimeSeconds"] == 20
    assert queue["VisibilityTimeout"] == 60
    assert queue["MaximumMessageSize"] == 1_048_576
    assert all(one["SqsManagedSseEnabled"] for one in queues.values())
    policies = [
        *resources(template, "AWS::SQS::QueuePolicy").values(),
        *resources(template, "AWS::S3::BucketPolicy").values(),
    ]
    assert len(policies) == 3
    assert all("aws:SecureTransport" in json.dumps(policy) for policy in policies)
    (bucket,) = resources(template, "AWS::S3::Bucket").values()
    assert set(bucket["PublicAccessBlockConfiguration"].values()) == {True}


def test_functions(templates: Templates) -> None:
    api = templates["TurnkeeperApi"]
    functions = {one["Handler"]: one for one in resources(api, "AWS::Lambda::Function").values()}
    assert set(functions) == {
        *(names.API_HANDLER, names.TURN_HANDLER, names.OBSERVE_HANDLER, names.SCORE_HANDLER, names.SWEEP_HANDLER),
        names.DELIVER_HANDLER,
    }
    assert {one["Runtime"] for one in functions.values()} == {"python3.13"}
    assert {tuple(one["Architectures"]) for one in functions.values()} == {("arm64",)}
    assert len({json.dumps(one["Code"]) for one in functions.values()}) == 1, "one asset for all"
    assert functions[names.API_HANDLER]["Timeout"] == 29
    assert functions[names.TURN_HANDLER]["Timeout"] == 900
    assert functions[names.TURN_HANDLER]["SnapStart"] == {"ApplyOn": "PublishedVersions"}
    assert {alias["Name"] for alias in resources(api, "AWS::Lambda::Alias").values()} == {"live"}
    front_door = functions[names.API_HANDLER]["Environment"]["Variables"]
    assert front_door["TURNKEEPER_IDENTITY"] == "iam"
    assert "TURNKEEPER_MODEL_SECRET_ID" not in front_door
    assert "TURNKEEPER_MODEL_SECRET_ID" in functions[names.TURN_HANDLER]["Environment"]["Variables"]


def test_what_is_chosen_of_price_and_latency_arrives() -> None:
    """Each function's memory, where turns begin, how long is waited; and a worker that is there to be offered turns."""
    memory = {name: 300 + number for number, name in enumerate(Memory.model_fields)}
    chosen = {"auto_placement": "economy", "default_wait_seconds": 0, "memory_mb": json.dumps(memory)}
    chosen |= {"streaming": True, "traces": "cloudwatch"}
    found = [one for template in templates_of(chosen) for one in template["Resources"].values()]
    made = [one["Properties"] for one in found if one["Type"] == "AWS::Lambda::Function"]
    functions = {one["Handler"]: one for one in made if one["Handler"].startswith("functions")}
    assert sorted(one["MemorySize"] for one in functions.values()) == sorted(memory.values())
    assert functions[names.TURN_HANDLER]["MemorySize"] == memory["turn"]
    front_door = functions[names.API_HANDLER]["Environment"]["Variables"]
    assert (front_door["TURNKEEPER_AUTO_PLACEMENT"], front_door["TURNKEEPER_DEFAULT_WAIT_SECONDS"]) == ("economy", "0")
    [scaled] = [one for one in found if one["Type"] == "AWS::ApplicationAutoScaling::ScalableTarget"]
    assert scaled["Properties"]["MinCapacity"] == 1


@pytest.mark.parametrize(
    ("chosen", "least"),
    [
        ({}, 0),
        ({"auto_placement": "economy"}, 1),
        ({"auto_placement": "economy", "worker_min_tasks": 0}, 0),
        ({"worker_min_tasks": 3}, 3),
    ],
)
def test_tasks_at_rest(chosen: dict[str, Any], least: int) -> None:
    assert Config.of({**IAM, **chosen}).least_tasks == least
    with pytest.raises(ConfigError, match="worker_max_tasks"):
        Config.of({**IAM, **chosen, "worker_min_tasks": 11})


def test_stream_consumer_sets_a_poisoned_record_aside(templates: Templates) -> None:
    sources = resources(templates["TurnkeeperApi"], "AWS::Lambda::EventSourceMapping").values()
    sources = [one for one in sources if "StartingPosition" in one]
    assert len(sources) == 2, "the observer and the scorer: a shard has no more readers"
    told = [json.loads(each["FilterCriteria"]["Filters"][0]["Pattern"])["dynamodb"].get("Keys") for each in sources]
    tail = keys.stream_key("t", "s").sk
    assert {"sk": {"S": [{"anything-but": [tail]}]}} in told, "nobody is asked for what runners tell readers meanwhile"
    for source in sources:
        assert source["BisectBatchOnFunctionError"] is True
        assert source["FunctionResponseTypes"] == ["ReportBatchItemFailures"]
        assert "OnFailure" in source["DestinationConfig"]


def test_the_scorer_is_asked_for_turns_that_have_ended_only(templates: Templates) -> None:
    sources = resources(templates["TurnkeeperApi"], "AWS::Lambda::EventSourceMapping").values()
    filters = [each["FilterCriteria"]["Filters"][0]["Pattern"] for each in sources if "FilterCriteria" in each]
    patterns = [json.loads(each)["dynamodb"] for each in filters]
    [image] = [pattern["NewImage"] for pattern in patterns if "NewImage" in pattern]
    assert image["sk"]["S"] == ["HEAD"]
    assert set(image["status"]["S"]) == RESTING - {"erased"}


def test_every_route_but_health_and_openapi_wants_an_identity(templates: Templates) -> None:
    routes = resources(templates["TurnkeeperApi"], "AWS::ApiGatewayV2::Route").values()
    assert {route["RouteKey"]: route["AuthorizationType"] for route in routes} == {
        "$default": "AWS_IAM",
        "GET /v1/health": "NONE",
        "HEAD /v1/health": "NONE",
        "GET /v1/openapi.json": "NONE",
        "HEAD /v1/openapi.json": "NONE",
    }
    (stage,) = resources(templates["TurnkeeperApi"], "AWS::ApiGatewayV2::Stage").values()
    assert stage["DefaultRouteSettings"] == {"ThrottlingBurstLimit": 400, "ThrottlingRateLimit": 200}
    assert "DestinationArn" in stage["AccessLogSettings"]


def test_worker(templates: Templates) -> None:
    worker = templates["TurnkeeperWorker"]
    (task,) = resources(worker, "AWS::ECS::TaskDefinition").values()
    assert task["RuntimePlatform"]["CpuArchitecture"] == "ARM64"
    (container,) = task["ContainerDefinitions"]
    assert container["StopTimeout"] == 120
    assert container["HealthCheck"]["Command"][0] == "CMD"
    (service,) = resources(worker, "AWS::ECS::Service").values()
    assert service["DeploymentConfiguration"]["DeploymentCircuitBreaker"] == {"Enable": True, "Rollback": True}
    assert {one["CapacityProvider"] for one in service["CapacityProviderStrategy"]} == {"FARGATE", "FARGATE_SPOT"}
    assert service["NetworkConfiguration"]["AwsvpcConfiguration"]["AssignPublicIp"] == "DISABLED"
    assert not resources(worker, "AWS::EC2::SecurityGroupIngress")


def test_jwt_and_bedrock_as_chosen_by_context(synthesize: Synthesize) -> None:
    folder = synthesize(
        jwt_issuer="https://issuer.example",
        jwt_audience="turnkeeper",
        model_provider="bedrock",
        stage="dev",
        fetch_contents="false",
    )
    api = json.loads((folder / "TurnkeeperApi.template.json").read_text())
    told = [one["Environment"]["Variables"] for one in resources(api, "AWS::Lambda::Function").values()]
    assert {one.get("TURNKEEPER_FETCH_CONTENTS") for one in told} == {"false"}
    routes = resources(api, "AWS::ApiGatewayV2::Route").values()
    assert {one["RouteKey"]: one["AuthorizationType"] for one in routes}["$default"] == "JWT"
    (authorizer,) = resources(api, "AWS::ApiGatewayV2::Authorizer").values()
    assert authorizer["JwtConfiguration"] == {"Audience": ["turnkeeper"], "Issuer": "https://issuer.example"}
    allowed = actions_of({"api": api}, "TurnRole")
    assert "bedrock:InvokeModelWithResponseStream" in allowed
    state = json.loads((folder / "TurnkeeperState.template.json").read_text())["Resources"].values()
    assert {one["DeletionPolicy"] for one in state if one["Type"] == "AWS::DynamoDB::Table"} == {"Delete"}
