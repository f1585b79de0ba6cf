"""What runs the kit's code besides its users: turn Lambdas, worker processes, and the sweep every minute."""

from __future__ import annotations

from collections import Counter
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING

from fargate_worker.reading import Reader
from fargate_worker.worker import Options, Worker
from tests.support.scheduler import Process, ScheduledClock
from turnkeeper.core.errors import TurnkeeperError, Unavailable
from turnkeeper.runtime.sweep import Report, Sweep
from turnkeeper.runtime.world import Allowance

if TYPE_CHECKING:
    from tests.simulation.world import Simulation

#: A runner that has just died may still be counted on by those who looked before that, and stalled since.
JUST_NOW_SECONDS = 120.0
#: How often a worker keeps its messages and looks at the sessions that it follows.
BESIDE_SECONDS = 5.0
#: A worker process without work goes after this long; where turns are offered to those that wait, now and then later.
IDLE_SECONDS = 10.0
PATIENT_SECONDS = 150.0


class Functions:
    """A :class:`turnkeeper.ports.Turns`, and the turn Lambdas that it starts: each a process of its own, that ends on
    errors of ours without a word."""

    def __init__(self, simulation: Simulation) -> None:
        self._simulation = simulation
        self._asked: list[tuple[str, str]] = []
        self._pending: Counter[str] = Counter()
        self._runs: dict[Process, str] = {}
        self._ended_at: dict[str, float] = {}

    def start(self, tenant_id: str, session_id: str) -> None:
        scheduler = self._simulation.scheduler
        scheduler.effect("before invoke")
        copies = scheduler.random.choices([0, 1, 2], [0.03, 0.9, 0.07])[0]
        self._asked.extend([(tenant_id, session_id)] * copies)
        self._ended_at[session_id] = scheduler.now
        scheduler.effect("after invoke")

    def begin(self) -> None:
        """Begin what was asked for."""
        scheduler = self._simulation.scheduler
        while self._asked:
            tenant_id, session_id = self._asked.pop()
            process = scheduler.process("lambda")
            self._runs[process] = session_id
            scheduler.spawn("lambda", lambda t=tenant_id, s=session_id, p=process: self._run(t, s, p), process)  # type: ignore[misc]

    def _run(self, tenant_id: str, session_id: str, process: Process) -> None:
        random = self._simulation.random
        turn_seconds = random.choice([8.0, 40.0, 800.0])
        hard_seconds = turn_seconds + random.choice([20.0, 60.0])
        allowance = Allowance("lambda", turn_seconds=turn_seconds, hard_seconds=hard_seconds)
        with suppress(TurnkeeperError):
            self._simulation.function_engine.run(tenant_id, session_id, allowance)
        self.process_ends(process)

    def process_ends(self, process: Process) -> None:
        if (session_id := self._runs.pop(process, None)) is not None:
            self._ended_at[session_id] = self._simulation.scheduler.now

    def alive(self, session_id: str) -> bool:
        """A Lambda has been asked for, and runs or died only just now."""
        if session_id in self._runs.values():
            return True
        ended_at = self._ended_at.get(session_id)
        return ended_at is not None and self._simulation.scheduler.now - ended_at < JUST_NOW_SECONDS


class Workers:
    """Worker processes that come when there is something on the queue, and go when there is nothing, or when they are
    told to."""

    def __init__(self, simulation: Simulation, clock: ScheduledClock) -> None:
        self._simulation = simulation
        self._scheduler = simulation.scheduler
        self._clock = clock
        self._processes: set[Process] = set()
        self._most = simulation.random.randint(1, 3)
        self._made = 0
        self._waits_for_offers = simulation.economy

    def begin_at(self) -> float | None:
        """When a message waits for a process that could begin."""
        if len(self._processes) >= self._most:
            return None
        return self._scheduler.now + max(0.0, self._simulation.queue.seconds_until_visible())

    def begin(self) -> bool:
        """Begin a process where a message waits for one; whether there was need."""
        at = self.begin_at()
        if self._waits_for_offers:
            self._waits_for_offers = False
        elif at is None or at > self._scheduler.now:
            return False
        self._made += 1
        process = self._scheduler.process(f"worker{self._made}")
        self._processes.add(process)
        self._scheduler.spawn(process.name, lambda: self._run(process), process)
        return True

    def process_ends(self, process: Process) -> None:
        self._processes.discard(process)

    def _run(self, process: Process) -> None:
        """From start to end, with the steps beside that have threads of their own in production."""
        worker, beside = self._worker(process), self._scheduler.beside
        steps = (worker.holding.keep, worker.followers.look, worker.announcing.look)
        with ExitStack() as stack:
            for step in steps:
                stack.enter_context(beside(BESIDE_SECONDS, step))
            self._scheduler.effect("begins")
            worker.announcing.look()
            self._receive(worker)
            worker.stop()
            worker.drain()
        self._simulation.queue.process_ends(process, dies=False)
        self._scheduler.kill(process)

    def _receive(self, worker: Worker) -> None:
        """Until it is told to stop, or had nothing to do for a while."""
        scheduler = self._scheduler
        stops_at = scheduler.now + self._simulation.random.choice([5.0, 60.0, 1e9, 1e9])
        idle_since = scheduler.now
        idle_seconds = PATIENT_SECONDS if self._simulation.economy else IDLE_SECONDS
        while scheduler.now < stops_at and scheduler.now - idle_since < idle_seconds:
            try:
                if worker.running() < worker.options.concurrency:
                    worker.receive()
                else:
                    scheduler.sleep(BESIDE_SECONDS)
            except Unavailable:
                scheduler.sleep(1.0)
            if self._is_busy(worker):
                idle_since = scheduler.now

    def _worker(self, process: Process) -> Worker:
        simulation = self._simulation
        return Worker(
            engine=simulation.engine,
            reader=Reader(simulation.intake, simulation.tokens),
            sessions=simulation.sessions,
            queue=simulation.queue,
            tokens=simulation.tokens,
            clock=self._clock,
            workers=simulation.told,
            options=Options(
                name=process.name,
                concurrency=simulation.random.randint(1, 3),
                lease_seconds=simulation.sessions.lease_seconds,
                stop_seconds=simulation.random.choice([30.0, 110.0]),
                poll_seconds=10,
            ),
            spawn=lambda name, body: self._scheduler.spawn(f"{process.name}/{name}", body, process),
        )

    def _is_busy(self, worker: Worker) -> bool:
        busy, in_hand = worker.running() + len(worker.followers), len(worker.holding.all())
        if in_hand > busy:
            self._simulation.violated(f"a worker has {in_hand} messages in hand, and {busy} sessions run or followed")
        return busy > 0


class Sweeps:
    """The sweep, each time in a process of its own."""

    def __init__(self, simulation: Simulation, sweep: Sweep) -> None:
        self._simulation = simulation
        self._sweep = sweep
        self.reports: list[Report] = []

    def begin(self) -> None:
        self._simulation.scheduler.spawn("sweep", self._run)

    def _run(self) -> None:
        # Now and then its time is up after a few sessions.
        looks = iter(range(self._simulation.random.choice([2, 1_000, 1_000, 1_000])))
        self.reports.append(self._sweep.run(lambda: float(next(looks, None) is not None)))
