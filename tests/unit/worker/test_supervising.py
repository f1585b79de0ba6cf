"""A worker of several processes, with small programs in their place."""

from __future__ import annotations

import os
import platform
import socket
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from fargate_worker import supervising
from fargate_worker.link import Link
from fargate_worker.machine import size_of_this, sized
from fargate_worker.process import name_of_this
from fargate_worker.supervising import FIRST_PAUSE_SECONDS, MOST_FAILURES, SOON_SECONDS, Supervisor
from fargate_worker.together import Together, merged
from turnkeeper.core.worker_size import worker_size
from turnkeeper.settings import Settings
from turnkeeper.testing.clock import ManualClock

#: Says that it is ready, then does what its number's file says: ends with that code, or waits to be told.
PROGRAM = """
import os, signal, sys, time
from fargate_worker.link import Link
link = Link.of()
assert Link.of() is None
folder = os.environ["FOLDER"]
signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
if os.path.exists(f"{folder}/stubborn"):
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
if not os.path.exists(f"{folder}/broken"):
    link.say(40_000 + link.number)
open(f"{folder}/began", "a").write(f"{link.number}\\n")
link.watch(lambda: os._exit(7))
while not os.path.exists(f"{folder}/{link.number}"):
    time.sleep(0.005)
code = int(open(f"{folder}/{link.number}").read())
os.unlink(f"{folder}/{link.number}") if code else None
os._exit(code)
"""


class Run:
    def __init__(self, folder: Path, count: int = 2) -> None:
        self.folder, self.clock = folder, ManualClock()
        path = os.pathsep.join(part for part in sys.path if part)
        environment = {"FOLDER": str(folder), "PYTHONPATH": path}
        command = [sys.executable, "-c", PROGRAM]
        self.supervisor = Supervisor(count, environment, self.clock, stop_seconds=5, command=command)

    def until(self, holds: Callable[[], bool]) -> None:
        ends_at = time.monotonic() + 30
        while not holds():
            assert time.monotonic() < ends_at
            self.supervisor.look()
            time.sleep(0.005)

    def ready(self) -> bool:
        return all(child.port == 40_000 + child.number for child in self.supervisor.children)

    def end(self, number: int, code: int) -> None:
        """Have a process end, and wait until that was seen."""
        child = self.supervisor.children[number]
        self.until(lambda: child.port is not None)
        written = self.folder / "written"
        written.write_text(str(code))
        written.rename(self.folder / str(number))  # whole, once it is seen
        self.until(lambda: child.process is None)

    def began(self) -> list[int]:
        return sorted(int(line) for line in (self.folder / "began").read_text().split())


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run(tmp_path)


def test_one_that_dies_is_started_again_after_a_while(run: Run) -> None:
    run.until(run.ready)
    for failure in range(MOST_FAILURES - 1):
        run.end(1, 3)
        run.clock.advance(FIRST_PAUSE_SECONDS * 2**failure - 0.1)
        run.supervisor.look()
        assert run.supervisor.children[1].process is None
        run.clock.advance(0.1)
        run.until(run.ready)
    assert run.began() == [0, 1, 1, 1, 1, 1]
    run.clock.advance(SOON_SECONDS)
    run.end(1, 3)
    assert run.supervisor.children[1].failures == 1, "it had lived for a while"
    run.supervisor.stop()
    run.until(lambda: run.supervisor.over)
    assert run.supervisor.exit_code == 0


def test_one_that_dies_over_and_over_ends_the_worker(run: Run) -> None:
    run.until(run.ready)
    for _ in range(MOST_FAILURES):
        assert not run.supervisor.draining
        run.end(0, 3)
        run.clock.advance(30)
    run.until(lambda: run.supervisor.over)
    assert run.supervisor.exit_code == 3


def test_where_none_was_ever_ready_the_first_failure_ends_the_worker(run: Run) -> None:
    (run.folder / "broken").touch()
    (run.folder / "0").write_text("4")
    run.until(lambda: run.supervisor.over)
    assert run.supervisor.exit_code == 4
    assert run.began().count(0) == 1


def test_a_program_that_is_not_there_ends_the_worker(tmp_path: Path) -> None:
    supervisor = Supervisor(2, {}, ManualClock(), stop_seconds=5, command=[str(tmp_path / "nothing")])
    supervisor.look()
    assert supervisor.over and supervisor.exit_code == 1


def test_one_that_has_retired_is_not_started_again(run: Run) -> None:
    run.until(run.ready)
    run.end(0, 0)
    run.clock.advance(100)
    run.supervisor.look()
    assert not run.supervisor.over
    run.end(1, 0)
    assert run.supervisor.over and run.supervisor.exit_code == 0


def test_one_that_does_not_end_in_time_is_killed(run: Run) -> None:
    (run.folder / "stubborn").touch()
    run.until(run.ready)
    run.supervisor.stop()
    run.supervisor.look()
    assert not run.supervisor.over
    run.clock.advance(5 + supervising.GRACE_SECONDS + 0.1)
    run.until(lambda: run.supervisor.over)
    assert run.supervisor.exit_code == 1


def test_a_process_sees_that_the_one_that_started_it_is_gone(run: Run) -> None:
    run.until(run.ready)
    child = run.supervisor.children[0]
    assert child.tie is not None and child.process is not None
    os.close(child.tie)
    assert child.process.wait(10) == 7
    child.tie = None
    run.supervisor.stop()
    run.until(lambda: run.supervisor.over)


