"""Processes that outlive the command which starts them, and that `down` finds again and ends.

A process is remembered by its id *and* its start time: ids are used again, and ending a stranger would be worse than
leaving an orphan. Each one leads a process group of its own, so that what it started (the emulator's Lambdas, the
supervisor's worker) ends with it.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

_OF_THE_MACHINE = frozenset(
    {
        *("PATH", "HOME", "USER", "LOGNAME", "LANG", "LANGUAGE", "TZ", "TMPDIR", "TMP", "TEMP", "LD_LIBRARY_PATH"),
        # How this machine reaches the network: without them Claude may be out of reach.
        *("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy"),
        *("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"),
    }
)
_OF_THE_MACHINE_PREFIX = "LC_"
_NOT_FOR_TOOLS_PREFIXES = ("AWS_", "ANTHROPIC_", "TURNKEEPER_", "CDK_", "PYTEST_", "COV_")
_NOT_FOR_TOOLS = frozenset({"PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "PYTHONDONTWRITEBYTECODE"})


@dataclass(frozen=True, slots=True)
class Started:
    """A process that was started here, and enough to recognize it later."""

    pid: int
    started: str

    @classmethod
    def of(cls, pid: int) -> Started:
        """The process that has this id now."""
        return cls(pid, _start_time(pid) or "gone")

    def alive(self) -> bool:
        return _start_time(self.pid) == self.started

    def end(self, grace_seconds: float) -> None:
        """Ask the process and its group to end; make them after `grace_seconds`. Ending it twice is fine."""
        if not self.alive():
            self._signal_group(signal.SIGKILL)  # its children may be left
            return
        if grace_seconds > 0:
            self._signal_group(signal.SIGTERM)
        deadline = time.monotonic() + grace_seconds
        while self.alive() and time.monotonic() < deadline:
            time.sleep(0.02)
        self._signal_group(signal.SIGKILL)
        while self.alive():
            time.sleep(0.02)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Started:
        return cls(pid=int(content["pid"]), started=str(content["started"]))

    def _signal_group(self, number: signal.Signals) -> None:
        # A dead leader's id is not given out again while its group lives; but once all are gone it may be, to a
        # stranger's group. So a group is only touched where its leader is ours, or gone.
        if _start_time(self.pid) not in {None, self.started}:
            return
        try:
            os.killpg(self.pid, number)
        except (ProcessLookupError, PermissionError):
            return


OnStart = Callable[[Started], None]
"""Told of a process as soon as there is one, before anybody waits for it."""


def spawn(
    command: Sequence[str | Path],
    *,
    environment: Mapping[str, str],
    log: Path,
    folder: Path,
    on_start: OnStart,
) -> tuple[Started, subprocess.Popen[bytes]]:
    """Start a process in a group and session of its own, writing to `log`; it survives its starter."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as output:
        process = subprocess.Popen(
            [str(part) for part in command],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=dict(environment),
            cwd=folder,
            start_new_session=True,
        )
    started = Started.of(process.pid)
    try:
        on_start(started)
    except BaseException:  # as where there is no room to write it down: nobody would ever find it
        started.end(0)
        raise
    return started, process


def clean_environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """What a part of the kit runs with: `extra`, and what describes the machine. Nothing else of this shell, as on
    Lambda: an agent that needs a variable has to be given it where it is deployed, too.
    """
    environment = {
        name: value
        for name, value in os.environ.items()
        if name in _OF_THE_MACHINE or name.startswith(_OF_THE_MACHINE_PREFIX)
    }
    return _direct_at_home(environment) | dict(extra or {})


def tool_environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """What the tools run with that install and deploy (uv, npm, the CDK): this shell's environment, with the settings
    that users have for them, without what would lead them astray: other accounts, keys, module paths.
    """
    environment = {
        name: value
        for name, value in os.environ.items()
        if name not in _NOT_FOR_TOOLS and not name.startswith(_NOT_FOR_TOOLS_PREFIXES)
    }
    return _direct_at_home(environment) | dict(extra or {})


def _direct_at_home(environment: dict[str, str]) -> dict[str, str]:
    """Loopback addresses never go through a proxy."""
    for name in ("NO_PROXY", "no_proxy"):
        environment[name] = ",".join(filter(None, [environment.get(name), "127.0.0.1", "localhost"]))
    return environment


def _start_time(pid: int) -> str | None:
    """When a process began, in whatever the system counts in; None for one that is gone or a zombie."""
    if sys.platform.startswith("linux"):
        try:
            # The name in parentheses may hold anything, spaces too: the fields are counted after it.
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            return None
        return None if fields[0] in "ZX" else fields[19]
    done = subprocess.run(["ps", "-o", "stat=,lstart=", "-p", str(pid)], check=False, capture_output=True, text=True)
    state, _, started = done.stdout.strip().partition(" ")
    return None if not state or state.startswith("Z") else started.strip()
