"""One worker to those who ask, whatever the number of its processes: health, what runs, and what was counted."""

from __future__ import annotations

import json
import logging
import os
import time
import urllib.error
import urllib.request
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from http.client import HTTPException
from typing import Any

from prometheus_client import generate_latest
from prometheus_client.core import Metric
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

from fargate_worker.health import HealthServer
from fargate_worker.protection import TaskProtection
from fargate_worker.signals import Signals
from fargate_worker.supervising import LOOK_SECONDS, Child, Supervisor
from turnkeeper.adapters.system import SystemClock
from turnkeeper.ports import Clock
from turnkeeper.settings import PREFIX, Settings

logger = logging.getLogger(__name__)

_ANSWER_SECONDS = 2.0
#: What each process tells of itself at least.
_STATUS = {"status", "concurrency", "running", "following", "done", "quiet_seconds"}
#: What there is one of, not one a process.
_OURS = ("ECS_AGENT_URI",)


def supervise(signals: Signals, settings: Settings) -> int:
    """Keep the worker's processes running until it is told to stop, or was replaced."""
    clock, count = SystemClock(), settings.worker_processes or 1
    told: dict[str, object] = {"worker_processes": count, "worker_concurrency": settings.worker_concurrency}
    told |= {"health_port": 0, "health_host": "127.0.0.1"}
    environment = {name: value for name, value in os.environ.items() if name not in _OURS}
    environment |= {f"{PREFIX}{name.upper()}": str(value) for name, value in told.items()}
    supervisor = Supervisor(count, environment, clock, stop_seconds=settings.stop_seconds)
    together = Together(supervisor)
    answers = False
    while not supervisor.over:
        if signals.stop:
            supervisor.stop()
        supervisor.look()
        if supervisor.was_ready and not answers:
            # Not before: whoever asks would think well of a worker that never comes up.
            answers = True
            _answer(together, settings, clock)
        clock.sleep(LOOK_SECONDS)
    logger.info("all processes have ended")
    return supervisor.exit_code


def _answer(together: Together, settings: Settings, clock: Clock) -> None:
    health = HealthServer(together, together.reach, together, host=settings.health_host, port=settings.health_port)
    health.start()
    if agent_uri := os.environ.get("ECS_AGENT_URI"):
        TaskProtection(agent_uri, together.busy, clock).start()
    logger.info("%d processes, health on port %d", settings.worker_processes, health.port)


@dataclass
class Together:
    """Asks the processes, each on the port that it said. A :class:`fargate_worker.health.Watched`, and a page of
    metrics."""

    supervisor: Supervisor
    _answered_at: dict[int, float] = field(default_factory=dict)

    @property
    def draining(self) -> bool:
        return self.supervisor.draining

    def quiet_seconds(self) -> float:
        """Of the process that was silent longest. One that is dead is not: it is started again."""
        if self.draining:
            return 0.0
        seen = {child.number: self._status(child) for child in self._running()}
        now = time.monotonic()
        quiet = [0.0]
        for child in self._running():
            status = seen.get(child.number)
            since = max(self._answered_at.get(child.number, 0.0), child.began)
            quiet.append(now - since if status is None else status["quiet_seconds"])
        return max(quiet)

    def reach(self) -> None:
        """Raises where none of them takes jobs."""
        if not any(self._ask(child, "readyz") is not None for child in self._running()):
            raise ConnectionError("no process takes jobs")

    def busy(self) -> bool:
        """Whether a session runs; also where a process does not say so."""
        if self.supervisor.over:
            return False
        seen = [self._status(child) for child in self._running() if child.port is not None]
        return any(status is None or status["running"] for status in seen)

    def status(self) -> Mapping[str, Any]:
        seen = {child: self._status(child) for child in self.supervisor.children}
        known = [status for status in seen.values() if status is not None]
        return {
            "status": "draining" if self.draining else "running",
            "concurrency": sum(status["concurrency"] for status in known),
            "running": [session for status in known for session in status["running"]],
            "following": sum(status["following"] for status in known),
            "done": sum(status["done"] for status in known),
            "processes": [
                {
                    "process": child.number,
                    "pid": process.pid if process else None,
                    "status": "away" if status is None else status["status"],
                    "running": 0 if status is None else len(status["running"]),
                }
                for child, status in seen.items()
                for process in [child.process]  # The supervisor may forget it meanwhile.
            ],
        }

    def text(self) -> bytes:
        pages = {child.number: self._ask(child, "metrics") for child in self._running()}
        return merged({str(number): page.decode() for number, page in pages.items() if page is not None})

    def _running(self) -> Collection[Child]:
        return [child for child in self.supervisor.children if child.process is not None]

    def _status(self, child: Child) -> dict[str, Any] | None:
        """``None`` where it does not answer."""
        try:
            status = json.loads(self._ask(child, "status") or b"")
        except ValueError:
            return None
        return status if isinstance(status, dict) and status.keys() >= _STATUS else None

    def _ask(self, child: Child, path: str) -> bytes | None:
        if (port := child.port) is None:
            return None
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with opener.open(f"http://127.0.0.1:{port}/{path}", timeout=_ANSWER_SECONDS) as answer:
                body: bytes = answer.read()
        except (OSError, HTTPException):  # Also one that is killed while it answers.
            return None
        self._answered_at[child.number] = time.monotonic()
        return body


def merged(pages: Mapping[str, str]) -> bytes:
    """The samples of all processes on one page, each with a label that says whose it is."""
    families: dict[str, Metric] = {}
    for process, page in pages.items():
        for found in text_string_to_metric_families(page):
            family = families.setdefault(found.name, Metric(found.name, found.documentation, found.type))
            for sample in found.samples:
                family.add_sample(sample.name, {**sample.labels, "process": process}, sample.value)
    return generate_latest(_Families(families))


class _Families(Collector):
    def __init__(self, families: Mapping[str, Metric]) -> None:
        self._families = families

    def collect(self) -> Iterator[Metric]:
        return iter(self._families.values())
