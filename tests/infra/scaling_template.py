"""What the templates say about scaling: alarms, policies, bounds, strategies. Nothing here is a number of ours."""

from __future__ import annotations

import ast
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

Template = dict[str, Any]
#: Of a metric: its namespace, its name and the statistic.
Series = tuple[str, str, str]


@dataclass(frozen=True)
class Alarm:
    id: str
    #: By their names in the expression.
    series: Mapping[str, Series]
    expression: str
    threshold: float
    comparison: str
    periods: int
    to_alarm: int
    missing: str
    policies: tuple[str, ...]

    def value(self, values: Mapping[str, float | None]) -> float | None:
        """What the expression makes of one value of each series; ``None`` is a missing one."""
        return _evaluate(ast.parse(self.expression, mode="eval").body, values)

    def breaches(self, value: float) -> bool:
        match self.comparison:
            case "GreaterThanOrEqualToThreshold":
                return value >= self.threshold
            case "GreaterThanThreshold":
                return value > self.threshold
            case "LessThanOrEqualToThreshold":
                return value <= self.threshold
            case "LessThanThreshold":
                return value < self.threshold
        raise ValueError(self.comparison)


@dataclass(frozen=True)
class Policy:
    id: str
    kind: str
    #: Lower bound, upper bound (``None``: without end), adjustment; relative to the alarm's threshold.
    steps: tuple[tuple[float | None, float | None, int], ...]
    cooldown: float
    aggregation: str

    def adjustment(self, above: float) -> int | None:
        """For a value so far above the threshold. Bounds below it are open on the other side."""
        for low, high, adjustment in self.steps:
            from_low, to_high = low if low is not None else -math.inf, high if high is not None else math.inf
            if (above >= 0 and from_low <= above < to_high) or (above <= 0 and from_low < above <= to_high):
                return adjustment
        return None


@dataclass(frozen=True)
class Scaling:
    """A deployment's worker, as its templates describe it."""

    alarms: tuple[Alarm, ...]
    policies: Mapping[str, Policy]
    least: int
    most: int
    desired_count: int | None
    #: Name, base, weight.
    strategy: tuple[tuple[str, int, int], ...]
    healthy_percent: int
    most_percent: int
    stop_timeout: int
    slots: int
    #: Whether an update of the service comes after it was given a task.
    is_proven: bool
    #: What those who wake it are told.
    service: str | None
    most_to_wake: int
    observer_may_wake: bool

    @classmethod
    def of(cls, templates: Mapping[str, Template]) -> Scaling:
        worker = templates["Worker"]
        ((_, target),) = of_type(worker, "AWS::ApplicationAutoScaling::ScalableTarget")
        ((_, service),) = of_type(worker, "AWS::ECS::Service")
        ((_, task),) = of_type(worker, "AWS::ECS::TaskDefinition")
        (container,) = task["Properties"]["ContainerDefinitions"]
        environment = {one["Name"]: one["Value"] for one in container["Environment"]}
        policies = {id: _policy(id, one) for id, one in of_type(worker, "AWS::ApplicationAutoScaling::ScalingPolicy")}
        alarms = (_alarm(id, one) for id, one in of_type(worker, "AWS::CloudWatch::Alarm"))
        deployment = service["Properties"]["DeploymentConfiguration"]
        awake = {id for id, _ in of_type(worker, "Custom::WorkerAwake")}
        return cls(
            alarms=tuple(alarm for alarm in alarms if set(alarm.policies) & set(policies)),
            policies=policies,
            least=target["Properties"]["MinCapacity"],
            most=target["Properties"]["MaxCapacity"],
            desired_count=service["Properties"].get("DesiredCount"),
            strategy=tuple(
                (one["CapacityProvider"], one.get("Base", 0), one["Weight"])
                for one in service["Properties"]["CapacityProviderStrategy"]
            ),
            healthy_percent=deployment["MinimumHealthyPercent"],
            most_percent=deployment["MaximumPercent"],
            stop_timeout=container["StopTimeout"],
            slots=int(environment["TURNKEEPER_WORKER_CONCURRENCY"]),
            is_proven=bool(awake & set(depends_on(service))),
            service=environment.get("TURNKEEPER_WORKER_SERVICE"),
            most_to_wake=int(environment["TURNKEEPER_WORKER_MAX_TASKS"]),
            observer_may_wake=any(
                "ecs:UpdateService" in statement["Action"]
                for id, policy in of_type(templates["Api"], "AWS::IAM::Policy")
                if id.startswith("ObserverRole")
                for statement in policy["Properties"]["PolicyDocument"]["Statement"]
            ),
        )


