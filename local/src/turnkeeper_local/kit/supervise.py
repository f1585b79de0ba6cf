"""Keeps one process running, the worker or the front door, as ECS does in the cloud.

    python -m turnkeeper_local.kit.supervise SPECIFICATION

The specification is a JSON file: `{"command", "environment", "folder", "log"}`, and of the worker `{"local_json",
"document"}`: that file then names the worker that lives, as `worker_pid`, beside what `document` says. Of the front
door `"listen"`, a host and a port: the supervisor listens there and hands the socket on as `TURNKEEPER_API_FD`, so that
callers wait for a successor instead of being refused. SIGHUP starts
another process, as the specification says by then, and lets the one before bring what it does to its end, as a
deployment of the service does. SIGTERM ends the supervisor and hands its process the same signal; it waits for that to
end, as long as whoever sent the signal lets it.
"""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import FrameType
from typing import Any

from turnkeeper_local.kit.home import write_json

_SOON_SECONDS = 5.0
"""A process that lived shorter than this is not started again at once."""
_LONGEST_PAUSE_SECONDS = 5.0
_BACKLOG = 2_048


class Supervisor:
    """One process at a time, until told to stop."""

    def __init__(self, specification: Path) -> None:
        self._path = specification
        self._specification = self._read()
        self._process: subprocess.Popen[bytes] | None = None
        self._stopping = False
        where = self._specification.get("listen")
        self._listener = socket.create_server(tuple(where), backlog=_BACKLOG) if where else None

    def stop(self, _number: int, _frame: FrameType | None) -> None:
        self._stopping = True
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()

    def replace(self, _number: int, _frame: FrameType | None) -> None:
        """Start a successor; whoever waits for the process then waits for that one."""
        predecessor = self._process
        if self._stopping or predecessor is None:
            return
        self._specification = self._read()
        self._start()
        if predecessor.poll() is None:
            predecessor.terminate()

    def run(self) -> int:
        """Return the last process's exit code, once told to stop."""
        pause_seconds = 0.1
        exit_code = 0
        while not self._stopping:
            began = time.monotonic()
            exit_code = self._run_one()
            if self._stopping:
                break
            lived_seconds = time.monotonic() - began
            pause_seconds = 0.1 if lived_seconds > _SOON_SECONDS else min(pause_seconds * 2, _LONGEST_PAUSE_SECONDS)
            self._note(f"it ended with {exit_code} after {lived_seconds:.1f} s; again in {pause_seconds:.1f} s")
            time.sleep(pause_seconds)
        return exit_code

    def _read(self) -> dict[str, Any]:
        specification: dict[str, Any] = json.loads(self._path.read_text())
        return specification

    def _run_one(self) -> int:
        process = self._start()
        while True:
            exit_code = process.wait()
            if process is self._process:
                return exit_code
            assert self._process is not None
            process = self._process

    def _start(self) -> subprocess.Popen[bytes]:
        specification = self._specification
        environment, handed_on = dict(specification["environment"]), []
        if self._listener is not None:
            handed_on = [self._listener.fileno()]
            environment["TURNKEEPER_API_FD"] = str(self._listener.fileno())
        with Path(specification["log"]).open("ab") as log:
            self._process = process = subprocess.Popen(
                specification["command"],
                env=environment,
                pass_fds=handed_on,
                cwd=specification["folder"],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        if "local_json" in specification:
            write_json(Path(specification["local_json"]), {**specification["document"], "worker_pid": process.pid})
        if self._stopping:  # the signal came between the start and now
            process.terminate()
        return process

    def _note(self, message: str) -> None:
        sys.stdout.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} INFO [supervisor] {message}\n")
        sys.stdout.flush()


def main(arguments: list[str]) -> int:
    supervisor = Supervisor(Path(arguments[0]))
    signal.signal(signal.SIGTERM, supervisor.stop)
    signal.signal(signal.SIGINT, supervisor.stop)
    signal.signal(signal.SIGHUP, supervisor.replace)
    return supervisor.run()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
