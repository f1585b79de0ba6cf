from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest

from fargate_worker.reading import Reader
from fargate_worker.threads import Spawn
from fargate_worker.worker import Options, Worker
from tests.support.kit import MemoryKit
from tests.support.scheduler import Process, ScheduledClock, ScheduledJobs, ScheduledLease, Scheduler
from turnkeeper.core.continuation import continuation_of
from turnkeeper.core.errors import SessionNotFound
from turnkeeper.core.session import Head
from turnkeeper.runtime.jobs import continue_body, session_id_of_job
from turnkeeper.runtime.leases import Lease

LEASE_SECONDS = 60.0


class ScheduledKit(MemoryKit):
    """A kit whose runners are tasks of a scheduler: its time passes only while somebody waits for something."""

    def __init__(self, scheduler: Scheduler) -> None:
        super().__init__(clock=ScheduledClock(scheduler), lease_seconds=LEASE_SECONDS, runner="none")
        self.parallel = ScheduledJobs(scheduler)  # type: ignore[assignment]
        self.queue.poll_seconds = 0.5
        self._scheduler = scheduler

    def keep_lease(self, head: Head, held_since: float, on_beat: Callable[[], None]) -> Lease:
        return ScheduledLease(self._scheduler, self.sessions, self.clock, head, held_since, on_beat)


class Bench:
    """A kit in memory with workers on it, all of whose loops are tasks of one scheduler."""

    def __init__(self) -> None:
        self.scheduler = Scheduler()
        self.kit = ScheduledKit(self.scheduler)
        self.workers: list[Worker] = []

    def worker(self, *, start: bool = True, **options: Any) -> Worker:
        process = Process(f"worker {len(self.workers)}")

        def spawn(name: str, body: Callable[[], None]) -> None:
            self.scheduler.spawn(name, body, process)

        worker = worker_of(self.kit, replace(Options(), **options), spawn)
        self.workers.append(worker)
        if start:
            worker.start()
        return worker

    def job(self, job_id: str, text: Any = "[[say hello]]", agent: str = "plain", copies: int = 1, **more: Any) -> str:
        """Send a job; its session's id."""
        return send_job(self.kit, job_id, text, agent, copies, **more)

    def go_on(self, head: Head) -> None:
        """Send a continuation of a session."""
        self.kit.queue.send(continue_body(self.kit.tokens.sign(continuation_of(head))), group=head.tenant_id)

    def wait(self, holds: Callable[[], bool], seconds: float = 600.0) -> None:
        """Let the workers work until it holds."""
        assert self.scheduler.run_until(holds, seconds), [worker.status() for worker in self.workers]

    def empty(self) -> None:
        self.wait(lambda: not self.kit.queue.bodies())

    @property
    def now(self) -> float:
        return self.scheduler.now

    def at(self, seconds: float, act: Callable[[], object]) -> None:
        """Do something so many seconds from now, while the workers work."""

        def wait_and_act() -> None:
            self.scheduler.sleep(seconds)
            act()

        self.scheduler.spawn("test", wait_and_act)

    def status(self, session_id: str) -> str | None:
        """``None`` while the session is not there yet."""
        try:
            return self.kit.head(session_id).status
        except SessionNotFound:
            return None

    def error_codes(self) -> list[str | None]:
        return [letter.error_code for letter in self.kit.queue.dead_letters]


def worker_of(kit: MemoryKit, options: Options, spawn: Spawn) -> Worker:
    return Worker(
        engine=kit.engine,
        reader=Reader(kit.intake, kit.tokens),
        sessions=kit.sessions,
        queue=kit.queue,
        tokens=kit.tokens,
        clock=kit.clock,
        workers=kit.workers,
        options=replace(options, lease_seconds=kit.settings.lease_seconds),
        spawn=spawn,
    )


def send_job(
    kit: MemoryKit, job_id: str, text: Any, agent: str = "plain", copies: int = 1, tenant_id: str = "acme", **more: Any
) -> str:
    body = {
        "schema": "turnkeeper.job/v1",
        "job_id": job_id,
        "tenant_id": tenant_id,
        "user_id": "ann",
        "agent": agent,
        "input": text,
    }
    for _ in range(copies):
        kit.queue.send(json.dumps(body | more), group=tenant_id)
    return session_id_of_job(tenant_id, job_id)


@pytest.fixture
def bench() -> Iterator[Bench]:
    bench = Bench()
    yield bench
    bench.scheduler.kill_all()
