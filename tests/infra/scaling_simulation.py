"""A deployment's worker from job to rest: the synthesized alarms and policies, on a model of the services behind them,
with the real worker, the real sweep's look at the queue, and the real wakes, the sender's and the observer's.

What is real: everything of the kit, sessions and their engine included. What is modelled stands in
``scaling_services``; the queue is the kit's own in memory. Time is the scheduler's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from random import Random
from types import SimpleNamespace
from typing import Any

from fargate_worker.process import wait_for_the_end
from fargate_worker.protection import TaskProtection
from fargate_worker.retiring import Retiring
from fargate_worker.worker import Options, Worker
from functions.observe.records import Changed
from functions.observe.waking import Waking
from tests.infra.scaling_services import MINUTE, AlarmState, AutoScaling, Ecs, EcsClientDouble, Metrics, Task
from tests.infra.scaling_template import Scaling, Template
from tests.support.kit import POLICY, WHO, MemoryKit
from tests.support.scheduler import Process, ScheduledClock, ScheduledJobs, ScheduledLease, Scheduler
from tests.unit.worker.conftest import send_job, worker_of
from turnkeeper.adapters.ecs import EcsTask, EcsWakes
from turnkeeper.ports import Message
from turnkeeper.runtime.dispatch import Dispatch
from turnkeeper.runtime.intake import NewSession
from turnkeeper.runtime.leases import Lease
from turnkeeper.runtime.store import keys
from turnkeeper.runtime.waking import Capacity, WakingQueue
from turnkeeper.table import Item
from turnkeeper.testing.memory_queue import MemoryQueue

ACTIVE_SECONDS = 6 * 3600
"""For so long after anything asked for it a queue is active, and its metrics are made."""
AWAKENING_SECONDS = 15 * 60
"""So late are the metrics of a queue that was not."""
ECS_METRIC_SECONDS = 60
STREAM_SECONDS = 3
"""From a change of the table to the observer's look at it: a second of batching, and two for what is around it."""

BEAT_SECONDS = 5
"""Of a lease, of a minute here. Every other second in production, to hear of a cancel, which nobody asks for here."""

NO_CAPS = dict.fromkeys(("task_usd", "user_daily_usd", "user_monthly_usd", "tenant_monthly_usd"), "unlimited")


@dataclass(frozen=True)
class Conditions:
    """What a scenario chooses."""

    seed: int = 0
    #: From the wish for a task to its process: what Fargate takes for an image of this size.
    starting_seconds: tuple[float, float] = (30.0, 55.0)
    #: How late a datapoint of an active queue is.
    metric_seconds: tuple[float, float] = (5.0, 25.0)
    #: Senders do not reach ECS.
    wake_is_lost: bool = False
    sweep_runs: bool = True
    has_spot: bool = True


class WatchedQueue(MemoryQueue):
    """The kit's queue in memory, which notes when it was last asked anything, as CloudWatch does."""

    accessed_at = 0.0
    awoke_at = -1e9

    def _touch(self) -> None:
        now = self.clock.monotonic()
        if not self.is_active(now):
            self.awoke_at = now
        self.accessed_at = now

    def is_active(self, now: float) -> bool:
        return bool(self._held) or now - self.accessed_at < ACTIVE_SECONDS

    def send(self, body: str, *, group: str, delay_seconds: int = 0) -> None:
        self._touch()
        super().send(body, group=group, delay_seconds=delay_seconds)

    def receive(self, *, most: int, wait_seconds: int, visibility_seconds: int) -> list[Message]:
        self._touch()
        return super().receive(most=most, wait_seconds=wait_seconds, visibility_seconds=visibility_seconds)

    def backlog(self) -> int:
        self._touch()
        return super().backlog()

    def counts(self) -> tuple[int, int]:
        """Waiting and in hand; nobody asks the queue for it."""
        now = self._now()
        waiting = sum(one.visible_at <= now for one in self._held.values())
        return waiting, sum(one.visible_at > now and one.receive_count > 0 for one in self._held.values())


class UnhurriedClock(ScheduledClock):
    """Nobody looks again sooner than after a second: hours pass here, and nothing in them needs it."""

    def sleep(self, seconds: float) -> None:
        super().sleep(max(1.0, seconds))


class ScaledKit(MemoryKit):
    """The kit of all runners: one table, one queue."""

    def __init__(self, scheduler: Scheduler) -> None:
        clock = UnhurriedClock(scheduler, exact=True)
        policy = {**POLICY, "plans": {"standard": NO_CAPS}}
        super().__init__(policy=policy, clock=clock, lease_seconds=60, runner="none")
        self.parallel = ScheduledJobs(scheduler)
        self.watched = WatchedQueue(clock, poll_seconds=1.0)
        self._scheduler = scheduler

    def keep_lease(self, head: Any, held_since: float, on_beat: Any) -> Lease:
        return ScheduledLease(
            self._scheduler, self.sessions, self.clock, head, held_since, on_beat, beat_seconds=BEAT_SECONDS
        )