def test_a_process_by_itself_has_no_link() -> None:
    assert Link.of({}) is None
    assert Link.of({"TURNKEEPER_WORKER_LINK": "2:5:6"}) == Link(2, 5, 6)


def test_what_does_not_answer_is_quiet_and_may_be_busy(run: Run) -> None:
    run.until(run.ready)
    together = Together(run.supervisor)
    assert together.busy()
    with pytest.raises(ConnectionError):
        together.reach()
    assert together.quiet_seconds() > 0
    assert [process["status"] for process in together.status()["processes"]] == ["away", "away"]
    assert together.text().strip() == b""
    run.supervisor.stop()
    assert together.quiet_seconds() == 0
    run.until(lambda: run.supervisor.over)
    assert not together.busy()


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"what?\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n{",
        b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n{'a",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n\xff\xfe",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}",
    ],
)
def test_whatever_stands_in_the_place_of_an_answer_is_none(run: Run, answer: bytes) -> None:
    """A process that is killed while it answers, or whose port is another one's by now: whoever protects the task must
    not end with it."""
    run.until(run.ready)
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            with suppress(OSError):
                while True:
                    connection = server.accept()[0]
                    connection.recv(1_000)
                    connection.sendall(answer)
                    connection.close()

        threading.Thread(target=serve, daemon=True).start()
        for child in run.supervisor.children:
            child.port = server.getsockname()[1]
        together = Together(run.supervisor)
        assert together.busy()
        assert together.quiet_seconds() > 0
        assert [process["status"] for process in together.status()["processes"]] == ["away", "away"]
        server.shutdown(socket.SHUT_RDWR)
    run.supervisor.stop()
    run.until(lambda: run.supervisor.over)


def test_pods_of_a_long_name_have_names_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ECS_CONTAINER_METADATA_URI_V4", raising=False)
    deployment, names = f"{'of-the-north-' * 3}turnkeeper-worker-7d9f8b6c5d", set()
    for pod in (f"{deployment}-abcde"[-63:], f"{deployment}-fghij"[-63:]):
        monkeypatch.setattr(platform, "node", lambda pod=pod: pod)
        names.add(name_of_this())
    assert len(names) == 2


def test_metrics_of_all_stand_on_one_page() -> None:
    one = '# HELP turns_total Turns.\n# TYPE turns_total counter\nturns_total{agent="a"} 2.0\n'
    one += "# HELP up U.\n# TYPE up gauge\nup 1.0\n"
    page = merged({"0": one, "1": one}).decode()
    assert page.count("# TYPE turns_total counter") == 1
    assert {line for line in page.splitlines() if line[0] != "#"} == {
        *('turns_total{agent="a",process="0"} 2.0', 'turns_total{agent="a",process="1"} 2.0'),
        *('up{process="0"} 1.0', 'up{process="1"} 1.0'),
    }


def test_a_container_is_as_large_as_its_limits(tmp_path: Path) -> None:
    (tmp_path / "cpu.max").write_text("max 100000\n")
    assert size_of_this(cgroup=tmp_path) == size_of_this(cgroup=tmp_path / "nothing")
    (tmp_path / "cpu.max").write_text("50000 100000\n")
    (tmp_path / "memory.max").write_text(f"{512 * 2**20}\n")
    assert size_of_this(cgroup=tmp_path) == worker_size(0.5, 512)
    assert size_of_this(200, tmp_path) == worker_size(0.5, 512, 200)


@pytest.mark.parametrize(
    ("told", "installed", "processes", "slots"),
    [
        ({"worker_processes": 3, "worker_concurrency": 7}, False, 3, 7),
        ({"worker_processes": 3, "worker_concurrency": 2}, False, 2, 2),
        ({"worker_processes": 3, "worker_concurrency": 7}, True, 1, 7),
    ],
)
def test_a_setting_counts_before_the_machine(
    told: dict[str, int], installed: bool, processes: int, slots: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: object() if installed else None)
    found = sized(Settings.model_validate(told))
    assert (found.worker_processes, found.worker_concurrency) == (processes, slots)


@pytest.mark.parametrize("memory_mb", [128, 512, 1024, 2048, 4096, 8192, 65_536])
@pytest.mark.parametrize("cores", [0.25, 0.5, 1, 1.5, 2, 4, 16])
def test_a_worker_is_as_large_as_its_machine(cores: float, memory_mb: int) -> None:
    size = worker_size(cores, memory_mb)
    assert 1 <= size.processes <= max(1, cores) and size.processes <= size.sessions
    larger = [worker_size(cores + 1, memory_mb), worker_size(cores, memory_mb * 2)]
    assert all(one.processes >= size.processes for one in larger)
    assert worker_size(cores, memory_mb * 2).sessions >= size.sessions


@pytest.mark.parametrize("memory_mb", [128, 1024, 4096, 65_536])
@pytest.mark.parametrize("cores", [0.25, 1, 2, 16])
@pytest.mark.parametrize("sessions", [1, 2, 64, 65, 256, 1000])
def test_a_worker_has_a_process_for_each_64_sessions_as_far_as_its_memory_goes(
    cores: float, memory_mb: int, sessions: int
) -> None:
    size, own = worker_size(cores, memory_mb, sessions), worker_size(cores, memory_mb)
    assert size.sessions == sessions
    assert min(own.processes, sessions) <= size.processes <= sessions
    assert size.processes * 64 >= sessions or (size.processes + 1) * 768 > memory_mb
    assert size.processes <= max(own.processes, (sessions + 63) // 64)
