"""Jobs side by side: what has ended counts, what hangs is not waited for."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest

from turnkeeper.runtime.threads import Done, Parallel, Sequential, Threads


def run(parallel: Parallel, *jobs: Any, timeouts: list[float] | None = None, stop: Any = lambda: False) -> Any:
    heard: list[tuple[int, int]] = []
    outcomes = parallel.run_all(
        jobs,
        timeouts=timeouts or [10.0] * len(jobs),
        stop=stop,
        done=lambda index, _, still_running: heard.append((index, still_running)),
    )
    return outcomes, heard


def test_jobs_run_side_by_side() -> None:
    together = threading.Barrier(8, timeout=10)
    outcomes, heard = run(Threads(), *[together.wait] * 8)
    assert sorted(outcome.value for outcome in outcomes) == list(range(8))
    assert [still for _, still in heard] == list(range(7, -1, -1))


@pytest.mark.parametrize("parallel", [Threads(), Sequential()])
def test_outcomes_come_in_order_with_their_errors(parallel: Parallel) -> None:
    def fail() -> None:
        raise ValueError("no")

    outcomes, heard = run(parallel, lambda: 1, fail, lambda: None)
    assert [outcome.value for outcome in outcomes] == [1, None, None]
    assert isinstance(outcomes[1].error, ValueError)
    with pytest.raises(ValueError, match="no"):
        outcomes[1].result()
    assert sorted(heard)[0][0] == 0
    assert len(heard) == 3


def test_what_hangs_is_not_waited_for() -> None:
    for_ever = threading.Event()
    started = time.monotonic()
    outcomes, _ = run(Threads(), for_ever.wait, lambda: 1, timeouts=[0.2, 5.0])
    assert outcomes[0] is None
    assert outcomes[1].value == 1
    assert time.monotonic() - started < 5
    for_ever.set()


@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt, GeneratorExit])
def test_a_job_that_wants_to_end_the_process_ends_itself(error: type[BaseException]) -> None:
    def leave() -> None:
        raise error

    [outcome], _ = run(Threads(), leave)
    assert isinstance(outcome.error, error)


def test_a_stop_ends_the_waiting_but_keeps_what_has_ended() -> None:
    for_ever, first = threading.Event(), threading.Event()

    def quick() -> str:
        first.set()
        return "done"

    def stop() -> bool:
        if first.wait(5):
            time.sleep(0.05)  # Long enough for the quick one to be told, and not looked at yet.
        return True

    outcomes, heard = run(Threads(), quick, for_ever.wait, stop=stop)
    assert isinstance(outcomes[0], Done)
    assert outcomes[0].value == "done"
    assert outcomes[1] is None
    assert heard == [(0, 1)]
    for_ever.set()


def test_a_slow_listener_does_not_make_the_others_late() -> None:
    def listen(index: int, _: Any, still_running: int) -> None:
        if still_running:
            time.sleep(0.4)

    outcomes = Threads().run_all(
        [lambda: 1, lambda: time.sleep(0.1)], timeouts=[0.3, 0.3], stop=lambda: False, done=listen
    )
    assert all(outcome is not None for outcome in outcomes)


def test_no_jobs_at_all() -> None:
    assert run(Threads()) == ([], [])
    assert run(Sequential()) == ([], [])


def test_a_job_sees_the_context_of_its_caller() -> None:
    import contextvars

    trace = contextvars.ContextVar("trace", default="none")
    trace.set("mine")
    [outcome], _ = run(Threads(), trace.get)
    assert outcome.value == "mine"


def test_one_after_the_other_stops_between_two() -> None:
    ran: list[int] = []
    outcomes, _ = run(Sequential(), lambda: ran.append(1), lambda: ran.append(2), stop=lambda: bool(ran))
    assert ran == [1]
    assert outcomes[1] is None
