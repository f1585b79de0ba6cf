"""Processes that share one machine and one clock, in an order that a seed decides.

A task is a part of a process that runs beside others, as a thread does. It runs until its next effect (a call of the
table, the queue, the model or a tool, or a sleep); there the seed says which task goes on, which process dies or
stalls, and when time passes. Nothing here waits for real time, and the same seed gives the same run.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from random import Random
from types import TracebackType
from typing import TypeVar

from greenlet import getcurrent, greenlet

from turnkeeper.core.session import Head
from turnkeeper.ports import Clock
from turnkeeper.runtime.leases import HeldLease
from turnkeeper.runtime.store.sessions import Sessions
from turnkeeper.runtime.threads import Done
from turnkeeper.testing.faulty_table import Crash

T = TypeVar("T")

START = datetime(2026, 11, 30, 23, 58, tzinfo=UTC)  # a day and a month end two minutes in


@dataclass(frozen=True)
class Faults:
    """How likely each fault is at each effect."""

    #: The process dies.
    crash: float = 0.0
    #: The process stands still for a while, and does not know it.
    stall: float = 0.0
    #: A write was done, and its answer is lost.
    lost_answer: float = 0.0
    #: A write is refused because the service is out of reach.
    refused: float = 0.0


CALM = Faults()


class GivenUp(BaseException):
    """What a task was doing is not waited for any more."""


@dataclass(eq=False)
class Process:
    """What dies, stalls and has a clock as one."""

    name: str
    #: How far its clock is off, in seconds.
    skew: float = 0.0
    stalled_at: float = -1.0
    stalled_until: float = 0.0
    died_at: float | None = None


@dataclass(eq=False)
class Beside:
    """A step that another thread of the same process does every so often, beside a task."""

    step: Callable[[], None]
    seconds: float
    due_at: float


@dataclass(eq=False)
class Task:
    name: str
    process: Process
    body: greenlet
    wake_at: float
    besides: list[Beside] = field(default_factory=list)
    #: Asked while the task sleeps: whether what it does is to be given up.
    give_up: Callable[[], bool] | None = None
    #: It is inside one of ``besides``.
    aside: bool = False
    #: It stands at an effect: the one kind of place where a fault can strike.
    at_effect: bool = False

    @property
    def ready_at(self) -> float:
        return max(self.wake_at, self.process.stalled_until)


class Scheduler:
    """Lets one task run at a time; whoever calls from outside of all tasks sees them stand still."""

    def __init__(self, seed: int = 0, faults: Faults = CALM) -> None:
        self.random = Random(seed)
        self.faults = faults
        self.now = 0.0
        self.tasks: list[Task] = []
        self.current: Task | None = None
        self.history: list[str] = []
        #: Hears of each process that dies, before it does.
        self.on_death: Callable[[Process], None] = lambda _: None

    # ---- seen from tasks ----

    def process(self, name: str) -> Process:
        return Process(name, skew=self.random.uniform(-1.2, 1.2))

    def spawn(self, name: str, body: Callable[[], None], process: Process | None = None) -> Task:
        """Without ``process`` a task that is spawned by another belongs to its process, and else to one of its own."""
        if process is None:
            process = self.current.process if self.current is not None else self.process(name)
        task = Task(name, process, greenlet(body), wake_at=self.now)
        self.tasks.append(task)
        return task

    def effect(self, what: str) -> None:
        """A point where anything may happen; raises Crash where the process dies here."""
        if self.current is not None:
            self.history.append(f"{self.now:9.2f} {self.current.name}: {what}")
            self.current.at_effect = True
            self._hand_back(self.current)

    def sleep(self, seconds: float) -> None:
        """From outside of all tasks: let them run for so long."""
        task = self.current
        if task is None:
            self.run_until(lambda: False, seconds)
            return
        until = self.now + seconds
        while self.now < until:
            self.nap(until)
            if task.give_up is not None and task.give_up():
                raise GivenUp

    def nap(self, until: float) -> None:
        """Sleep until then, or until :meth:`wake` is called or there was something to do beside."""
        task = self.current
        assert task is not None
        task.wake_at = until if task.aside else min([until, *(beside.due_at for beside in task.besides)])
        self._hand_back(task)

    def wake(self, task: Task) -> None:
        task.wake_at = min(task.wake_at, self.now)

    @contextmanager
    def beside(self, seconds: float, step: Callable[[], None]) -> Iterator[None]:
        """While this is entered, the step is done every so often beside the task, unless its process stalls."""
        task = self.current
        assert task is not None
        beside = Beside(step, seconds, self.now + seconds)
        task.besides.append(beside)
        try:
            yield
        finally:
            task.besides.remove(beside)

    @contextmanager
    def unless(self, give_up: Callable[[], bool]) -> Iterator[None]:
        """While this is entered, a sleep of the task raises GivenUp as soon as ``give_up`` says so."""
        task = self.current
        assert task is not None
        before, task.give_up = task.give_up, give_up
        try:
            yield
        finally:
            task.give_up = before

    def _hand_back(self, task: Task) -> None:
        if task.process.died_at is not None:
            raise Crash(task.name)
        outside = task.body.parent
        assert outside is not None
        outside.switch()
        if task.aside:
            return
        task.aside = True
        try:
            for beside in list(task.besides):
                if beside.due_at <= self.now:
                    beside.due_at = self.now + beside.seconds
                    beside.step()
        finally:
            task.aside = False

    # ---- seen from outside ----

    def run_until(self, holds: Callable[[], bool], seconds: float) -> bool:
        """Let the tasks run until it holds; False where it does not within so long."""
        until = self.now + seconds
        while not holds():
            if self.step():
                continue
            wake = self.next_wake()
            if wake is None or wake > until:
                self.now = until
                return holds()
            self.now = wake
        return True

    def step(self) -> bool:
        """Let one task go on to its next effect; False when none is ready now."""
        now = self.now
        # `ready_at`, written out: what a simulation does most is to look here who is next.
        ready = [task for task in self.tasks if task.wake_at <= now and task.process.stalled_until <= now]
        if not ready:
            return False
        task = self.random.choice(ready)
        at_effect, task.at_effect = task.at_effect, False
        if not (at_effect and self._is_hurt(task)):
            self._switch(task)
        return True

    def _switch(self, task: Task, crash: Crash | None = None) -> None:
        task.body.parent = getcurrent()
        self.current, before = task, self.current
        try:
            task.body.throw(crash) if crash else task.body.switch()
        except Crash:
            pass
        finally:
            self.current = before
            if task.body.dead and task in self.tasks:
                self.tasks.remove(task)

    def _is_hurt(self, task: Task) -> bool:
        chance = self.random.random()
        if chance < self.faults.crash:
            self.history.append(f"{self.now:9.2f} {task.name}: DIES")
            self.kill(task.process)
            return True
        if chance < self.faults.crash + self.faults.stall:
            seconds = self.random.choice([2.0, 15.0, 90.0])
            self.history.append(f"{self.now:9.2f} {task.name}: STALLS {seconds} s")
            task.process.stalled_at, task.process.stalled_until = self.now, self.now + seconds
            return True
        return False

    def kill(self, process: Process) -> None:
        """Nothing of the process runs any more; whatever its tasks would do on their way out comes to nothing."""
        self.on_death(process)
        process.died_at = self.now
        for task in [task for task in self.tasks if task.process is process and task is not self.current]:
            self._switch(task, Crash(task.name))

    def kill_all(self) -> None:
        for process in {task.process: None for task in self.tasks}:
            self.kill(process)

    def next_wake(self) -> float | None:
        return min((task.ready_at for task in self.tasks), default=None)


class ScheduledClock:
    """A process's clock: the scheduler's time, off by the skew of the process that asks unless it is ``exact``."""

    def __init__(self, scheduler: Scheduler, *, exact: bool = False) -> None:
        self._scheduler = scheduler
        self._exact = exact

    def now(self) -> datetime:
        task = self._scheduler.current
        skew = task.process.skew if task and not self._exact else 0.0
        return START + timedelta(seconds=self._scheduler.now + skew)

    def monotonic(self) -> float:
        return self._scheduler.now

    def sleep(self, seconds: float) -> None:
        self._scheduler.sleep(seconds)


class ScheduledJobs:
    """A :class:`turnkeeper.runtime.threads.Parallel`: one job after the other on the caller's task. One that sleeps is
    given up when ``stop`` says so, and with it those behind it."""

    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler = scheduler

    def run_all(
        self,
        jobs: Sequence[Callable[[], T]],
        *,
        timeouts: Sequence[float],
        stop: Callable[[], bool],
        done: Callable[[int, Done[T], int], None],
    ) -> list[Done[T] | None]:
        outcomes: list[Done[T] | None] = [None] * len(jobs)
        for index, job in enumerate(jobs):
            if stop():
                break
            try:
                with self._scheduler.unless(stop):
                    outcome: Done[T] = Done(value=job())
            except GivenUp:
                break
            except Exception as error:  # noqa: BLE001 - for whoever waits for it
                outcome = Done(error=error)
            outcomes[index] = outcome
            done(index, outcome, len(jobs) - index - 1)
        return outcomes


class ScheduledLease(HeldLease):
    """A lease that is kept beside the task that holds it."""

    def __init__(
        self,
        scheduler: Scheduler,
        sessions: Sessions,
        clock: Clock,
        head: Head,
        held_since: float,
        on_beat: Callable[[], None],
        *,
        beat_seconds: float | None = None,
    ) -> None:
        super().__init__(sessions, clock, head, held_since, on_beat)
        self._beside = scheduler.beside(self.beat_seconds if beat_seconds is None else beat_seconds, self.beat)

    def __enter__(self) -> ScheduledLease:
        self._beside.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._beside.__exit__(kind, error, trace)