class Protection(TaskProtection):
    """Task protection without the agent's HTTP."""

    task: Task

    def _put(self, wanted: dict[str, object]) -> None:
        self.task.is_protected = bool(wanted["ProtectionEnabled"])


class Simulation:
    """One deployment, at rest with nothing on the queue."""

    def __init__(self, templates: Mapping[str, Template], conditions: Conditions = Conditions()) -> None:
        self.scaling = Scaling.of(templates)
        self.conditions = conditions
        self.random = Random(conditions.seed)
        self.scheduler = Scheduler(conditions.seed)
        self.kit = ScaledKit(self.scheduler)
        self.metrics = Metrics()
        self.ecs = Ecs(
            self.scaling,
            self._begin,
            starting_seconds=lambda: self.random.uniform(*conditions.starting_seconds),
            has_spot=conditions.has_spot,
        )
        self.auto_scaling = AutoScaling(self.scaling, self.ecs)
        self.alarms = [
            AlarmState(alarm, self.metrics, self.auto_scaling.act, dict(self.scaling.policies))
            for alarm in self.scaling.alarms
        ]
        #: Processes that were killed while sessions ran, and drains that did not end cleanly.
        self.killed: list[str] = []
        self.unclean: list[str] = []
        self.workers: dict[str, Worker] = {}
        self.sweeps = conditions.sweep_runs
        #: Whether SQS tells CloudWatch anything.
        self.is_reported = True
        self._jobs = 0
        self._heads: list[Changed] = []
        self._observed = 0
        self._wire()

    @property
    def now(self) -> float:
        return self.scheduler.now

    def _wire(self) -> None:
        queue: Any = self.kit.watched
        # What the runners send is woken for as well.
        runners, senders = self._wakes("runner"), self._wakes("sender", is_lost=self.conditions.wake_is_lost)
        vars(self.kit)["queue"] = WakingQueue(queue, runners) if runners else queue
        self.outside = WakingQueue(queue, senders) if senders else queue
        self.capacity = Capacity(queue, self._wakes("sweep"), self.scaling.slots)
        self._every(1, self.ecs.reconcile, at=0)
        self._every(MINUTE, self._publish, at=self.random.uniform(0, MINUTE))
        for alarm in self.alarms:
            self._every(MINUTE, alarm.look, at=self.random.uniform(0, MINUTE))
        self._every(MINUTE, self._sweep, at=self.random.uniform(0, MINUTE))
        self.kit.table.on_change = self._changed
        observer = Waking(self._wakes("observer") if self.scaling.observer_may_wake else None, self.kit.clock)
        self._every(STREAM_SECONDS, lambda _: self._observe(observer), at=0)

    def _changed(self, old: Item | None, new: Item | None) -> None:
        if new is not None and new["sk"] == "HEAD" and (session := keys.session_of_pk(new["pk"])) is not None:
            self._heads.append(Changed(*session, "HEAD", old, new))

    def _observe(self, observer: Waking) -> None:
        new, self._observed = self._heads[self._observed :], len(self._heads)
        for change in new:
            observer.see(change)

    def _wakes(self, by: str, *, is_lost: bool = False) -> EcsWakes | None:
        if self.scaling.service is None:
            return None
        client = EcsClientDouble(self.ecs, by, lambda: self.now, lambda: is_lost)
        return EcsWakes(client, self.scaling.service, self.scaling.most_to_wake, self.kit.clock)

    def _every(self, seconds: float, step: Any, *, at: float) -> None:
        def body() -> None:
            self.scheduler.sleep(at)
            while True:
                step(self.now)
                self.scheduler.sleep(seconds)

        self.scheduler.spawn("service", body, Process("AWS"))

    def _sweep(self, _now: float) -> None:
        if self.sweeps:
            self.capacity.look()
            self.kit.sweep.run(lambda: 45.0)

    # ---- what CloudWatch is told ----

    def _publish(self, now: float) -> None:
        minute, queue = int(now // MINUTE), self.kit.watched
        if running := len(self.ecs.running()):
            self.metrics.put("AWS/ECS", "CPUUtilization", minute, running, (minute + 1) * MINUTE + ECS_METRIC_SECONDS)
        if not queue.is_active(now) or not self.is_reported:
            return
        readable_at = (minute + 1) * MINUTE + self.random.uniform(*self.conditions.metric_seconds)
        readable_at = max(readable_at, queue.awoke_at + AWAKENING_SECONDS)
        waiting, in_hand = queue.counts()
        self.metrics.put("AWS/SQS", "ApproximateNumberOfMessagesVisible", minute, waiting, readable_at)
        if in_hand:
            self.metrics.put("AWS/SQS", "ApproximateNumberOfMessagesNotVisible", minute, in_hand, readable_at)

    # ---- a task's process ----

    def _begin(self, task: Task) -> None:
        process = self.scheduler.process(task.arn)
        self.scheduler.spawn(task.arn, lambda: self._run(task, process), process)

    def _run(self, task: Task, process: Process) -> None:
        """As ``python -m fargate_worker`` does."""

        def spawn(name: str, body: Any) -> None:
            self.scheduler.spawn(name, body, process)

        worker = worker_of(self.kit, Options(name=task.arn, concurrency=self.scaling.slots), spawn)
        self.workers[task.arn] = worker
        signals = SimpleNamespace(stop=False)
        task.stops = lambda: setattr(signals, "stop", True)
        task.kill = lambda: self._kill(task, process, worker.running())
        protection = Protection("", lambda: worker.running() > 0, self.kit.clock, spawn)
        protection.task = task
        retiring = None
        if service := self.scaling.service:
            client = EcsClientDouble(self.ecs, "task", lambda: self.now)
            retiring = Retiring(EcsTask(client, service, task.arn).is_replaced, self.kit.clock, spawn)
            retiring.start()
        protection.start()
        worker.start()
        wait_for_the_end(worker, signals, retiring, self.kit.clock)  # type: ignore[arg-type]
        worker.stop()
        if not worker.drain():
            self.unclean.append(task.arn)
        protection.close()
        del self.workers[task.arn]
        self.ecs.ended(task)
        self.scheduler.kill(process)

    def _kill(self, task: Task, process: Process, running: int) -> None:
        if running:
            self.killed.append(f"{running} sessions on {task.arn} at {self.now:.0f} s")
        self.workers.pop(task.arn, None)
        self.scheduler.kill(process)

    # ---- what a scenario does ----

    def send(self, count: int, text: str = "[[sleep 30]][[say done]]", agent: str = "plain") -> list[str]:
        """Jobs, as our own senders send them; their sessions' ids."""
        sender = SimpleNamespace(queue=self.outside)
        ids = [send_job(sender, f"job-{self._jobs + n}", text, agent) for n in range(count)]  # type: ignore[arg-type]
        self._jobs += count
        return ids

    def ask(self, text: str = "[[sleep 30]][[say done]]") -> str:
        """A call of the front door, of an agent that belongs on the worker; the session's id."""
        head = self.kit.intake.create(WHO, NewSession(agent="slow", input=text, metadata={}))
        Dispatch(self.outside, self.kit.turns, self.kit.tokens).send(head)
        return head.session_id

    def see_again(self) -> None:
        """The stream from its beginning."""
        self._observed = 0

    def run(self, seconds: float) -> None:
        self.scheduler.sleep(seconds)

    def until(self, holds: Any, seconds: float = 4 * 3600.0) -> float:
        """Run until it holds; how long that took. Infinite where it does not."""
        began = self.now
        return self.now - began if self.scheduler.run_until(holds, seconds) else float("inf")

    def first_step(self, seconds: float = 4 * 3600.0) -> float:
        """Seconds from now to the next model call."""
        asked: list[Any] = self.kit.model.requests  # type: ignore[attr-defined]
        before = len(asked)
        return self.until(lambda: len(asked) > before, seconds)

    def running(self) -> list[int]:
        """Sessions that run on each task."""
        return [worker.running() for worker in self.workers.values()]

    def keep_sending(self, seconds: float, every: float, text: str, agent: str) -> list[str]:
        """Two jobs every so often, from now on for so long; their sessions' ids, as they come."""
        ids: list[str] = []

        def body() -> None:
            for _ in range(int(seconds / every)):
                ids.extend(self.send(2, text, agent))
                self.scheduler.sleep(every)

        self.scheduler.spawn("users", body, Process("users"))
        return ids

    def statuses(self, ids: list[str]) -> set[str]:
        return {self.kit.head(id).status for id in ids}

    def done(self) -> bool:
        return not self.kit.watched.bodies()

    def interrupt_spot(self) -> Task | None:
        task = next((one for one in self.ecs.running() if one.provider == "FARGATE_SPOT"), None)
        if task is not None:
            self.ecs.stop(task, self.now)
        return task

    def close(self) -> None:
        self.scheduler.kill_all()
