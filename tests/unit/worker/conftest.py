from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from fargate_worker.reading import Reader
from fargate_worker.worker import Options, Worker
from tests.support.kit import MemoryKit
from turnkeeper.core.continuation import continuation_of
from turnkeeper.core.session import Head
from turnkeeper.runtime.jobs import continue_body, session_id_of_job

FAST: dict[str, Any] = {"poll_seconds": 1, "look_seconds": 0.1, "stop_seconds": 8.0, "lease_seconds": 3.0}


class Bench:
    """A kit in memory with workers on it."""

    def __init__(self) -> None:
        self.kit = MemoryKit(lease_seconds=3, runner="none")
        self.workers: list[Worker] = []

    def worker(self, *, start: bool = True, **options: Any) -> Worker:
        kit = self.kit
        worker = Worker(
            engine=kit.engine,
            reader=Reader(kit.intake, kit.tokens, kit.policy),
            sessions=kit.sessions,
            queue=kit.queue,
            tokens=kit.tokens,
            clock=kit.clock,
            options=Options(**{**FAST, **options}),
        )
        self.workers.append(worker)
        if start:
            worker.start()
        return worker

    def job(self, job_id: str, text: Any = "[[say hello]]", agent: str = "plain", copies: int = 1, **more: Any) -> str:
        """Send a job; its session's id."""
        body = {
            "schema": "turnkeeper.job/v1",
            "job_id": job_id,
            "tenant_id": "acme",
            "user_id": "ann",
            "agent": agent,
            "input": text,
        }
        for _ in range(copies):
            self.kit.queue.send(json.dumps(body | more), group="acme")
        return session_id_of_job("acme", job_id)

    def go_on(self, head: Head) -> None:
        """Send a continuation of a session."""
        self.kit.queue.send(continue_body(self.kit.tokens.sign(continuation_of(head))), group=head.tenant_id)

    def wait(self, holds: Callable[[], bool], seconds: float = 20.0) -> None:
        until = time.monotonic() + seconds
        while not holds():
            assert time.monotonic() < until, [worker.status() for worker in self.workers]
            time.sleep(0.02)

    def empty(self) -> None:
        self.wait(lambda: not self.kit.queue.bodies())

    def error_codes(self) -> list[str | None]:
        return [letter.error_code for letter in self.kit.queue.dead_letters]


@pytest.fixture
def bench() -> Iterator[Bench]:
    bench = Bench()
    yield bench
    for worker in bench.workers:
        worker.stop()
    for worker in bench.workers:
        if worker._loop.ident is not None:
            worker.drain()
