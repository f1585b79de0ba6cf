"""Asking what is wrong with a project before it is deployed, in a process of its own.

Agents are whatever their authors wrote. Looking at them means importing them, which neither the command line nor the
CDK app does itself: `turnkeeper.preflight` is asked, by this page only.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from turnkeeper_project.kit import kit_source

LOOKING_SECONDS = 120
_ONE_AGENTS = frozenset({"agent_broken", "model_not_on_bedrock", "model_without_price"})
"""Errors that are one agent's: the others can be deployed all the same."""
_HANDED_ON = ("HOME", "LANG", "LC_ALL", "PATH", "SSL_CERT_FILE", "SYSTEMROOT", "TMPDIR")
"""What an agent may find in its environment while it is looked at: no key and no setting of this shell, which the
Lambdas that import it do not have either."""


class NotAsked(Exception):
    """The project could not be looked at; the text says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that is wrong, as `turnkeeper.preflight` tells it."""

    code: str
    severity: Literal["error", "warning"]
    file: str
    line: int | None
    text: str
    hint: str
    agent: str | None = None
    detail: str | None = None

    @property
    def place(self) -> str:
        return self.file if self.line is None else f"{self.file}:{self.line}"

    def __str__(self) -> str:
        return f"{self.place}: {self.text}\n    {self.hint}"


@dataclass(frozen=True, slots=True)
class Answer:
    findings: tuple[Finding, ...]
    agents: tuple[Mapping[str, Any], ...]
    """Each agent that can be loaded, as `turnkeeper agents` shows it."""

    def errors(self, *, allow_broken: bool = False) -> list[Finding]:
        """What must not be deployed. What is wrong with one agent alone may be chosen to be put up with."""
        return [
            one for one in self.findings if one.severity == "error" and not (allow_broken and one.code in _ONE_AGENTS)
        ]

    def warnings(self, *, allow_broken: bool = False) -> list[Finding]:
        """What is told, and deployed all the same."""
        return [one for one in self.findings if one not in self.errors(allow_broken=allow_broken)]

    def refused(self, *, allow_broken: bool = False, how: str) -> str | None:
        """Why nothing is deployed, in a text for people; `how` says how to go on without what is broken."""
        errors = self.errors(allow_broken=allow_broken)
        if not errors:
            return None
        lines = [*map(str, errors)]
        if all(one.code in _ONE_AGENTS for one in errors):
            lines.append(
                f"To deploy the others, with {', '.join(sorted({str(one.agent) for one in errors}))} as it is: {how}"
            )
        return "\n".join(lines)


def ask(
    root: Path, *, provider: str = "anthropic", folders: Iterable[Path] = (), package: Path | None = None
) -> Answer:
    """Look at everything that is deployed from a project.

    Args:
        folders: further folders of agents.
        package: the folder of the package `turnkeeper` that judges, by default the installed one.

    Raises:
        NotAsked: the process that looks ended without an answer, or gave none in time.
    """
    command = ["turnkeeper.preflight", str(root), provider, *map(str, folders)]
    document = json.loads(run_module(command, package=package, seconds=LOOKING_SECONDS))
    return Answer(tuple(Finding(**one) for one in document["findings"]), tuple(document["agents"]))


def run_module(command: Sequence[str], *, package: Path | None = None, seconds: float) -> str:
    """What a module of the kit prints, run with nothing around it but Python.

    Raises:
        NotAsked: it failed, or took too long; with the end of what it said.
    """
    paths = [str((package or kit_source().package).parent), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {name: os.environ[name] for name in _HANDED_ON if name in os.environ}
    environment |= {"PYTHONPATH": os.pathsep.join(paths), "PYTHONDONTWRITEBYTECODE": "1", "PYTHONUTF8": "1"}
    # -P: what happens to stand in the working directory is not there where agents run.
    whole = [sys.executable, "-P", "-m", *command]
    try:
        done = subprocess.run(  # noqa: S603 - our own module
            whole,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=seconds,
        )
    except subprocess.TimeoutExpired:
        raise NotAsked(
            f"the agents could not be looked at within {seconds:g} s: one of them waits for something when imported"
        ) from None
    if done.returncode or not done.stdout:
        said = "\n".join(done.stderr.strip().splitlines()[-25:])
        raise NotAsked(
            f"the agents could not be looked at: what imports them ended with {done.returncode}\n{said}".rstrip()
        )
    return done.stdout
