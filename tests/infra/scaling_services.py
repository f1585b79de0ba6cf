"""CloudWatch, Application Auto Scaling and ECS, as far as scaling goes, after their documentation.

Metrics come in periods of a minute, late and with holes; alarms look at them once a minute and act in each minute in
which they go on; a policy reads the service's desired count and changes it within its bounds; ECS starts and stops
tasks until there are as many as that. All of it runs on the tests' scheduler.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from tests.infra.scaling_template import Alarm, Policy, Scaling

MINUTE = 60
#: CloudWatch looks at more periods than an alarm counts, for the case that some are missing.
MORE_PERIODS = 2


class Metrics:
    """Datapoints of a minute each, which can be read from some moment on."""

    def __init__(self) -> None:
        self._points: dict[tuple[str, str], dict[int, tuple[float, float]]] = {}

    def put(self, namespace: str, name: str, minute: int, value: float, readable_at: float) -> None:
        self._points.setdefault((namespace, name), {})[minute] = (value, readable_at)

    def read(self, namespace: str, name: str, minute: int, now: float) -> float | None:
        value, readable_at = self._points.get((namespace, name), {}).get(minute, (0.0, math.inf))
        return value if readable_at <= now else None


@dataclass
class AlarmState:
    """One alarm, looked at once a minute."""

    alarm: Alarm
    metrics: Metrics
    act: Callable[[Policy, float, float], None]
    policies: dict[str, Policy]
    in_alarm: bool = False

    def look(self, now: float) -> None:
        alarm = self.alarm
        latest = int(now // MINUTE) - 1
        minutes = range(latest - alarm.periods - MORE_PERIODS + 1, latest + 1)
        values = [self._value(minute, now) for minute in minutes]
        real = [value for value in values if value is not None][-alarm.periods :]
        missing = alarm.periods - len(real)
        if missing and alarm.missing in {"ignore", "missing"}:
            # What is known may decide it; else the alarm stays as it is.
            if not real:
                self.in_alarm = self.in_alarm and alarm.missing == "ignore"
            elif len(real) >= alarm.to_alarm or not any(alarm.breaches(value) for value in real):
                self.in_alarm = sum(alarm.breaches(value) for value in real) >= alarm.to_alarm
        else:
            breaching = sum(alarm.breaches(value) for value in real) + (missing if alarm.missing == "breaching" else 0)
            self.in_alarm = breaching >= alarm.to_alarm
        if not self.in_alarm or not real:
            return
        # For scaling, an alarm acts again in each minute in which it goes on.
        for id in alarm.policies:
            policy = self.policies[id]
            value = max(real) if policy.aggregation == "Maximum" else sum(real) / len(real)
            self.act(policy, value - alarm.threshold, now)

    def _value(self, minute: int, now: float) -> float | None:
        values = {
            id: self.metrics.read(namespace, name, minute, now)
            for id, (namespace, name, _) in self.alarm.series.items()
        }
        return self.alarm.value(values)


@dataclass(eq=False)
class Task:
    arn: str
    deployment: str
    provider: str
    runs_at: float
    state: str = "PENDING"
    is_protected: bool = False
    #: Told by ECS to stop.
    stops: Callable[[], None] = lambda: None
    killed_at: float = math.inf
    kill: Callable[[], None] = lambda: None


@dataclass
class Ecs:
    """One service. ``begin`` starts a task's process; it calls ``ended`` when that is over."""

    scaling: Scaling
    begin: Callable[[Task], None]
    starting_seconds: Callable[[], float]
    desired: int = 0
    tasks: list[Task] = field(default_factory=list)
    deployments: list[str] = field(default_factory=lambda: ["ecs-svc/1"])
    #: Whether Spot has room.
    has_spot: bool = True
    #: A deployment whose image ends as soon as it begins.
    broken: str | None = None
    #: When the desired count was changed, to what, by whom.
    changes: list[tuple[float, int, str]] = field(default_factory=list)
    _made: int = 0

    @property
    def primary(self) -> str:
        return self.deployments[-1]

    @property
    def is_deploying(self) -> bool:
        return any(task.deployment != self.primary for task in self.tasks)

    def running(self) -> list[Task]:
        return [task for task in self.tasks if task.state == "RUNNING"]

    def want(self, desired: int, by: str, now: float) -> None:
        if desired != self.desired:
            self.changes.append((now, desired, by))
        self.desired = desired

    def deploy(self, now: float) -> None:
        """What CloudFormation does with another task definition."""
        if self.scaling.is_proven and self.desired == 0:
            self.want(1, "proof", now)
        if self.scaling.desired_count is not None:
            self.want(self.scaling.desired_count, "deployment", now)
        self.deployments.append(f"ecs-svc/{len(self.deployments) + 1}")

    # ---- the service's scheduler, once a second ----

    def reconcile(self, now: float) -> None:
        for task in list(self.tasks):
            if task.state == "PENDING" and task.runs_at <= now:
                if task.deployment == self.broken:
                    self.ended(task)
                    continue
                task.state = "RUNNING"
                self.begin(task)
            if task.killed_at <= now:
                task.kill()
                self.ended(task)
        present = [task for task in self.tasks if task.state in {"PENDING", "RUNNING"}]
        current = [task for task in present if task.deployment == self.primary]
        room = math.floor(self.desired * self.scaling.most_percent / 100)
        for _ in range(max(0, min(self.desired - len(current), room - len(present)))):
            self._start(now)
        self._stop_some(current, len(current) - self.desired, now)
        least = math.ceil(self.desired * self.scaling.healthy_percent / 100)
        old = [task for task in present if task.deployment != self.primary]
        self._stop_some(old, len(self.running()) - least, now)

    def _start(self, now: float) -> None:
        provider = self._provider()
        self._made += 1
        is_possible = provider != "FARGATE_SPOT" or self.has_spot
        runs_at = now + self.starting_seconds() if is_possible else math.inf
        self.tasks.append(Task(f"arn:task/{self._made}", self.primary, provider, runs_at))

    def _provider(self) -> str:
        """The one that is furthest below its share; a base comes before all shares."""
        held = {name: sum(task.provider == name for task in self.tasks) for name, _, _ in self.scaling.strategy}
        for name, base, _ in self.scaling.strategy:
            if held[name] < base:
                return name
        return min(
            (((held[name] - base) / weight, -weight, name) for name, base, weight in self.scaling.strategy if weight)
        )[2]

    def _stop_some(self, tasks: list[Task], surplus: int, now: float) -> None:
        free = [task for task in tasks if not task.is_protected]
        # What has not begun yet is the cheapest to lose.
        for task in sorted(free, key=lambda task: task.state != "PENDING")[: max(0, surplus)]:
            self.stop(task, now)

    def stop(self, task: Task, now: float) -> None:
        """SIGTERM, and SIGKILL after the stop timeout. Protection is not asked: Spot does not either."""
        if task.state == "PENDING":
            self.tasks.remove(task)
        elif task.state == "RUNNING":
            task.state = "STOPPING"
            task.killed_at = now + self.scaling.stop_timeout
            task.stops()

    def ended(self, task: Task) -> None:
        if task in self.tasks:
            self.tasks.remove(task)


