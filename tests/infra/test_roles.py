"""Each role may do what its code can come to do, no more and no less, in every variant."""

from __future__ import annotations

import copy
import json

import pytest

from tests.infra.reading import Deployment
from tests.infra.role_rules import (
    CALLS,
    ENTRIES,
    FOR_TRACES,
    NEVER,
    NEVER_CALLED,
    OF_STREAMS,
    OF_TRACES,
    allowed,
    needed,
    unlisted_calls,
)
from tests.infra.variants import Variant, Variants
from tests.support.reach import CallGraph, call_graph


@pytest.fixture(scope="module")
def graph() -> CallGraph:
    return call_graph()


def given(variant: Variant) -> set[str]:
    """The resources that the stage's file names for tools, and for a receiver of traces."""
    runners = json.loads(variant.settings.get("runners", "{}"))
    statements = runners.get("policies", [])
    secrets = json.loads(variant.settings.get("secrets", "{}")).values()
    arns = {secret["arn"] for secret in runners.get("secrets", [])}
    arns |= {secret if isinstance(secret, str) else secret["arn"] for secret in secrets}
    arns |= {variant.settings.get("traces_secret_arn", "")}
    queues = json.loads(variant.settings.get("reply_queues", "{}")).values()
    arns |= {queue if isinstance(queue, str) else queue["arn"] for queue in queues}
    return arns.union(*(one["resources"] for one in statements))


def differences(graph: CallGraph, variant: Variant, templates: object = None) -> dict[str, set[str]]:
    """What is missing, with `-`, and what is too much, with `+`, by role."""
    may = allowed(Deployment(templates or variant.templates), given(variant))  # type: ignore[arg-type]
    found = {}
    for role in ENTRIES:
        needs = needed(graph, role, variant.settings.get("model_provider", "anthropic"))
        needs -= {action for owner, action in NEVER if owner == role}
        if role == OF_STREAMS and "streaming" not in variant.settings:
            needs = set()
        match (role, variant.settings.get("traces", "off")):
            case (_, "off"):
                needs = set() if role == OF_TRACES else {one for one in needs if not one.endswith(FOR_TRACES)}
            case ("TraceRole", "cloudwatch"):
                # Signed by hand, since no client of AWS speaks OTLP.
                needs.add("xray:PutTraceSegments@*")
        found[role] = {f"-{one}" for one in needs - may[role]} | {f"+{one}" for one in may[role] - needs}
    return {role: some for role, some in found.items() if some}


def test_each_role_may_do_what_its_code_calls_and_nothing_else(graph: CallGraph, variants: Variants) -> None:
    for name, variant in variants.items():
        assert differences(graph, variant) == {}, name


def test_every_call_of_aws_is_listed_with_what_it_has_to_be_allowed(graph: CallGraph) -> None:
    assert unlisted_calls(graph) == set()
    assert CALLS.keys() <= graph.definitions.keys()


def test_no_exception_is_left_over(graph: CallGraph) -> None:
    for role, action in NEVER:
        assert action in needed(graph, role, "anthropic"), (role, action)
    for role, names in NEVER_CALLED.items():
        assert names <= graph.reached_from(ENTRIES[role])


def test_a_role_that_may_do_too_much_or_too_little_is_found(graph: CallGraph, variants: Variants) -> None:
    variant = variants["prod-iam"]
    for role in ENTRIES:
        templates = copy.deepcopy(variant.templates)
        (statement, *_) = [
            statement
            for template in templates.values()
            for id, policy in template["Resources"].items()
            if policy["Type"] == "AWS::IAM::Policy" and id.startswith(role)
            for statement in policy["Properties"]["PolicyDocument"]["Statement"]
            if statement.get("Sid") in {"ReadClaims", "EraseClaims"}
        ]
        was, statement["Action"] = statement["Action"], "s3:PutObjectAcl"
        assert differences(graph, variant, templates) == {role: {f"-{was}@Claims", "+s3:PutObjectAcl@Claims"}}


def test_the_graph_follows_ports_tables_of_functions_and_properties(graph: CallGraph) -> None:
    """What would be missed without a sound: a route's function, what a port is, what a kit makes when asked."""
    front_door = graph.reached_from(ENTRIES["FrontDoorRole"])
    assert "functions.api.sessions.erase" in front_door
    assert {"turnkeeper.table.Blobs.put", "turnkeeper.adapters.s3.S3Blobs.put"} <= front_door
    assert {f"turnkeeper.wiring.front_door.FrontDoorKit.{part}" for part in ("erasure", "dispatch")} <= front_door
    assert not {name for name in front_door if name.startswith(("fargate_worker.", "turnkeeper.testing."))}
