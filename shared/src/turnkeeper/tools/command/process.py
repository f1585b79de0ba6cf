"""Runs one allowed command and reads what it says, within time and size; nothing of it stays behind."""

from __future__ import annotations

import contextlib
import json
import math
import os
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from turnkeeper.tools._common import Deadline

_LAUNCHER = Path(__file__).with_name("launcher.py")
_READ_BYTES = 65_536
_LOOK_SECONDS = 0.05


@dataclass(frozen=True)
class Limits:
    """What one command may use."""

    max_bytes: int
    memory_bytes: int
    file_bytes: int
    open_files: int = 64
    #: Counted by the kernel for the whole user where no user namespace is to be had, so not smaller than a busy worker.
    processes: int = 512

    def as_json(self, seconds: float) -> str:
        return json.dumps(
            {
                "cpu_seconds": math.ceil(seconds) + 1,
                "memory_bytes": self.memory_bytes,
                "file_bytes": self.file_bytes,
                "open_files": self.open_files,
                "processes": self.processes,
            }
        )


@dataclass
class Outcome:
    """What a command left: its exit code (negative for a signal), what it said, and why it was stopped, if it was."""

    exit_code: int
    stdout: bytes
    stderr: bytes
    truncated: bool
    timed_out: bool


def run(program: str, argv: Sequence[str], cwd: Path, limits: Limits, deadline: Deadline) -> Outcome:
    """Run until it ends, says more than it may, or the deadline passes; then end everything that it started."""
    environment = {"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8", "HOME": str(cwd)}
    if "LD_LIBRARY_PATH" in os.environ:
        # Where the interpreter itself needs it to start (AWS Lambda). The launcher does not hand it on.
        environment["LD_LIBRARY_PATH"] = os.environ["LD_LIBRARY_PATH"]
    process = subprocess.Popen(  # noqa: S603  (an argument vector that has been admitted)
        [sys.executable, "-I", "-S", "-B", str(_LAUNCHER), limits.as_json(deadline.left()), program, *argv],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=cwd,
        env=environment,
        start_new_session=True,
        close_fds=True,
    )
    try:
        output, truncated = _read(process, limits.max_bytes, deadline)
        return _ended(process, output, truncated, deadline)
    finally:
        _end(process)


def _read(process: subprocess.Popen[bytes], max_bytes: int, deadline: Deadline) -> tuple[list[bytearray], bool]:
    output = [bytearray(), bytearray()]
    with selectors.DefaultSelector() as selector:
        for number, stream in enumerate((process.stdout, process.stderr)):
            if stream is not None:
                selector.register(stream, selectors.EVENT_READ, number)
        while selector.get_map() and not deadline.passed():
            # Asked before the look: all that it wrote until it ended is there to be seen then.
            ended = _has_ended(process)
            events = selector.select(min(_LOOK_SECONDS, max(0.0, deadline.left())))
            if not events and ended:
                # It left something running that holds the pipes open. That is not waited for.
                break
            for key, _ in events:
                data = os.read(key.fd, _READ_BYTES)
                if not data:
                    selector.unregister(key.fileobj)
                room = max_bytes - len(output[0]) - len(output[1])
                output[key.data] += data[:room]
                if len(data) > room:
                    return output, True
    return output, False


def _has_ended(process: subprocess.Popen[bytes]) -> bool:
    # Not poll(): that would free the process id, and with it the group that is killed afterwards.
    return os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def _ended(process: subprocess.Popen[bytes], output: list[bytearray], truncated: bool, deadline: Deadline) -> Outcome:
    stopped = truncated
    while not stopped and not deadline.passed() and not _has_ended(process):
        # Its output is closed but it works on. waitid has no timeout.
        time.sleep(0.01)
    timed_out = not stopped and not _has_ended(process)
    _kill_group(process)
    return Outcome(process.wait(), bytes(output[0]), bytes(output[1]), truncated, timed_out)


def _kill_group(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.returncode is None:
        _kill_group(process)
        process.wait()
    for stream in (process.stdout, process.stderr):
        if stream is not None:
            stream.close()
