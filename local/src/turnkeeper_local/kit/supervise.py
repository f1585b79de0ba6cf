"""Keeps one worker running, as ECS does in the cloud, and `local.json` naming the one that lives.

    python -m turnkeeper_local.kit.supervise SPECIFICATION

The specification is a JSON file: `{"command", "environment", "folder", "log", "local_json", "document"}`. `document` is
what `local.json` holds besides `worker_pid`. SIGHUP starts another worker, as the specification says by then, and lets
the one before hand its sessions on, as a deployment of the service does. SIGTERM ends the supervisor and hands its
worker the same signal; it waits for the worker to bring its sessions to a safe point, as long as whoever sent the
signal lets it.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import FrameType
from typing import Any

from turnkeeper_local.kit.home import write_json

_SOON_SECONDS = 5.0
"""A worker that lived shorter than this is not started again at once."""
_LONGEST_PAUSE_SECONDS = 5.0


class Supervisor:
    """One worker at a time, until told to stop."""

    def __init__(self, specification: Path) -> None:
        self._path = specification
        self._specification = self._read()
        self._worker: subprocess.Popen[bytes] | None = None
        self._stopping = False

    def stop(self, _number: int, _frame: FrameType | None) -> None:
        self._stopping = True
        if self._worker is not None and self._worker.poll() is None:
            self._worker.terminate()

    def replace(self, _number: int, _frame: FrameType | None) -> None:
        """Start a successor; whoever waits for a worker then waits for that one."""
        predecessor = self._worker
        if self._stopping or predecessor is None:
            return
        self._specification = self._read()
        self._start_worker()
        if predecessor.poll() is None:
            predecessor.terminate()

    def run(self) -> int:
        """Return the last worker's exit code, once told to stop."""
        pause_seconds = 0.1
        exit_code = 0
        while not self._stopping:
            began = time.monotonic()
            exit_code = self._run_worker()
            if self._stopping:
                break
            lived_seconds = time.monotonic() - began
            pause_seconds = 0.1 if lived_seconds > _SOON_SECONDS else min(pause_seconds * 2, _LONGEST_PAUSE_SECONDS)
            self._note(f"worker ended with {exit_code} after {lived_seconds:.1f} s; again in {pause_seconds:.1f} s")
            time.sleep(pause_seconds)
        return exit_code

    def _read(self) -> dict[str, Any]:
        specification: dict[str, Any] = json.loads(self._path.read_text())
        return specification

    def _run_worker(self) -> int:
        worker = self._start_worker()
        while True:
            exit_code = worker.wait()
            if worker is self._worker:
                return exit_code
            assert self._worker is not None
            worker = self._worker

    def _start_worker(self) -> subprocess.Popen[bytes]:
        specification = self._specification
        with Path(specification["log"]).open("ab") as log:
            self._worker = worker = subprocess.Popen(
                specification["command"],
                env=specification["environment"],
                cwd=specification["folder"],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        write_json(Path(specification["local_json"]), {**specification["document"], "worker_pid": worker.pid})
        if self._stopping:  # the signal came between the start and now
            worker.terminate()
        return worker

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