@dataclass
class AutoScaling:
    """Step scaling of the service."""

    scaling: Scaling
    ecs: Ecs
    #: Of each policy, when it last scaled and by how much.
    _last: dict[str, tuple[float, int]] = field(default_factory=dict)

    def act(self, policy: Policy, above: float, now: float) -> None:
        adjustment = policy.adjustment(above)
        if adjustment is None:
            return
        current = self.ecs.desired
        at, added = self._last.get(policy.id, (-math.inf, 0))
        cools = now - at < policy.cooldown
        # What was added a moment ago is part of what is wanted now.
        base = current - added if cools and added > 0 else current
        wanted = adjustment if policy.kind == "ExactCapacity" else base + adjustment
        wanted = min(max(wanted, self.scaling.least), self.scaling.most)
        if cools and added > 0 and policy.kind != "ExactCapacity":
            wanted = max(wanted, current)
        if wanted == current:
            return
        if wanted < current and (self.ecs.is_deploying or (cools and added < 0)):
            return
        self._last[policy.id] = (now, wanted - base)
        self.ecs.want(wanted, policy.id, now)


@dataclass
class EcsClientDouble:
    """A :class:`turnkeeper.adapters.ecs.EcsClient` on the service. ``is_lost`` says when nothing gets through."""

    ecs: Ecs
    by: str
    now: Callable[[], float]
    is_lost: Callable[[], bool] = lambda: False

    def describe_services(self, *, cluster: str, services: list[str]) -> dict[str, Any]:
        self._answer()
        deployments = [
            {
                "id": id,
                "status": "PRIMARY" if id == self.ecs.primary else "ACTIVE",
                "desiredCount": self.ecs.desired,
                "runningCount": sum(task.deployment == id for task in self.ecs.running()),
            }
            for id in self.ecs.deployments
        ]
        return {"services": [{"desiredCount": self.ecs.desired, "deployments": deployments}], "failures": []}

    def update_service(self, *, cluster: str, service: str, desiredCount: int) -> dict[str, Any]:
        self._answer()
        self.ecs.want(desiredCount, self.by, self.now())
        return {}

    def describe_tasks(self, *, cluster: str, tasks: list[str]) -> dict[str, Any]:
        self._answer()
        return {"tasks": [{"startedBy": task.deployment} for task in self.ecs.tasks if task.arn in tasks]}

    def _answer(self) -> None:
        if self.is_lost():
            raise TimeoutError("simulated")
