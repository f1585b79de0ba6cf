"""Running things side by side, with an end to the waiting. Abandoned work goes on in a daemon thread that nobody waits
for: a tool that hangs holds neither the session nor the process."""

from __future__ import annotations

import contextvars
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from queue import Empty, SimpleQueue
from typing import Generic, Protocol, TypeVar

from turnkeeper.telemetry import fields

T = TypeVar("T")


@dataclass(slots=True)
class Done(Generic[T]):
    """How one job came out: a value, or the exception that it raised."""

    value: T | None = None
    error: BaseException | None = None

    def result(self) -> T:
        if self.error is not None:
            raise self.error
        return self.value  # type: ignore[return-value]


class Parallel(Protocol):
    """How the engine runs jobs: threads in production, one after the other in simulations."""

    def run_all(
        self,
        jobs: Sequence[Callable[[], T]],
        *,
        timeouts: Sequence[float],
        stop: Callable[[], bool],
        done: Callable[[int, Done[T], int], None],
    ) -> list[Done[T] | None]:
        """Start all jobs at once; their outcomes in order, ``None`` for those that were given up on (their own timeout,
        or ``stop`` said so). ``done`` hears of each as it ends: index, outcome, how many still run."""


def run_one(
    parallel: Parallel, job: Callable[[], T], *, seconds: float, stop: Callable[[], bool] = lambda: False
) -> Done[T] | None:
    """One job, waited for no longer than this: how it came out, ``None`` where it was given up on."""
    [done] = parallel.run_all([job], timeouts=[seconds], stop=stop, done=lambda *_: None)
    return done


class _Hand:
    """A daemon thread that does one job after the other, and ends where none comes for a while."""

    def __init__(self, idle: deque[_Hand]) -> None:
        self._idle = idle
        self._jobs: SimpleQueue[Callable[[], object]] = SimpleQueue()
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._thread.start()

    @property
    def alive(self) -> bool:
        """False also in a process that was forked from the one that it works in."""
        return self._thread.is_alive()

    def do(self, job: Callable[[], object]) -> None:
        self._jobs.put(job)

    def _work(self) -> None:
        while True:
            try:
                job = self._jobs.get(timeout=Threads.IDLE_SECONDS)
            except Empty:
                try:
                    self._idle.remove(self)
                except ValueError:
                    continue  # Somebody has just taken it: a job is on its way.
                return
            job()
            del job
            self._idle.append(self)


class Threads:
    """Jobs in daemon threads. One that has done its job takes the next; one that hangs takes none."""

    #: How often ``stop`` is asked.
    POLL_SECONDS = 0.25
    #: How long a thread waits for its next job.
    IDLE_SECONDS = 30.0

    def __init__(self) -> None:
        self._idle: deque[_Hand] = deque()

    def _hand(self) -> _Hand:
        while True:
            try:
                hand = self._idle.pop()
            except IndexError:
                return _Hand(self._idle)
            if hand.alive:
                return hand

    def start(self, job: Callable[[], object]) -> None:
        """Have a job done that raises nothing, and that nobody waits for. Raises RuntimeError where it cannot be."""
        self._hand().do(job)

    def run_all(
        self,
        jobs: Sequence[Callable[[], T]],
        *,
        timeouts: Sequence[float],
        stop: Callable[[], bool],
        done: Callable[[int, Done[T], int], None],
    ) -> list[Done[T] | None]:
        outcomes: list[Done[T] | None] = [None] * len(jobs)
        ended: SimpleQueue[tuple[int, Done[T]]] = SimpleQueue()

        def work(index: int, job: Callable[[], T]) -> None:
            fields.hold_still()
            try:
                outcome: Done[T] = Done(value=job())
            except BaseException as error:  # noqa: BLE001 - told to whoever waits
                outcome = Done(error=error)
            ended.put((index, outcome))

        started = time.monotonic()
        for index, job in enumerate(jobs):
            context = contextvars.copy_context()
            self._hand().do(partial(context.run, work, index, job))
        waiting = set(range(len(jobs)))

        def collect(wait_seconds: float) -> float:
            """Hear of what has ended; how much time had passed when it was looked."""
            heard = _next(ended, wait_seconds)
            elapsed = time.monotonic() - started
            while heard is not None:
                index, outcome = heard
                if index in waiting:
                    waiting.discard(index)
                    outcomes[index] = outcome
                    done(index, outcome, len(waiting))
                heard = _next(ended, 0.0) if waiting else None
            return elapsed

        while waiting and not stop():
            nearest = min(timeouts[index] for index in waiting) - (time.monotonic() - started)
            # What has ended counts, however late it is looked at.
            elapsed = collect(min(nearest, self.POLL_SECONDS))
            waiting -= {index for index in waiting if elapsed >= timeouts[index]}
        collect(0.0)
        return outcomes


def _next(ended: SimpleQueue[T], wait_seconds: float) -> T | None:
    try:
        return ended.get(timeout=max(0.0, wait_seconds))
    except Empty:
        return None


class Sequential:
    """Jobs one after the other on the caller's thread, for simulations: deterministic, no timeouts."""

    def run_all(
        self,
        jobs: Sequence[Callable[[], T]],
        *,
        timeouts: Sequence[float],  # noqa: ARG002
        stop: Callable[[], bool],
        done: Callable[[int, Done[T], int], None],
    ) -> list[Done[T] | None]:
        outcomes: list[Done[T] | None] = [None] * len(jobs)
        for index, job in enumerate(jobs):
            if stop():
                break
            try:
                outcome: Done[T] = Done(value=job())
            except Exception as error:  # noqa: BLE001 - told to whoever waits; a simulated crash is a BaseException
                outcome = Done(error=error)
            outcomes[index] = outcome
            done(index, outcome, len(jobs) - index - 1)
        return outcomes
