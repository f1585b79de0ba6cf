"""Running things side by side, with an end to the waiting. Abandoned work goes on in a daemon thread that nobody waits
for: a tool that hangs holds neither the session nor the process."""

from __future__ import annotations

import contextvars
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
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


class Threads:
    """Jobs in daemon threads."""

    #: How often ``stop`` is asked.
    POLL_SECONDS = 0.25

    def run_all(
        self,
        jobs: Sequence[Callable[[], T]],
        *,
        timeouts: Sequence[float],
        stop: Callable[[], bool],
        done: Callable[[int, Done[T], int], None],
    ) -> list[Done[T] | None]:
        outcomes: list[Done[T] | None] = [None] * len(jobs)
        changed = threading.Condition()
        finished: list[tuple[int, Done[T]]] = []

        def work(index: int, job: Callable[[], T]) -> None:
            fields.hold_still()
            try:
                outcome: Done[T] = Done(value=job())
            except BaseException as error:  # noqa: BLE001 - told to whoever waits
                outcome = Done(error=error)
            with changed:
                finished.append((index, outcome))
                changed.notify()

        started = time.monotonic()
        for index, job in enumerate(jobs):
            context = contextvars.copy_context()
            threading.Thread(target=context.run, args=(work, index, job), daemon=True).start()
        waiting = set(range(len(jobs)))

        def collect(wait_seconds: float) -> float:
            """Hear of what has ended; how much time had passed when it was looked."""
            with changed:
                if not finished and wait_seconds > 0:
                    changed.wait(wait_seconds)
                elapsed = time.monotonic() - started
                ended, finished[:] = list(finished), []
            for index, outcome in ended:
                if index in waiting:
                    waiting.discard(index)
                    outcomes[index] = outcome
                    done(index, outcome, len(waiting))
            return elapsed

        while waiting and not stop():
            nearest = min(timeouts[index] for index in waiting) - (time.monotonic() - started)
            # What has ended counts, however late it is looked at.
            elapsed = collect(min(nearest, self.POLL_SECONDS))
            waiting -= {index for index in waiting if elapsed >= timeouts[index]}
        collect(0.0)
        return outcomes


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
