"""`turnkeeper dev`, as somebody uses it who writes an agent."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.e2e.outside import Document, eventually, lines
from tests.support.forked import PROGRAM
from turnkeeper_local.kit import Home, LocalKit, down

pytestmark = [pytest.mark.stack, pytest.mark.long]

AGENT = '''
from turnkeeper import Agent, tool

@tool(effect="read")
def edition() -> str:
    """Which edition this is."""
    return "first"

agent = Agent(name="probe", system="You test.", model="claude-sonnet-5-5", tools=[edition])
'''
ASK = "[[tool edition {}]] [[say done]]"


class Dev:
    def __init__(self, folder: Path) -> None:
        self.file = folder / "more" / "probe" / "agent.py"
        self.file.parent.mkdir(parents=True)
        self.file.write_text(AGENT)
        self.home = Home(folder / "home")
        self.told = folder / "told"
        self.environment = {
            "PATH": os.environ["PATH"],
            "HOME": os.environ["HOME"],
            "TURNKEEPER_HOME": str(self.home.path),
        }
        more = {"TURNKEEPER_PORT": "0", "TURNKEEPER_AGENTS": str(folder / "more")}
        with self.told.open("wb") as told:
            self.process = subprocess.Popen(
                [PROGRAM, "dev", "--json"], env={**self.environment, **more}, stdout=told, stderr=subprocess.STDOUT
            )

    def event(self, kind: str, holds: Callable[[Document], Any] = lambda _: True) -> Document:
        """The first of this kind that holds."""

        def look() -> Document | None:
            events = [json.loads(line) for line in lines(self.told)]
            return next((event for event in events if event["event"] == kind and holds(event)), None)

        return eventually(look, f"dev tells {kind}", within_seconds=120)

    def edit(self, old: str, new: str) -> None:
        self.file.write_text(self.file.read_text().replace(old, new))

    def start(self, text: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen([PROGRAM, "run", "probe", text], env=self.environment, stdout=subprocess.PIPE)

    def known_at_stream_url(self) -> str:
        kit = LocalKit.read(self.home)
        assert kit is not None
        return httpx2.get(f"{kit.stream_url}/v1/agents", trust_env=False).text

    def answers(self) -> str:
        return said(self.start(ASK))


def said(run: subprocess.Popen[bytes]) -> str:
    """What a run printed, once it has ended well."""
    output, _ = run.communicate(timeout=60)
    assert run.returncode == 0, output
    return output.decode()


@pytest.fixture
def dev(tmp_path: Path) -> Iterator[Dev]:
    dev = Dev(tmp_path)
    try:
        yield dev
    finally:
        dev.process.kill()
        dev.process.wait()
        down(dev.home, forget=True)


def test_an_agent_is_edited_while_it_works(dev: Dev) -> None:
    dev.event("up")
    assert "first" in dev.answers()

    runs = dev.start("[[sleep 4]] [[tool edition {}]] [[say done]]")
    dev.event("log", lambda event: event["part"] == "api" and event.get("more", {}).get("call") == "createSession")
    dev.edit("first", "second")
    dev.event("live")
    assert "second" in dev.answers()
    assert "● done" in said(runs), "a turn that runs meanwhile ends"
    dev.edit('name="probe"', 'name="probe", formerly=["prober"]')
    eventually(lambda: "prober" in dev.known_at_stream_url(), "the front door that streams knows the edit, too")

    dev.edit("agent = Agent(", "import nothing_of_the_kind\nagent = Agent(")
    broken = dev.event("broken")
    assert f'File "{dev.file}", line 9' in broken["detail"]
    assert "No module named 'nothing_of_the_kind'" in broken["detail"]
    assert "catalog.py" not in broken["detail"], "only its own frames"
    assert "second" in dev.answers(), "what ran before still runs"

    dev.process.send_signal(signal.SIGINT)
    assert dev.process.wait(timeout=30) == 0
    kit = LocalKit.read(dev.home)
    assert kit is not None
    os.kill(kit.worker_pid, 0)

    shown = subprocess.run(
        [PROGRAM, "logs", "turn", "--json"], env=dev.environment, capture_output=True, text=True, check=True
    )
    entries = [json.loads(line) for line in shown.stdout.splitlines()]
    assert {entry["part"] for entry in entries} == {"turn"}
    assert [entry for entry in entries if entry["message"] == "the turn was run"]