def of_type(template: Template, kind: str) -> list[tuple[str, dict[str, Any]]]:
    return [(id, one) for id, one in template["Resources"].items() if one["Type"] == kind]


def depends_on(resource: Mapping[str, Any]) -> list[str]:
    found = resource.get("DependsOn", [])
    return [found] if isinstance(found, str) else list(found)


def _policy(id: str, resource: Mapping[str, Any]) -> Policy:
    found = resource["Properties"]["StepScalingPolicyConfiguration"]
    return Policy(
        id,
        kind=found["AdjustmentType"],
        steps=tuple(
            (one.get("MetricIntervalLowerBound"), one.get("MetricIntervalUpperBound"), one["ScalingAdjustment"])
            for one in found["StepAdjustments"]
        ),
        # What Application Auto Scaling takes for an ECS service where nobody says.
        cooldown=float(found.get("Cooldown", 300)),
        aggregation=found.get("MetricAggregationType", "Average"),
    )


def _alarm(id: str, resource: Mapping[str, Any]) -> Alarm:
    found = resource["Properties"]
    if "Metrics" in found:
        series = {
            one["Id"]: (stat["Metric"]["Namespace"], stat["Metric"]["MetricName"], stat["Stat"])
            for one in found["Metrics"]
            if (stat := one.get("MetricStat"))
        }
        (expression,) = [one["Expression"] for one in found["Metrics"] if "Expression" in one]
        assert {one["MetricStat"]["Period"] for one in found["Metrics"] if "MetricStat" in one} == {60}
    else:
        series = {"metric": (found["Namespace"], found["MetricName"], found["Statistic"])}
        expression = "metric"
        assert found["Period"] == 60
    return Alarm(
        id,
        series=series,
        expression=expression,
        threshold=found["Threshold"],
        comparison=found["ComparisonOperator"],
        periods=found["EvaluationPeriods"],
        to_alarm=found.get("DatapointsToAlarm", found["EvaluationPeriods"]),
        missing=found.get("TreatMissingData", "missing"),
        policies=tuple(one["Ref"] for one in found.get("AlarmActions", []) if isinstance(one, dict) and "Ref" in one),
    )


def _evaluate(node: ast.expr, values: Mapping[str, float | None]) -> float | None:
    """The part of CloudWatch's metric math that the templates use, for one period. A missing operand makes the result
    missing, but for FILL."""
    match node:
        case ast.Constant(value=int() | float() as number):
            return float(number)
        case ast.Name(id=name):
            return values[name]
        case ast.Call(func=ast.Name(id="FILL"), args=[inner, filling]):
            found = _evaluate(inner, values)
            return _evaluate(filling, values) if found is None else found
        case ast.Call(func=ast.Name(id="IF"), args=[condition, then, otherwise]):
            holds = _evaluate(condition, values)
            return None if holds is None else _evaluate(then if holds else otherwise, values)
        case ast.BinOp(left=left, op=ast.Add(), right=right):
            pair = _evaluate(left, values), _evaluate(right, values)
            return None if pair[0] is None or pair[1] is None else pair[0] + pair[1]
        case ast.Compare(left=left, ops=[ast.Eq()], comparators=[right]):
            pair = _evaluate(left, values), _evaluate(right, values)
            return None if pair[0] is None or pair[1] is None else float(pair[0] == pair[1])
    raise NotImplementedError(f"metric math that the simulation does not know: {ast.dump(node)}")


def planted(templates: Mapping[str, Template]) -> dict[str, Template]:
    """A copy to break."""
    copy: dict[str, Template] = json.loads(json.dumps(dict(templates)))
    return copy
