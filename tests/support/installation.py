"""A kit without AWS for tests: a database, the processes on it, and what must hold of its sessions in the end."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import httpx2

from tests.support.repository import REPOSITORY
from turnkeeper.bootstrap import Kit
from turnkeeper.core.errors import SessionNotFound
from turnkeeper.core.session import Head
from turnkeeper.runtime.jobs import session_id_of_job
from turnkeeper.settings import Settings

PATIENCE_SECONDS = 90.0
TENANT = "acme"
HEADERS = {"x-tenant-id": TENANT, "x-user-id": "ann", "x-user-role": "admin"}
SIGNING_KEY = "a signing key of the tests, long".replace(" ", "-")

AGENT = '''
import os
from turnkeeper import Agent, Limits, ToolContext, tool

@tool(effect="once")
def note(ctx: ToolContext, text: str) -> str:
    """Write a note into the world."""
    with open({notes!r}, "a") as file:
        file.write(f"{{ctx.session_id}} {{ctx.tool_use_id}} {{text}}\\n")
    return "noted"

limits = Limits(max_iterations=50)
agent = Agent(name="noter", model="claude-sonnet-5-5", system="You note.", tools=[note], limits=limits)
'''


def steps_of(count: int, *, seconds: float = 0.3) -> str:
    """A script of as many notes, and a last word: one step more."""
    notes = (f'[[sleep {seconds}]][[tool note {{"text": "{number}"}}]]' for number in range(count))
    return "".join(notes) + "[[say done]]"


@dataclass
class Installation:
    """A folder with an agent that writes notes, and a database."""

    folder: Path
    database_url: str
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.agents.mkdir(parents=True)
        (self.agents / "noter").mkdir()
        self.notes.touch()
        (self.agents / "noter" / "agent.py").write_text(AGENT.format(notes=str(self.notes)))
        self.signing_key.write_text(SIGNING_KEY)

    @property
    def agents(self) -> Path:
        return self.folder / "more-agents"

    @property
    def notes(self) -> Path:
        return self.folder / "notes"

    @property
    def signing_key(self) -> Path:
        return self.folder / "signing-key"

    # ---- processes ----

    def start(
        self,
        command: Sequence[str],
        environment: Mapping[str, str],
        *,
        name: str,
        cwd: Path = REPOSITORY,
        stdout: int | None = None,
    ) -> subprocess.Popen[bytes]:
        """A process with nothing around it but this environment; it is killed at the latest in the end. It writes into
        a log, unless ``stdout`` says otherwise."""
        with (self.folder / f"{name}-{len(self.processes)}.log").open("wb") as log:
            process = subprocess.Popen(
                list(command),
                cwd=cwd,
                env=dict(environment),
                stdin=subprocess.DEVNULL,
                stdout=log if stdout is None else stdout,
                stderr=log,
            )
        self.processes.append(process)
        return process

    def end(self) -> None:
        for process in self.processes:
            if process.poll() is None:
                process.kill()
            process.wait()

    def wait(self, holds: Callable[[], Any], what: str, seconds: float = PATIENCE_SECONDS) -> Any:
        until = time.monotonic() + seconds
        while not (found := holds()):
            if time.monotonic() > until:
                logs = "\n".join(
                    f"--- {path.name}\n{path.read_text()[-3000:]}" for path in sorted(self.folder.glob("**/*.log"))
                )
                raise AssertionError(f"not within {seconds} s: {what}\n{logs}")
            time.sleep(0.1)
        return found

    # ---- what is stored ----

    @cached_property
    def kit(self) -> Kit:
        """To look into the database with."""
        return Kit(
            Settings.from_environment(
                {
                    "TURNKEEPER_DATABASE_URL": self.database_url,
                    "TURNKEEPER_SIGNING_KEY_FILE": str(self.signing_key),
                    "TURNKEEPER_ROOT": str(REPOSITORY),
                }
            )
        )

    def job(self, job_id: str, text: str) -> str:
        """Onto the queue; the session's id."""
        body = {"schema": "turnkeeper.job/v1", "job_id": job_id, "tenant_id": TENANT, "user_id": "ann"}
        body |= {"role": "admin", "agent": "noter", "input": text}
        self.kit.queue.send(json.dumps(body), group=TENANT)
        return session_id_of_job(TENANT, job_id)

    def head(self, session_id: str) -> Head | None:
        try:
            return self.kit.sessions.head(TENANT, session_id)
        except SessionNotFound:
            return None

    def rests(self, *ids: str) -> bool:
        return all((head := self.head(session_id)) is not None and head.resting for session_id in ids)

    def noted(self) -> int:
        return len(self.notes.read_text().splitlines())

    def check(self, ids: Sequence[str], *, steps: int, notes: bool = True) -> None:
        """Every session complete and idle, every cent accounted for, no note written twice. ``notes``: each call of the
        tool is known to have been made, as it is where no process was killed in the midst of one."""
        spent = 0
        for session_id in ids:
            transcript = self.kit.sessions.load(TENANT, session_id)
            head, entries = transcript.head, transcript.entries
            assert (head.status, head.steps, head.account.pending, head.lease.owner) == ("idle", steps, None, None)
            assert [entry.seq for entry in entries] == list(range(1, head.last_seq + 1))
            assert sum(entry.cost_nanousd for entry in entries) == head.account.cost_nanousd
            spent += head.account.cost_nanousd
            ledger = self.kit.sessions.calls(TENANT, session_id)
            assert sum(int(call["spent_nanousd"]) for call in ledger) == head.account.cost_nanousd
            assert not [call for call in ledger if call["state"] == "pending"]
        states = self.kit.treasury.states(self.kit.tenants.terms(TENANT), "ann", [])
        assert {(state.spent, state.reserved) for state in states} == {(spent, 0)}
        noted = Counter(tuple(line.split()[:2]) for line in self.notes.read_text().splitlines())
        assert set(noted.values()) <= {1}, "a side effect occurred twice"
        if notes:
            assert len(noted) == len(ids) * (steps - 1)


def client(url: str) -> httpx2.Client:
    return httpx2.Client(base_url=url, headers=HEADERS, timeout=PATIENCE_SECONDS, trust_env=False)


def environment_here(**more: str) -> dict[str, str]:
    """What a process on this machine needs around it, whatever it is told."""
    kept = {name: os.environ[name] for name in ("PATH", "LANG", "HOME") if name in os.environ}
    paths = [str(REPOSITORY), *(str(REPOSITORY / part / "src") for part in ("shared", "local"))]
    return {**kept, "PYTHONPATH": os.pathsep.join(paths), "PYTHONUNBUFFERED": "1", **more}


PYTHON = sys.executable
