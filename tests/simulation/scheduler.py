"""A deterministic scheduler: many tasks, one at a time, in an order that a seed decides.

Each task is a thread that runs only while it holds the baton. At every effect (a call of the table, the queue, the
model, a tool, a sleep) it hands the baton back, and the seed says who goes on, who dies, who stalls, and when time
passes. The same seed gives the same run.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from random import Random

from turnkeeper.core.errors import Unavailable
from turnkeeper.ports import StoreBusy
from turnkeeper.testing.faulty_table import Call, Crash

START = datetime(2026, 11, 30, 23, 58, tzinfo=UTC)  # a day and a month end two minutes in


@dataclass
class Faults:
    """How likely each fault is at each effect."""

    crash: float = 0.01
    stall: float = 0.01
    lost_answer: float = 0.005
    store_busy: float = 0.005


@dataclass(eq=False)
class Task:
    name: str
    body: Callable[[], None]
    #: How far this process's clock is off, in seconds.
    skew: float = 0.0
    baton: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))
    wake_at: float = 0.0
    doomed: bool = False
    over: bool = False
    error: BaseException | None = None
    #: Called when the task goes on after a yield, for what a thread beside it would have done meanwhile.
    beside: list[Callable[[], None]] = field(default_factory=list)


class Scheduler:
    """Holds the baton whenever no task does."""

    def __init__(self, seed: int, faults: Faults) -> None:
        self.random = Random(seed)
        self.faults = faults
        self.now = 0.0
        self.tasks: list[Task] = []
        self.current: Task | None = None
        self.history: list[str] = []
        self._baton = threading.Semaphore(0)

    # ---- seen from tasks ----

    def spawn(self, name: str, body: Callable[[], None]) -> Task:
        task = Task(name, body, skew=self.random.uniform(-1.2, 1.2))
        self.tasks.append(task)
        thread = threading.Thread(target=self._main, args=(task,), daemon=True)
        thread.start()
        return task

    def effect(self, what: str) -> None:
        """A point where anything may happen; raises Crash where this task dies here."""
        task = self.current
        if task is None:
            return
        self.history.append(f"{self.now:9.2f} {task.name}: {what}")
        self._hand_back(task)

    def sleep(self, seconds: float) -> None:
        task = self.current
        assert task is not None
        task.wake_at = self.now + seconds
        self._hand_back(task)

    def _hand_back(self, task: Task) -> None:
        self._baton.release()
        task.baton.acquire()
        if task.doomed:
            raise Crash(task.name)
        for beside in list(task.beside):
            beside()

    def _main(self, task: Task) -> None:
        task.baton.acquire()
        try:
            if not task.doomed:
                task.body()
        except BaseException as error:  # noqa: BLE001 - a crash, or a bug that the test tells
            task.error = error
        task.over = True
        self._baton.release()

    # ---- seen from the simulation ----

    def step(self) -> bool:
        """Let one task go on to its next effect; False when none is ready now."""
        ready = [task for task in self.tasks if task.wake_at <= self.now]
        if not ready:
            return False
        task = self.random.choice(ready)
        self._maybe_hurt(task)
        if task.wake_at > self.now:
            return True
        self.current = task
        task.baton.release()
        self._baton.acquire()
        self.current = None
        if task.over:
            self.tasks.remove(task)
            if task.error is not None and not isinstance(task.error, Crash):
                raise task.error
        return True

    def _maybe_hurt(self, task: Task) -> None:
        chance = self.random.random()
        if chance < self.faults.crash:
            self.history.append(f"{self.now:9.2f} {task.name}: DIES")
            task.doomed = True
        elif chance < self.faults.crash + self.faults.stall:
            seconds = self.random.choice([2.0, 15.0, 90.0])
            self.history.append(f"{self.now:9.2f} {task.name}: STALLS {seconds} s")
            task.wake_at = self.now + seconds

    def next_wake(self) -> float | None:
        return min((task.wake_at for task in self.tasks), default=None)

    def kill_all(self) -> None:
        for task in list(self.tasks):
            task.doomed, task.wake_at = True, self.now
        while self.step():
            pass

    # ---- faults of the table ----

    def table_fault(self, when: str, call: Call) -> None:
        self.effect(f"{when} {call.method}")
        chance = self.random.random()
        if when == "before" and call.writes and chance < self.faults.store_busy:
            self.history.append("           store busy")
            raise StoreBusy("simulated")
        if when == "after" and call.writes and chance < self.faults.lost_answer:
            self.history.append("           answer lost")
            raise Unavailable("simulated")


class SimulatedClock:
    """A process's clock: the simulation's time, off by the skew of the task that asks."""

    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler = scheduler

    def now(self) -> datetime:
        task = self._scheduler.current
        skew = task.skew if task else 0.0
        return START + timedelta(seconds=self._scheduler.now + skew)

    def monotonic(self) -> float:
        return self._scheduler.now

    def sleep(self, seconds: float) -> None:
        self._scheduler.sleep(seconds)
