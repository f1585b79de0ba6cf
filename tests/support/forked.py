"""The program `turnkeeper` in a process of its own that is forked from one which has imported it.

Importing it takes most of a short command, and tests from outside give a hundred of them. What it does after that is
the program's own: its arguments, environment, exit code and output. That it starts from nothing is tested where tests
start it themselves (`turnkeeper serve`, `dev`, `demo`, an installed kit).
"""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from functools import cache
from multiprocessing.context import ForkServerContext
from pathlib import Path

PROGRAM = Path(sys.executable).parent / "turnkeeper"
#: What its commands import when they are called, and `pytest`, which is what the child takes for its main program.
_IMPORTED = ("pytest", "boto3", "rich.table", "turnkeeper_local.cli.main", "turnkeeper_local.cli.operator")


@cache
def _server() -> ForkServerContext:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__, *_IMPORTED])
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
        process = _server().Process(target=_run, args=(arguments, dict(environment), Path.cwd(), stdout, stderr))
        process.start()
        process.join(timeout_seconds)
        if process.exitcode is None:
            process.kill()
            process.join()
            raise subprocess.TimeoutExpired(called, timeout_seconds)
        return subprocess.CompletedProcess(called, process.exitcode, stdout.read_text(), stderr.read_text())


def _run(arguments: tuple[str, ...], environment: dict[str, str], folder: Path, stdout: Path, stderr: Path) -> None:
    for path, number in ((os.devnull, 0), (stdout, 1), (stderr, 2)):
        opened = os.open(path, os.O_RDWR | os.O_CREAT)
        os.dup2(opened, number)
        os.close(opened)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    sys.argv[:] = [str(PROGRAM), *arguments]
    from turnkeeper_local.cli.main import main

    main()
