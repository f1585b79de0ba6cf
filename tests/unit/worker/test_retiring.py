"""A task whose place another deployment has taken."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from fargate_worker import process
from fargate_worker.retiring import Retiring
from fargate_worker.worker import RETIRE_SECONDS
from tests.support.kit import WHO
from tests.support.scripted import check_session
from tests.unit.worker.conftest import Bench
from turnkeeper.adapters.ecs import EcsTask
from turnkeeper.runtime.intake import NewSession
from turnkeeper.settings import Settings
from turnkeeper.testing.clock import ManualClock

STEPS = "".join(f'[[sleep 100]][[tool add {{"a": {n}, "b": 2}}]]' for n in range(9)) + "[[say done]]"


def test_it_is_seen_twice_and_failed_looks_count_for_nothing() -> None:
    script: list[bool | Exception] = [False, True, False, True, TimeoutError(), True, False, KeyError("x")]
    due: list[bool] = []

    def is_replaced() -> bool:
        answer = script.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    retiring = Retiring(is_replaced, ManualClock())
    while script:
        retiring.look()
        due.append(retiring.due)
    assert due == [False, False, False, False, False, True, True, True], "and it does not become false again"


def test_a_retired_worker_takes_nothing_more_and_hands_on_what_it_has(bench: Bench) -> None:
    """At the next safe point, without a call that is cut off; another worker goes on from there."""
    ids = [bench.job(f"job {number}", STEPS, agent="helper") for number in range(3)]
    worker = bench.worker()
    bench.wait(lambda: worker.running() == 3)
    bench.scheduler.sleep(130)
    assert not worker.is_retired()
    worker.retire()
    late = bench.job("late")
    bench.scheduler.sleep(60)
    assert (worker.running(), worker.is_retired()) == (3, False), "a call is waited for"
    bench.wait(worker.is_retired, 60)
    assert bench.status(late) is None
    worker.stop()
    assert worker.drain()
    bench.worker()
    bench.wait(lambda: not bench.kit.queue.bodies(), 2_000)
    for id in ids:
        check_session(bench.kit, bench.kit.head(id))
        assert bench.kit.head(id).steps == 10, "no call was made twice"
    assert bench.kit.queue.dead_letters == []


def test_what_hangs_does_not_keep_a_retired_worker(bench: Bench) -> None:
    bench.job("long", "[[sleep 500]][[tool read_note {}]]" * 3, agent="helper")
    worker = bench.worker()
    bench.wait(lambda: worker.running() == 1)
    worker.stopping.begin(200)
    bench.wait(worker.is_retired, 200)
    assert RETIRE_SECONDS > 600, "longer than a model call may take"


def test_a_signal_cuts_a_retirement_short(bench: Bench) -> None:
    bench.job("long", "[[sleep 400]][[say done]]")
    worker = bench.worker(stop_seconds=110.0)
    bench.wait(lambda: worker.running() == 1)
    worker.retire()
    assert worker.stopping.seconds_to_go() > 600
    worker.stop()
    assert worker.stopping.seconds_to_go() <= 110
    worker.retire()
    assert worker.stopping.seconds_to_go() <= 110, "time that was taken is not given back"


def test_followed_messages_go_back_at_once(bench: Bench) -> None:
    session = bench.kit.intake.create(WHO, NewSession(agent="slow", input=STEPS, metadata={}))
    bench.kit.dispatch.send(session)
    bench.go_on(session)
    worker = bench.worker()
    bench.wait(lambda: len(worker.followers) == 1)
    worker.retire()
    assert len(worker.followers) == 0


# ---- the process ----


def test_the_process_ends_when_it_is_told_to_or_has_retired(bench: Bench) -> None:
    bench.job("long", "[[sleep 90]][[say done]]")
    worker = bench.worker()
    bench.wait(lambda: worker.running() == 1)
    signals, retiring = SimpleNamespace(stop=False), SimpleNamespace(due=False)
    ended: list[float] = []

    def main() -> None:
        process.wait_for_the_end(worker, signals, retiring, bench.kit.clock)  # type: ignore[arg-type]
        ended.append(bench.now)

    bench.scheduler.spawn("main", main)
    bench.scheduler.sleep(30)
    assert not worker.draining
    retiring.due = True
    bench.scheduler.sleep(30)
    assert worker.draining
    assert not ended, "its session still runs"
    bench.wait(lambda: bool(ended), 60)
    signals.stop = True
    bench.scheduler.spawn("main", main)
    bench.wait(lambda: len(ended) == 2, 1)


@pytest.mark.parametrize(
    ("uri", "service", "looks"),
    [
        ("http://169.254.170.2/v4/abc", "Turnkeeper/worker", True),
        ("http://169.254.170.2/v4/abc", None, False),
        (None, "Turnkeeper/worker", False),
        ("http://127.0.0.1:9/v4/abc", "Turnkeeper/worker", False),
    ],
)
def test_a_process_looks_where_it_is_a_task_of_a_service(
    uri: str | None, service: str | None, looks: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Elsewhere, and where it cannot tell which task it is, it works until it is stopped."""

    def arn(metadata_uri: str) -> str:
        if "127.0.0.1" in metadata_uri:
            raise ConnectionRefusedError
        return "arn:task/1"

    monkeypatch.setattr(process, "own_task_arn", arn)
    monkeypatch.setattr(Retiring, "start", lambda _: None)
    monkeypatch.delenv("ECS_CONTAINER_METADATA_URI_V4", raising=False)
    if uri:
        monkeypatch.setenv("ECS_CONTAINER_METADATA_URI_V4", uri)
    kit: Any = SimpleNamespace(
        settings=Settings(table="t", worker_service=service),
        clock=ManualClock(),
        platform=SimpleNamespace(aws=SimpleNamespace(ecs=object())),
    )
    retiring = process.retiring_of(kit)
    assert (retiring is not None) == looks
    assert retiring is None or retiring._is_replaced.__func__ is EcsTask.is_replaced  # type: ignore[attr-defined]
