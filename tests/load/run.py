"""One run: users, kills, and watchers at once; then rest, and a look at everything."""

from __future__ import annotations

import contextlib
import dataclasses
import signal
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from tests.load import report
from tests.load.evidence import collect, wait_for_rest, watching_caps
from tests.load.invariants import judged
from tests.load.memory import LEAST_SECONDS, WARM_UP_SECONDS, watching_memory
from tests.load.record import Record
from tests.load.target import Target
from tests.load.traffic import Traffic, User
from tests.support.dying import dying

#: Leases end, the sweep comes by each minute, and what was stopped half way goes on.
REST_SECONDS = 240.0
#: In the last part of a run nothing is killed, so that one worker lives long enough for its memory to be judged.
CALM_SHARE = 1 / 3
#: Users are asked to stop, and given the time that a call takes.
_JOIN_SECONDS = 100.0


@dataclass(frozen=True)
class Plan:
    """What is asked for."""

    seconds: float
    users: int
    rate: float
    seed: int
    mix: Mapping[str, float]
    #: 0 for never.
    kill_every_seconds: float
    growth_percent: float


def run(target: Target, plan: Plan, say: Callable[[str], None]) -> dict[str, Any]:
    """The report of what came of it."""
    record, began, today = Record(), time.monotonic(), datetime.now(UTC).date()
    traffic = Traffic(target, record, threading.Event(), threading.Lock())
    traffic.prepare()
    users = [User(traffic, number, plan.seed, plan.mix, plan.users / plan.rate) for number in range(plan.users)]
    threads = [threading.Thread(target=user.run, daemon=True) for user in users]
    with contextlib.ExitStack() as watching:
        curves = watching.enter_context(watching_memory(target)) if target.local else []
        passed = watching.enter_context(watching_caps([target.caller("small", user.user) for user in users]))
        watching.callback(traffic.stop.set)
        for thread in threads:
            thread.start()
        kills = _killing(target, plan, say)
        traffic.stop.set()
        for thread in threads:
            thread.join(_JOIN_SECONDS)
        for user, thread in zip(users, threads, strict=True):
            if thread.is_alive():
                record.failed(f"{user.kind}: {user.user} did not stop within {_JOIN_SECONDS:.0f} s")
    seconds = time.monotonic() - began
    say(f"{len(record.inputs)} inputs in {seconds:.0f} s; until all is at rest ...")
    drained = wait_for_rest(target, record, within_seconds=REST_SECONDS)
    seen = collect(target, record, plan.users, today, say)
    seen.curves, seen.passed, seen.growth_bound_percent = curves, passed, plan.growth_percent
    calm = plan.seconds * (CALM_SHARE if plan.kill_every_seconds else 1.0)
    if target.own and calm > WARM_UP_SECONDS + LEAST_SECONDS + 20:
        seen.measured = ("worker", "observer")
    return report.document(
        seen, judged(seen), settings=dataclasses.asdict(plan), kills=kills, seconds=seconds, drain_seconds=drained
    )


def _killing(target: Target, plan: Plan, say: Callable[[str], None]) -> list[int]:
    """Until time is up; whose worker was killed."""
    end = time.monotonic() + plan.seconds
    calm_at = end - plan.seconds * CALM_SHARE
    kills: list[int] = []
    if plan.kill_every_seconds:
        every = (plan.kill_every_seconds * 0.5, plan.kill_every_seconds * 1.5)
        signals = (signal.SIGKILL, signal.SIGTERM)
        with dying(target.stack.worker_pid, *signals, every_seconds=every, seed=plan.seed) as kills:
            _pass(calm_at, end, say)
        say(f"{len(kills)} kills; from here on nothing dies")
    _pass(end, end, say)
    return kills


def _pass(until: float, end: float, say: Callable[[str], None]) -> None:
    while (left := until - time.monotonic()) > 0:
        time.sleep(min(left, 60))
        say(f"{max(0.0, end - time.monotonic()):.0f} s to go")
