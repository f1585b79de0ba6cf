"""How many sessions a worker holds: steps that are lost, and what a step adds to a model call of two seconds.

    python -m benchmarks.capacity [--sessions 16,64,256] [--processes 1,2,4] [--seconds 20]

The worker is the real one, of so many processes, against a table, a queue and a model in two others
(`benchmarks.capacity_world`). Each session calls the model and one tool, again and again. *Lost* is what is missing
from `sessions / 2 s` steps a second; *added* is the time from the end of a model's answer to the session's next call;
*late* is how much longer the model itself took than two seconds, since this machine had no time for it: it is part of
what is lost, and no worker's.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from itertools import pairwise
from pathlib import Path
from statistics import median, quantiles
from typing import Any

from benchmarks._results import ROOT, Results
from benchmarks.capacity_world import CALL_SECONDS
from benchmarks.step import ENVIRONMENT, MODEL, PLAN, text_of, world
from turnkeeper.bootstrap import Kit
from turnkeeper.settings import PREFIX, Settings

AGENT = """
from turnkeeper import Agent, Limits, tool

TEXT = {text!r}

@tool(effect="read")
def look(page: int) -> str:
    "Read a page."
    return f"{{page}} {{TEXT}}"

limits = Limits(max_iterations=10_000, max_seconds=86_400)
agent = Agent(name="reader", model={model!r}, system="Read." * 100, tools=[look], limits=limits,
              placement="background")
"""
_HERTZ = os.sysconf("SC_CLK_TCK")


def measure(sessions: int, processes: int, seconds: float) -> dict[str, float]:
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        table, model = stack.enter_context(world(WORLD)), stack.enter_context(world(WORLD))
        environment = _project(folder, table, model, sessions, processes)
        _send(environment, sessions)
        worker = stack.enter_context(_worker(environment, folder / "worker.log"))
        _all_begun(model, sessions)
        pids = [worker, *map(int, Path(f"/proc/{worker}/task/{worker}/children").read_text().split())]
        cpu, began = sum(map(_cpu_seconds, pids)), time.monotonic()
        threads = sum(len(list(Path(f"/proc/{pid}/task").iterdir())) for pid in pids)
        time.sleep(seconds)
        ended, used = time.monotonic(), sum(map(_cpu_seconds, pids)) - cpu
        memory = sum(map(_resident_mb, pids))
        calls = _calls(model)
    return {
        **figures(calls, sessions, began, ended),
        "cores": used / (ended - began),
        "cpu_ms_a_step": 1000 * used / max(1, sum(began < end <= ended for _, _, end in calls)),
        "threads": threads,
        "memory_mb": memory,
    }


WORLD = "benchmarks.capacity_world"


def figures(calls: Sequence[tuple[str, float, float]], sessions: int, began: float, ended: float) -> dict[str, float]:
    of_session: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for name, came, end in calls:
        of_session[name].append((came, end))
    within = [(came, end) for _, came, end in calls if began < end <= ended]
    added = [
        1000 * (after[0] - before[1])
        for each in of_session.values()
        for before, after in pairwise(sorted(each))
        if began < after[0] <= ended
    ]
    expected = sessions * (ended - began) / CALL_SECONDS
    return {
        "lost": 1 - len(within) / expected,
        "added_ms": median(added),
        "added_p99_ms": quantiles(added, n=100)[-1],
        "late_ms": median(1000 * (end - came - CALL_SECONDS) for came, end in within),
    }


def _project(folder: Path, table: str, model: str, slots: int, processes: int) -> dict[str, str]:
    """A project in a folder; what its processes are told."""
    (folder / "agents" / "reader").mkdir(parents=True)
    (folder / "agents" / "reader" / "agent.py").write_text(AGENT.format(text=text_of(1.5), model=MODEL))
    plan = "\n".join(f'{name} = "{amount}"' for name, amount in PLAN.items())
    (folder / "policy.toml").write_text(f'default_plan = "wide"\n[plans.wide]\n{plan}\n')
    told = {"root": folder, "table": "t", "bucket": "b", "model_url": model, "signing_secret_id": "s"}
    told |= {"queue_url": table + "/q", "dlq_url": table + "/d", "health_port": 0, "log_level": "WARNING"}
    told |= {"worker_concurrency": slots, "worker_processes": processes, "stop_seconds": 5}
    ours = {f"{PREFIX}{name.upper()}": str(value) for name, value in told.items()}
    path = os.pathsep.join(each for each in sys.path if each)
    return {**os.environ, **ENVIRONMENT, **ours, "AWS_ENDPOINT_URL": table, "PYTHONPATH": path}


def _send(environment: dict[str, str], sessions: int) -> None:
    os.environ |= {name: value for name, value in environment.items() if name.startswith("AWS_")}
    queue = Kit(Settings.from_environment(environment)).queue
    job = {"schema": "turnkeeper.job/v1", "tenant_id": "acme", "agent": "reader"}
    for number in range(sessions):
        # Each user has counters of their own, as they do.
        body = {**job, "job_id": f"job {number}", "user_id": f"user {number}", "input": f"session {number}"}
        queue.send(json.dumps(body), group="acme")


@contextmanager
def _worker(environment: dict[str, str], log: Path) -> Iterator[int]:
    with log.open("wb") as file:
        command = [sys.executable, "-m", "fargate_worker"]
        worker = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=file, stderr=subprocess.STDOUT)
    try:
        yield worker.pid
    finally:
        worker.terminate()
        worker.wait(30)
        if complaints := log.read_text()[-2000:].strip():
            print(complaints, file=sys.stderr)


def _calls(model: str) -> list[tuple[str, float, float]]:
    with urllib.request.urlopen(model + "/calls") as answer:
        return [(name, came, end) for name, came, end in json.load(answer)]


def _all_begun(model: str, sessions: int) -> None:
    """Each session has had two answers."""
    until = time.monotonic() + 60 + sessions / 4
    while True:
        seen: dict[str, int] = defaultdict(int)
        for name, _, _ in _calls(model):
            seen[name] += 1
        if len(seen) == sessions and min(seen.values()) > 1:
            return
        if time.monotonic() > until:
            raise SystemExit(f"only {len(seen)} of {sessions} sessions have begun")
        time.sleep(1)


def _cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _HERTZ


def _resident_mb(pid: int) -> float:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


def main(arguments: Sequence[str] = ()) -> int:
    parser = argparse.ArgumentParser(prog="benchmarks.capacity")
    parser.add_argument("--sessions", default="16,64,256")
    parser.add_argument("--processes", default="1,2,4")
    parser.add_argument("--seconds", type=float, default=20)
    options = parser.parse_args(arguments)
    with Results("capacity") as results:
        for sessions in map(int, options.sessions.split(",")):
            for processes in map(int, options.processes.split(",")):
                found = measure(sessions, processes, options.seconds)
                at: dict[str, Any] = {"sessions": sessions, "processes": processes}
                results.count("threads", "threads", found["threads"], **at)
                results.count("resident memory", "MB", found["memory_mb"], **at)
                results.cpu("a step", found["cpu_ms_a_step"], **at)
                results.cpu("of the worker", found["cores"], "cores", **at)
                results.wall("steps lost", 100 * found["lost"], "%", **at)
                results.wall("added to a step", found["added_ms"], **at)
                results.wall("added to a step, 99th percentile", found["added_p99_ms"], **at)
                results.wall("model late", found["late_ms"], **at)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
