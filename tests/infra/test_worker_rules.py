"""Rules that the worker's part of every variant keeps, and the faults by which each rule proves that it is one."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest

from tests.infra.scaling_template import Alarm, Scaling, Template, depends_on, of_type, planted
from tests.infra.variants import Variants
from tests.support.repository import REPOSITORY
from turnkeeper.settings import Settings
from turnkeeper_infra import names

Templates = Mapping[str, Template]
#: What is wrong, a line each.
Rule = Callable[[Templates], Iterator[str]]

#: Reported in every minute in which the queue is active, whatever is on it.
ALWAYS_REPORTED = {"ApproximateNumberOfMessagesVisible"}
INLINE_CODE_CHARACTERS = 4096


def the_service_waits_for_its_capacity_providers(templates: Templates) -> Iterator[str]:
    worker = templates["Worker"]
    associations = {id for id, _ in of_type(worker, "AWS::ECS::ClusterCapacityProviderAssociations")}
    for id, service in of_type(worker, "AWS::ECS::Service"):
        if not associations & set(depends_on(service)):
            yield f"{id} may be made before its cluster has capacity providers, and they cannot be taken away under it"


def no_update_sets_the_desired_count(templates: Templates) -> Iterator[str]:
    for id, service in of_type(templates["Worker"], "AWS::ECS::Service"):
        if "DesiredCount" in service["Properties"]:
            yield f"{id} names a desired count"


def the_image_is_proven_before_each_update(templates: Templates) -> Iterator[str]:
    worker = templates["Worker"]
    proofs = dict(of_type(worker, "Custom::WorkerAwake"))
    for id, service in of_type(worker, "AWS::ECS::Service"):
        properties = service["Properties"]
        before = [proofs[one]["Properties"] for one in depends_on(service) if one in proofs]
        if not [one for one in before if one["TaskDefinition"] == properties["TaskDefinition"]]:
            yield f"{id} is updated to another task definition without a task"
        if not properties["DeploymentConfiguration"]["DeploymentCircuitBreaker"]["Rollback"]:
            yield f"{id} keeps a broken image"


def the_first_task_is_on_demand(templates: Templates) -> Iterator[str]:
    if not [base for name, base, _ in Scaling.of(templates).strategy if name == "FARGATE" and base >= 1]:
        yield "the first task may land on Spot, and nobody works where that has no room"


def the_drain_fits_into_the_stop(templates: Templates) -> Iterator[str]:
    seconds: float = Settings.model_fields["stop_seconds"].default
    timeout = Scaling.of(templates).stop_timeout
    if not seconds + 5 <= timeout <= 120:
        yield f"a drain takes up to {seconds} s, and SIGKILL comes after {timeout}: Fargate and Spot allow 120"


def growing_only_adds_what_holds_what_waits(templates: Templates) -> Iterator[str]:
    scaling = Scaling.of(templates)
    for alarm in scaling.alarms:
        for policy in (scaling.policies[id] for id in alarm.policies):
            if _rests(scaling, alarm):
                continue
            if policy.kind != "ChangeInCapacity" or min(adjustment for _, _, adjustment in policy.steps) <= 0:
                yield f"{policy.id} can lower the number of tasks"
            for waiting in range(1, scaling.most * scaling.slots + 2):
                adds, needs = policy.adjustment(waiting - alarm.threshold), math.ceil(waiting / scaling.slots)
                if adds is None or adds < min(needs, scaling.most):
                    yield f"{policy.id} adds {adds} tasks for {waiting} messages"


def growing_counts_only_what_is_always_reported(templates: Templates) -> Iterator[str]:
    scaling = Scaling.of(templates)
    for alarm in scaling.alarms:
        if _rests(scaling, alarm):
            continue
        if reported_sometimes := {name for _, name, _ in alarm.series.values()} - ALWAYS_REPORTED:
            yield f"{alarm.id} has no value while {reported_sometimes} are not reported"


def resting_ends_all_tasks_when_nothing_is_there(templates: Templates) -> Iterator[str]:
    scaling = Scaling.of(templates)
    resting = [alarm for alarm in scaling.alarms if _rests(scaling, alarm)]
    if len(resting) != 1:
        yield f"{len(resting)} alarms rest"
    for alarm in resting:
        kinds = {scaling.policies[id].kind for id in alarm.policies}
        # Who serves the gateway has to be there.
        least = 1 if list(of_type(templates["Worker"], "AWS::ElasticLoadBalancingV2::LoadBalancer")) else 0
        if kinds != {"ExactCapacity"} or scaling.least != least:
            yield f"{alarm.id} does not get to {least}"
        names_of = {name: id for id, (_, name, _) in alarm.series.items()}
        waiting, in_hand = "ApproximateNumberOfMessagesVisible", "ApproximateNumberOfMessagesNotVisible"

        def idle(values: Mapping[str, float | None], names_of: dict[str, str] = names_of, alarm: Alarm = alarm) -> bool:
            value = alarm.value({names_of[name]: values.get(name) for name in names_of})
            return value is not None and alarm.breaches(value)

        if not idle({waiting: 0, "CPUUtilization": 2}):
            yield f"{alarm.id} never rests: messages in hand are not reported where there are none"
        for busy in ({waiting: 1}, {waiting: 0, in_hand: 1}, {in_hand: 1}, {}):
            if idle({**busy, "CPUUtilization": 2}):
                yield f"{alarm.id} ends tasks with {busy}"
        if idle({waiting: 0}):
            yield f"{alarm.id} goes on when no task runs, and ends the next that is woken"
        if alarm.missing in {"breaching", "ignore"}:
            yield f"{alarm.id} treats missing data as {alarm.missing}"


def those_who_wake_name_the_service_and_may(templates: Templates) -> Iterator[str]:
    worker = templates["Worker"]
    ((_, cluster),) = of_type(worker, "AWS::ECS::Cluster")
    ((_, service),) = of_type(worker, "AWS::ECS::Service")
    named = f"{cluster['Properties'].get('ClusterName')}/{service['Properties'].get('ServiceName')}"
    told = {
        id: function["Properties"]["Environment"]["Variables"].get("TURNKEEPER_WORKER_SERVICE")
        for id, function in of_type(templates["Api"], "AWS::Lambda::Function")
        if "Environment" in function["Properties"]
    }
    told["worker"] = Scaling.of(templates).service
    if wrong := {id: service for id, service in told.items() if service != named}:
        yield f"the service is {named}, and not {wrong}"
    for template, role in (("Api", "FrontDoorRole"), ("Api", "TurnRole"), ("Api", "SweepRole"), ("Worker", "TaskRole")):
        allowed = {
            json.dumps(statement["Resource"])
            for id, policy in of_type(templates[template], "AWS::IAM::Policy")
            if id.startswith(role)
            for statement in policy["Properties"]["PolicyDocument"]["Statement"]
            if {"ecs:DescribeServices", "ecs:UpdateService"} <= set(_list(statement["Action"]))
        }
        if not any(one.rstrip('"]} ').endswith(f":service/{named}") for one in allowed):
            yield f"{role} may not wake {named}, but {allowed}"


def those_who_scale_agree_on_the_numbers(templates: Templates) -> Iterator[str]:
    scaling = Scaling.of(templates)
    for id, function in of_type(templates["Api"], "AWS::Lambda::Function"):
        if function["Properties"].get("Handler") == names.SWEEP_HANDLER:
            variables = function["Properties"]["Environment"]["Variables"]
            numbers = [int(variables[key]) for key in ("TURNKEEPER_WORKER_CONCURRENCY", "TURNKEEPER_WORKER_MAX_TASKS")]
            if numbers != [scaling.slots, scaling.most]:
                yield f"{id} thinks of {numbers}, the service of {[scaling.slots, scaling.most]}"


def _rests(scaling: Scaling, alarm: Alarm) -> bool:
    policies = [scaling.policies[id] for id in alarm.policies]
    return all(
        adjustment == scaling.least and (adjustment == 0 or policy.kind == "ExactCapacity")
        for policy in policies
        for _, _, adjustment in policy.steps
    )


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


RULES: list[Rule] = [
    the_service_waits_for_its_capacity_providers,
    no_update_sets_the_desired_count,
    the_image_is_proven_before_each_update,
    the_first_task_is_on_demand,
    the_drain_fits_into_the_stop,
    growing_only_adds_what_holds_what_waits,
    growing_counts_only_what_is_always_reported,
    resting_ends_all_tasks_when_nothing_is_there,
    those_who_wake_name_the_service_and_may,
    those_who_scale_agree_on_the_numbers,
]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_every_variant_keeps_the_rule(rule: Rule, variants: Variants) -> None:
    broken = {name: found for name, variant in variants.items() if (found := list(rule(variant.templates)))}
    assert broken == {}


def _of(templates: Templates, kind: str, word: str = "", stack: str = "Worker") -> dict[str, Any]:
    (found,) = [one for id, one in of_type(templates[stack], kind) if word in id]
    return found


def _service(templates: Templates) -> dict[str, Any]:
    return _of(templates, "AWS::ECS::Service")


def _container(templates: Templates) -> dict[str, Any]:
    found: dict[str, Any] = _of(templates, "AWS::ECS::TaskDefinition")["Properties"]["ContainerDefinitions"][0]
    return found


def _configuration(templates: Templates, word: str) -> dict[str, Any]:
    found = _of(templates, "AWS::ApplicationAutoScaling::ScalingPolicy", word)["Properties"]
    configuration: dict[str, Any] = found["StepScalingPolicyConfiguration"]
    return configuration


def _idle(templates: Templates) -> dict[str, Any]:
    found: dict[str, Any] = _of(templates, "AWS::CloudWatch::Alarm", "TasksIdle")["Properties"]
    return found


def _expression(templates: Templates, expression: str) -> None:
    (math,) = [one for one in _idle(templates)["Metrics"] if "Expression" in one]
    math["Expression"] = expression


def _without(templates: Templates, word: str) -> None:
    service = _service(templates)
    service["DependsOn"] = [id for id in depends_on(service) if word not in id]


def _another_number(templates: Templates) -> None:
    for _, function in of_type(templates["Api"], "AWS::Lambda::Function"):
        if function["Properties"].get("Handler") == names.SWEEP_HANDLER:
            function["Properties"]["Environment"]["Variables"]["TURNKEEPER_WORKER_CONCURRENCY"] = "4"


def _may_not_wake(templates: Templates) -> None:
    for id, policy in of_type(templates["Api"], "AWS::IAM::Policy"):
        if id.startswith("FrontDoorRole"):
            statements = policy["Properties"]["PolicyDocument"]["Statement"]
            statements[:] = [one for one in statements if "ecs:UpdateService" not in _list(one["Action"])]


FAULTS: list[tuple[str, Rule, Callable[[Templates], object]]] = [
    ("race", the_service_waits_for_its_capacity_providers, lambda t: _without(t, "Cluster")),
    ("count", no_update_sets_the_desired_count, lambda t: _service(t)["Properties"].update(DesiredCount=0)),
    ("unproven", the_image_is_proven_before_each_update, lambda t: _without(t, "Awake")),
    (
        "proven by another",
        the_image_is_proven_before_each_update,
        lambda t: _of(t, "Custom::WorkerAwake")["Properties"].update(TaskDefinition="another"),
    ),
    (
        "no base",
        the_first_task_is_on_demand,
        lambda t: [one.pop("Base", 0) for one in _service(t)["Properties"]["CapacityProviderStrategy"]],
    ),
    ("short stop", the_drain_fits_into_the_stop, lambda t: _container(t).update(StopTimeout=60)),
    ("long stop", the_drain_fits_into_the_stop, lambda t: _container(t).update(StopTimeout=300)),
    (
        "exact",
        growing_only_adds_what_holds_what_waits,
        lambda t: _configuration(t, "Grow").update(AdjustmentType="ExactCapacity"),
    ),
    (
        "doubling",
        growing_only_adds_what_holds_what_waits,
        lambda t: _configuration(t, "Grow")["StepAdjustments"].pop(2),
    ),
    (
        "sometimes reported",
        growing_counts_only_what_is_always_reported,
        lambda t: _of(t, "AWS::CloudWatch::Alarm", "MessagesWait")["Properties"].update(
            MetricName="ApproximateNumberOfMessagesNotVisible"
        ),
    ),
    (
        "no fill",
        resting_ends_all_tasks_when_nothing_is_there,
        lambda t: _expression(t, "IF(waiting + in_hand == 0, tasks, 0)"),
    ),
    (
        "too much fill",
        resting_ends_all_tasks_when_nothing_is_there,
        lambda t: _expression(t, "IF(FILL(waiting, 0) + FILL(in_hand, 0) == 0, tasks, 0)"),
    ),
    (
        "goes on",
        resting_ends_all_tasks_when_nothing_is_there,
        lambda t: _expression(t, "IF(waiting + FILL(in_hand, 0) == 0, 1, 0)"),
    ),
    (
        "missing is empty",
        resting_ends_all_tasks_when_nothing_is_there,
        lambda t: _idle(t).update(TreatMissingData="breaching"),
    ),
    (
        "another name",
        those_who_wake_name_the_service_and_may,
        lambda t: _service(t)["Properties"].update(ServiceName="another"),
    ),
    ("may not", those_who_wake_name_the_service_and_may, _may_not_wake),
    ("another number", those_who_scale_agree_on_the_numbers, _another_number),
]


@pytest.mark.parametrize(("rule", "plant"), [fault[1:] for fault in FAULTS], ids=[fault[0] for fault in FAULTS])
def test_a_planted_fault_is_found(rule: Rule, plant: Callable[[Templates], object], variants: Variants) -> None:
    broken = planted(variants["prod-jwt"].templates)
    plant(broken)
    assert list(rule(broken))


def test_every_rule_has_a_fault() -> None:
    assert {rule for _, rule, _ in FAULTS} == set(RULES)


def test_a_policy_has_as_many_steps_as_aws_takes() -> None:
    from turnkeeper_infra.scaling import MOST_STEPS, _steps  # jsii starts with this import

    for most in (1, 2, 10, MOST_STEPS, MOST_STEPS + 1, 57, 200):
        steps = _steps(most)
        assert len(steps) == len(set(steps)) <= MOST_STEPS
        assert (steps == sorted(steps), steps[-1]) == (True, most)
        assert most > MOST_STEPS or steps == list(range(1, most + 1))


def test_the_proof_fits_into_the_template_and_is_given_its_answering_module(variants: Variants) -> None:
    """CloudFormation puts `cfnresponse` beside inline code that has this very line."""
    text = (REPOSITORY / "functions" / "prove" / "handler.py").read_text()
    assert len(text) < INLINE_CODE_CHARACTERS
    assert "\nimport cfnresponse\n" in text
    for variant in variants.values():
        inline = [
            function["Properties"]["Code"]["ZipFile"]
            for _, function in of_type(variant.templates["Worker"], "AWS::Lambda::Function")
            if "ZipFile" in function["Properties"]["Code"]
        ]
        assert inline == [text]
