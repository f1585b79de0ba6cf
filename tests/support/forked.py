"""Our programs in processes of their own that are forked from one which has imported them.

Importing is most of what a short command costs, and two thirds of a worker's start; tests from outside start hundreds.
What a program does after that is its own: arguments, environment, exit code and output. That they start from nothing is
tested where tests or a kit start them (`turnkeeper serve`, `dev`, `demo`, an installed kit; the workers of every kit).
"""

from __future__ import annotations

import multiprocessing
import os
import runpy
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from functools import cache
from multiprocessing.context import ForkServerContext
from multiprocessing.process import BaseProcess
from pathlib import Path

import typer.main

from tests.support.command_line import tree

PROGRAM = Path(sys.executable).parent / "turnkeeper"
#: `pytest`: a child takes it for its main program.
_ALWAYS = (__name__, "pytest", "boto3")
_COMMANDS = ("tests.support.built_commands", "turnkeeper_local.cli.operator", "rich.table")
_WORKERS = ("anthropic", "fargate_worker.process", "fargate_worker.metrics", "turnkeeper.wiring.aws", "httpcore2")


@cache
def _server(*imported: str) -> ForkServerContext:
    """There is one a process. Whoever asks first says what it imports; others go on from there."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([*_ALWAYS, *imported])
    return context


def turnkeeper(
    *arguments: str, environment: Mapping[str, str], timeout_seconds: float
) -> subprocess.CompletedProcess[str]:
    """`turnkeeper` with these arguments, in the working directory, with nothing around it but this environment.

    Raises:
        subprocess.TimeoutExpired: it was killed after that time.
    """
    called = [str(PROGRAM), *arguments]
    with tempfile.TemporaryDirectory(prefix="turnkeeper-forked-") as folder:
        stdout, stderr = Path(folder, "stdout"), Path(folder, "stderr")
        given = (_command, called, dict(environment), Path.cwd(), stdout, stderr)
        process = Forked(_server(*_COMMANDS).Process(target=_become, args=given))
        try:
            code = process.wait(timeout_seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise
        return subprocess.CompletedProcess(called, code, stdout.read_text(), stderr.read_text())


def worker(environment: Mapping[str, str], *, folder: Path, log: Path) -> Forked:
    """`python -m fargate_worker` in this folder, as one process."""
    log.touch()
    given = (_worker, ["fargate_worker"], dict(environment), folder, log, log)
    return Forked(_server(*_WORKERS).Process(target=_become, args=given))


class Forked:
    """A process that runs, with the methods of :class:`subprocess.Popen`."""

    def __init__(self, process: BaseProcess) -> None:
        self._process = process
        process.start()
        assert process.pid is not None
        self.pid = process.pid

    def poll(self) -> int | None:
        return self._process.exitcode

    def wait(self, timeout: float | None = None) -> int:
        self._process.join(timeout)
        if (code := self.poll()) is None:
            raise subprocess.TimeoutExpired(self._process.name, timeout or 0.0)
        return code

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


# ---- in the child ----


def _become(
    program: Callable[[], None],
    called: list[str],
    environment: dict[str, str],
    folder: Path,
    stdout: Path,
    stderr: Path,
) -> None:
    for path, number in ((os.devnull, 0), (stdout, 1), (stderr, 2)):
        opened = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND)
        os.dup2(opened, number)
        os.close(opened)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    sys.argv[:] = called
    program()


def _command() -> None:
    from turnkeeper_local.cli.main import main

    typer.main.get_command = tree
    main()


def _worker() -> None:
    runpy.run_module("fargate_worker", run_name="__main__", alter_sys=True)
