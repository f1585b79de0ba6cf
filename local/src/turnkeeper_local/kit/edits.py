"""Edits of agents, policy and the kit, made live on a kit that is up: checked first, then swapped in."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from turnkeeper_local.kit.errors import KitError
from turnkeeper_local.kit.home import Home
from turnkeeper_local.kit.kit import LocalKit, Progress, up, wanted_by
from turnkeeper_local.kit.live import build_code, make_live
from turnkeeper_local.kit.ministack import Ministack
from turnkeeper_local.kit.processes import clean_environment
from turnkeeper_local.kit.record import Record
from turnkeeper_local.kit.settings import KitSettings
from turnkeeper_local.kit.sources import code_roots, stamps
from turnkeeper_local.kit.worker import replace_worker
from turnkeeper_project import kit_source


class Broken(KitError):
    """What was edited would not run: nothing was deployed. The message says why, with file and line."""


@dataclass
class Edits:
    """Notices what was edited since it was last asked, by looking at times and sizes."""

    settings: KitSettings

    def __post_init__(self) -> None:
        self._seen = stamps(self.settings)

    def changed(self) -> list[Path]:
        """Files that were written, made or removed since."""
        before, now = self._seen, stamps(self.settings)
        self._seen = now
        return sorted(file for file in before.keys() | now.keys() if before.get(file) != now.get(file))


def make_edits_live(
    settings: KitSettings, changed: Sequence[Path], *, home: Home, progress: Progress = lambda _: None
) -> LocalKit:
    """Let the next turn run with the files as they are now.

    Code is swapped in the functions that are there, and a worker with it takes over; anything else, as settings of the
    stacks or dependencies, is deployed as `up` does.

    Raises:
        Broken: an agent cannot be loaded, or the policy not be read. What ran before still runs.
        KitError: it could not be deployed.
    """
    if not all(is_code(settings, file) for file in changed):
        check(settings)
        return up(settings, home=home, progress=progress)
    with ThreadPoolExecutor(max_workers=2) as pool, home.lock():
        bundled = pool.submit(build_code, settings)
        check(settings)
        record = Record.read(home)
        emulator, supervisor, process = record.emulator, record.process("worker"), record.process("ministack")
        alive = process is not None and supervisor is not None and process.alive() and supervisor.alive()
        kit = LocalKit.read(home)
        if alive and record.deployed is not None and emulator is not None and kit is not None:
            assert process is not None
            assert supervisor is not None
            wanted = wanted_by(settings)
            code = bundled.result()
            record.note(swapped=True, wanted=None)
            ministack = Ministack(str(emulator["endpoint_url"]), process)
            swapped = pool.submit(make_live, ministack, record.deployed["turn_function"], code)
            replace_worker(home, supervisor, first_port=settings.first_port)
            swapped.result()
            record.note(wanted=wanted)
            return LocalKit.read(home) or kit
    return up(settings, home=home, progress=progress)


def is_code(settings: KitSettings, file: Path) -> bool:
    """Whether a file is only what functions and worker run, so that it can be swapped."""
    return not file.name.startswith("requirements") and any(file.is_relative_to(root) for root in code_roots(settings))


def check(settings: KitSettings) -> None:
    """Load agents and policy in a process of its own, as a runner would.

    Raises:
        Broken: with the traceback of each agent that cannot be loaded, from the agent's own files on.
    """
    package = kit_source(settings.source_root).package.parent
    if not (package / "turnkeeper" / "preflight.py").exists() and not (package / "turnkeeper" / "preflight").exists():
        return  # a tree of tests that brings no kit along
    further = [part for part in settings.agents.split(os.pathsep) if part]
    done = subprocess.run(
        [sys.executable, "-m", "turnkeeper.preflight", str(settings.project), "anthropic", *further],
        check=False,
        capture_output=True,
        text=True,
        env=clean_environment({"PYTHONPATH": str(package), "PYTHONDONTWRITEBYTECODE": "1"}),
    )
    try:
        found = json.loads(done.stdout.splitlines()[-1])
    except (IndexError, ValueError):
        raise Broken(f"agents and policy could not be looked at:\n{done.stderr.strip()}") from None
    folders = [settings.project / "agents", *map(Path, further)]
    if found["problems"] or found["broken"]:
        told = own_frames(done.stderr, folders).strip() if found["broken"] else ""
        raise Broken("\n".join([*filter(None, [told]), *map(str, found["problems"])]))


def own_frames(text: str, folders: Sequence[Path]) -> str:
    """A traceback without the frames of files that are not in these folders."""
    kept: list[str] = []
    keep = True
    for line in text.splitlines():
        if frame := re.match(r'  File "(.*?)", line \d+', line):
            keep = any(Path(frame[1]).is_relative_to(folder) for folder in folders)
        elif not line.startswith("    "):
            keep = True
        if keep:
            kept.append(line)
    return "\n".join(kept)
